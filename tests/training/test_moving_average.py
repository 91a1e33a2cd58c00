"""The exponential moving average of the generator's weights: its decay, its warm-up, its buffers."""

import attrs
import pytest
import torch
from torch import nn

import ganframe
from ganframe import Generator, load_recipe
from ganframe.engine.algorithm import train
from ganframe.engine.timing import Ramp
from ganframe.training.moving_average import average_into, decay_at, moving_average
from ganframe.training.prepare import prepare


@pytest.mark.parametrize(
    ("decay", "warmup", "decays"),
    [
        (0.999, 10, [3 / 12, 4 / 13, 5 / 14]),
        (0.25, 10, [0.25, 0.25, 0.25]),
        (0.999, 100, [3 / 102, 4 / 103, 5 / 104]),
        (0.75, 1, [0.75] * 3),
        (0.75, 0, [0.75] * 3),
    ],
)
def test_moving_average_warms_up_its_decay(state, decay, warmup, decays):
    """a ← d a + (1 - d) w with d = min(decay, (1 + t) / (warmup + t)). The first average is the network itself."""
    averaged = moving_average(state.G.network)
    state.G.optimizer.param_groups[0]["lr"] = 20.0
    seen = []

    def note(state):
        seen.append([p.detach().double().clone() for p in state.G.network.parameters()])

    state.moving_average = average_into(averaged, decay, warmup)
    train(state, 4, 1, [note])
    expected = seen[0]
    for d, weights in zip(decays, seen[1:], strict=True):
        expected = [d * a + (1 - d) * w for a, w in zip(expected, weights, strict=True)]
    for got, one in zip(averaged.module.parameters(), expected, strict=True):
        torch.testing.assert_close(got.double(), one, rtol=1e-5, atol=1e-6)
    moved = [(a - w).abs().max() for a, w in zip(expected, seen[-1], strict=True)]
    assert max(moved) > 0.01  # the network changed, so that the average differs from it


@pytest.mark.parametrize(("warmup", "full"), [(0, True), (1, True), (10, False)])
def test_recipe_option_ema_warmup(tiny, tmp_path, warmup, full):
    """With the full decay of 0.999 from the start, six steps hardly change the first average."""
    overrides = ["train.ema=0.999", f"train.ema_warmup={warmup}", "optimizer.generator={use='SGD', lr=1.0}"]
    seen = []

    def note(state):
        seen.append([p.detach().clone() for p in state.G.network.parameters()])

    run = ganframe.run(ganframe.load_recipe(tiny(), overrides), tmp_path / "run", callbacks=[note])
    averaged = list(ganframe.load_generator(run.folder).parameters())
    change = sum((now - first).abs().sum() for first, now in zip(seen[0], seen[-1], strict=True))
    share = sum((a - first).abs().sum() for first, a in zip(seen[0], averaged, strict=True)) / change
    assert (share.item() < 0.01) is full


def test_batch_norm_statistics_are_averaged_and_counts_copied(state):
    averaged = moving_average(state.G.network)
    state.moving_average = average_into(averaged, 0.999, 10)
    live = dict(state.G.network.named_buffers())
    expected: dict[str, torch.Tensor] = {}

    def follow(state):
        decay = min(0.999, (1 + state.step) / (10 + state.step))
        for name, buffer in live.items():
            if not buffer.is_floating_point() or name not in expected:
                expected[name] = buffer.clone()
            else:
                expected[name].lerp_(buffer, 1 - decay)

    train(state, 3, 2, [follow])
    kept = dict(averaged.module.named_buffers())
    assert kept.keys() == live.keys()
    for name, buffer in kept.items():
        torch.testing.assert_close(buffer, expected[name])
    assert live["norms.0.norm.num_batches_tracked"] == 9  # 3 steps, each of 2 discriminator steps and a generator step
    assert live["norms.0.norm.running_mean"].abs().max() > 0


def test_moving_average_is_a_frozen_copy_in_evaluation_mode(state):
    averaged = moving_average(state.G.network)
    state.moving_average = average_into(averaged, 0.9, 10)
    train(state, 2, 1)
    assert not any(module.training for module in averaged.modules())
    assert not any(p.requires_grad for p in averaged.parameters())
    assert state.G.network.training
    assert all(p.requires_grad for p in state.G.network.parameters())
    own = {p.data_ptr() for p in state.G.network.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in averaged.parameters())


def test_decay_of_a_ramp_is_that_of_the_step():
    ramp = Ramp(0.5, 0.9, 4)
    assert [decay_at(ramp, step) for step in (0, 2, 4, 9)] == pytest.approx([0.5, 0.7, 0.9, 0.9])
    assert decay_at(0.99, 3) == 0.99


def test_average_with_a_ramp_follows_its_formula(tiny):
    overrides = ["train.ema={from=0.2, to=0.8, steps=4}", "train.ema_warmup=0"]
    trainer = prepare(load_recipe(tiny(), overrides))
    expected = [p.detach().clone() for p in trainer.state.G.network.parameters()]

    def follow(state):
        for mean, weight in zip(expected, state.G.network.parameters(), strict=True):
            mean.lerp_(weight.detach(), 1 - trainer.recipe.train.ema.at(state.step) if state.step > 1 else 1.0)

    train(trainer.state, 6, 1, [follow])
    for mean, weight in zip(expected, trainer.averaged.module.parameters(), strict=True):
        assert torch.allclose(mean, weight, atol=1e-6)


@pytest.mark.parametrize("normalise", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*deprecated:FutureWarning")
def test_averaged_weights_under_spectral_normalisation_have_norm_1(state, normalise):
    """The vectors of the power iteration turn while a network trains, and an average of them is too short."""
    for layer in state.G.network.modules():
        if isinstance(layer, torch.nn.Linear):
            normalise(layer)
    G = state.G.network
    averaged = moving_average(G)
    average = average_into(averaged, 0.9, 0)
    for step in range(60):
        state.step = step
        with torch.no_grad():
            for name, parameter in G.named_parameters():
                if name.endswith(("original", "weight_orig")):
                    parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter))
        G(torch.randn(8, 3), torch.zeros(8, dtype=torch.long))
        average(state)
    averaged.module(torch.randn(8, 3), torch.zeros(8, dtype=torch.long))  # the older one computes weights there
    sigmas = [
        torch.linalg.matrix_norm(layer.weight, 2).item()
        for layer in averaged.module.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    assert sigmas
    assert 0.8 < min(sigmas) < max(sigmas) < 1.2


class Stepping(nn.Module):
    """Makes samples of the value of the training step."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("training_step", torch.zeros((), dtype=torch.long))

    def forward(self, z, y):
        return self.scale * (self.training_step + 0 * z[:, :1]).unflatten(1, (1, 1, 1)).expand(-1, 1, 8, 8)


@attrs.frozen
class Given(Generator):
    network: nn.Module

    def build(self, data, latent_dim):
        return self.network


def test_network_and_its_average_find_the_step_in_their_buffer(make_recipe):
    """The network that of each step, the average that of the last one. Other networks have none to fill."""
    G, seen = Stepping(), []
    trainer = prepare(attrs.evolve(make_recipe(train={"steps": 7, "ema": 0.9}), generator=Given(G)))
    trainer.state.G.network.register_forward_pre_hook(lambda network, _: seen.append(network.training_step.item()))
    trainer.state.moving_average = average_into(trainer.averaged, 0.9, 1)
    train(trainer.state, 7, 2)
    assert seen == [step for step in range(7) for _ in range(3)]  # for two updates of D, and one of G
    assert trainer.averaged.module.training_step.item() == 6
    assert not prepare(make_recipe()).state.step_buffers


def test_moving_average_follows_a_buffer_that_the_network_replaces(state):
    """A network may give a buffer a new tensor at each step, and so may what loads weights with `assign`."""
    network = state.G.network
    network.register_buffer("seen", torch.zeros(()))
    averaged = moving_average(network)
    state.moving_average = average_into(averaged, 0.5, 0)

    def replace(state):
        state.G.network.seen = torch.tensor(float(state.step))

    train(state, 4, 1, [replace])
    # 0 after the first step; then ½ 0 + ½ 1, ½ ½ + ½ 2, ½ 1.25 + ½ 3: callbacks come after the average.
    assert averaged.module.seen.item() == 2.125
