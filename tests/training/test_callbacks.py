"""Callbacks between steps: when they are due, schedules, pictures."""

import warnings

import attrs
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, StepLR
from torch.utils.data import TensorDataset

import ganframe
from ganframe import DataSpec
from ganframe.engine.algorithm import train
from ganframe.report import pictures
from ganframe.training import callbacks
from ganframe.training.prepare import prepare


@pytest.mark.parametrize(
    ("n", "last", "due"),
    [(3, 10, [3, 6, 9, 10]), (5, 10, [5, 10]), (1, 3, [1, 2, 3]), (100, 7, [7]), (4, 6, [4, 6])],
)
def test_every_acts_at_each_multiple_and_once_at_the_last_step(state, n, last, due):
    acted = []
    train(state, last, 1, [callbacks.every(n, last, lambda state: acted.append(state.step))])
    assert acted == due


def test_every_acts_at_the_same_steps_after_a_resume(state):
    acted = []
    state.step = 4
    train(state, 10, 1, [callbacks.every(3, 10, lambda state: acted.append(state.step))])
    assert acted == [6, 9, 10]


def test_player_that_makes_no_step_has_a_schedule_without_a_warning():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    act = callbacks.advance([StepLR(optimizer, 1, gamma=0.5)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            act(None)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_schedules_advance_once_per_generator_step(state):
    decay = StepLR(state.G.optimizer, step_size=2, gamma=0.1)
    linear = LambdaLR(state.D.optimizer, lambda step: 1 - step / 10)
    rates = []

    def note(state):
        rates.append((state.G.optimizer.param_groups[0]["lr"], state.D.optimizer.param_groups[0]["lr"]))

    train(state, 4, 3, [callbacks.advance(iter([decay, linear])), note])  # 3 discriminator steps count as one
    assert rates == [pytest.approx(r) for r in [(0.5, 0.45), (0.05, 0.4), (0.05, 0.35), (0.005, 0.3)]]


def test_run_and_resume_call_custom_callbacks_after_each_step(tiny, tmp_path):
    seen, resumed = [], []
    recipe = ganframe.load_recipe(tiny())
    run = ganframe.run(recipe, tmp_path / "run", callbacks=[lambda state: seen.append((state.step, state.G.network))])
    steps = recipe.train.steps
    assert [step for step, _ in seen] == list(range(1, steps + 1))
    assert len({id(network) for _, network in seen}) == 1
    longer = [f"train.steps={steps + 2}"]
    ganframe.resume(run.folder, longer, callbacks=[lambda state: resumed.append(state.step)])
    assert resumed == [steps + 1, steps + 2]


# ------------------------------------------------------------------------------------------------------------- pictures


def drawing(network, folder):
    z, y, real = torch.randn(30, 3), torch.arange(30) % 8, torch.randn(30, 2)
    draw = callbacks.draw_samples(network, DataSpec((2,), 8), z, y, real, lambda step: folder / f"{step}.png")
    return draw, z, y, real


def test_drawing_restores_modes_and_changes_neither_networks_nor_random_state(state, tmp_path):
    train(state, 2, 1)
    G, D = state.G.network, state.D.network
    before = [{k: v.clone() for k, v in n.state_dict().items()} for n in (G, D)]
    draw, *_ = drawing(G, tmp_path)
    random_state = torch.get_rng_state()
    for g_training, d_training in ((True, True), (False, True), (True, False), (False, False)):
        G.train(g_training)
        D.train(d_training)
        draw(state)
        assert {module.training for module in G.modules()} == {g_training}
        assert {module.training for module in D.modules()} == {d_training}
    assert torch.equal(torch.get_rng_state(), random_state)
    assert (tmp_path / "2.png").exists()
    for network, stored in zip((G, D), before, strict=True):
        assert all(torch.equal(v, stored[k]) for k, v in network.state_dict().items())


def test_discriminator_that_mixes_groups_is_not_drawn_at_points(state, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(callbacks.pictures, "draw", lambda *args, **others: drawn.append(args[4]))
    draw, *_ = drawing(state.G.network, tmp_path)
    draw(state)
    state.D.network.mixes_groups_of = 3  # of the 6,400 points of a picture one would be left
    draw(state)
    assert callable(drawn[0])
    assert drawn[1] is None


def test_samples_and_scores_are_drawn_in_evaluation_mode(state, tmp_path, monkeypatch):
    train(state, 2, 1)
    seen = {}

    def note(file, spec, fake, real, scores, **others):
        seen.update(file=file, fake=fake, real=real, scores=scores(real), grad=torch.is_grad_enabled())

    monkeypatch.setattr(pictures, "draw", note)
    G, D = state.G.network, state.D.network
    draw, z, y, real = drawing(G, tmp_path)
    draw(state)
    G.eval()
    D.eval()
    assert seen["file"] == tmp_path / "2.png"
    assert torch.equal(seen["fake"], G(z, y))
    assert torch.equal(seen["scores"], D(real, torch.zeros(30, dtype=torch.long)))
    assert torch.equal(seen["real"], real)
    assert not seen["grad"]


def test_modes_are_restored_where_drawing_raises(state, tmp_path):
    """From Python, a full disk is an exception after which a script may continue to train."""
    draw, *_ = drawing(state.G.network, tmp_path / "nowhere")
    with pytest.raises(OSError, match="nowhere"):
        draw(state)
    assert state.G.network.training
    assert state.D.network.training


@attrs.frozen
class Noise(ganframe.Dataset):
    """Images, volumes or points of noise."""

    spec: DataSpec

    def build(self):
        return TensorDataset(torch.rand(30, *self.spec.shape), self.spec.blank(30))


@pytest.mark.parametrize(("accumulate", "part"), [(1, 8), (4, 2)])
@pytest.mark.parametrize("shape", [(1,), (2,), (3, 8, 8), (1, 16, 16, 16)])
def test_pictures_call_networks_for_no_more_samples_than_training_does(make_recipe, tmp_path, shape, accumulate, part):
    """G, and D on the line and in the plane."""
    recipe = make_recipe(train={"steps": 1, "batch_size": 8, "accumulate": accumulate})
    trainer = prepare(attrs.evolve(recipe, dataset=Noise(DataSpec(shape))))
    sizes = []
    hook = nn.modules.module.register_module_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    try:
        callbacks.draw_pictures(trainer, lambda step: tmp_path / "picture.png")(trainer.state)
    finally:
        hook.remove()
    assert max(sizes) == part
    assert (tmp_path / "picture.png").exists()


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        (DataSpec((2,)), 2000),
        (DataSpec((1, 32, 32, 32)), 128),
        (DataSpec((1, 128, 128, 128)), 16),
        (DataSpec((100_000,)), 41),
        (DataSpec((1, 64, 64)), 64),
        (DataSpec((3, 512, 512)), 36),
        (DataSpec((1, 2048, 8)), 4),
        (DataSpec((1, 64, 64), classes=10), 100),
        (DataSpec((1, 64, 64), classes=3), 36),  # in six columns, two of each class
        (DataSpec((1, 64, 64), classes=5), 25),
        (DataSpec((1, 64, 64), classes=100), 64),
        (DataSpec((1, 1024, 1024), classes=10), 9),
        (DataSpec((1, 64, 64), condition=(1, 64, 64)), 24),
        (DataSpec((1, 2048, 8), condition=(1, 64, 64)), 4),
    ],
)
def test_fewer_samples_are_drawn_where_they_are_large(spec, shown):
    assert callbacks.number_shown(spec) == shown
