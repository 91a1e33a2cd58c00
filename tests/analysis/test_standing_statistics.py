"""Standing statistics of BatchNorm."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ganframe import DataSpec, RequestError, load_generator
from ganframe.analysis.trained import TrainedGenerator
from ganframe.recipes.tables import Prior


class Network(nn.Module):
    """BatchNorm of dropped out latents, and a layer with a state of its own."""

    truncates_latent = True

    def __init__(self):
        super().__init__()
        self.dropout, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(2, momentum=0.3)
        self.last = spectral_norm(nn.Linear(2, 2))

    def forward(self, z, y):
        return self.last(self.norm(3 + 2 * self.dropout(z) + y[:, None]))


def generator(network=None, classes=None):
    return TrainedGenerator(network or Network(), DataSpec((2,), classes=classes), Prior(dim=2))


def test_statistics_are_the_means_of_those_of_the_batches():
    G = generator()
    found = G.with_standing_statistics(5, batch_size=20).network.norm
    batches = [3 + 2 * G.latents(20, seed)[0].numpy() for seed in range(64, 69)]  # without dropout, as in sampling
    np.testing.assert_allclose(found.running_mean, np.mean([x.mean(0) for x in batches], 0), rtol=1e-5)
    np.testing.assert_allclose(found.running_var, np.mean([x.var(0, ddof=1) for x in batches], 0), rtol=1e-5)
    assert found.num_batches_tracked == 5
    assert found.momentum == 0.3
    assert not any(module.training for module in G.with_standing_statistics(2).modules())


def test_nothing_else_changes_and_the_generator_is_as_before():
    G = generator()
    before = {name: value.clone() for name, value in G.state_dict().items()}
    random = torch.get_rng_state()
    found = G.with_standing_statistics(3).state_dict()
    assert torch.equal(torch.get_rng_state(), random)
    changed = {name for name in before if not torch.equal(before[name], found[name])}
    assert changed == {f"network.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert all(torch.equal(before[name], value) for name, value in G.state_dict().items())


def test_labels_are_those_of_samples():
    found = generator(classes=3).with_standing_statistics(200).network.norm.running_mean
    torch.testing.assert_close(found, torch.full((2,), 4.0), rtol=0, atol=0.15)  # 3 + the mean label


def test_statistics_are_those_of_truncated_latents():
    G = generator()
    narrow, wide = (g.with_standing_statistics(20) for g in (G.truncated(0.5), G))
    narrow, wide = narrow.network.whole.norm.running_var, wide.network.norm.running_var
    assert (narrow < 0.1 * wide).all()  # the variance of N(0, 1) within ±0.5 is 0.08
    spread = G.truncated(0.5).with_standing_statistics(50).sample(2000).std(0)
    assert (spread > 1.5 * G.truncated(0.5).sample(2000).std(0)).all()


def test_generator_without_batch_norm_is_refused():
    for network in (nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))):
        with pytest.raises(RequestError, match="those of BatchNorm, and this generator has none; leave them out"):
            generator(network).with_standing_statistics(3)


def test_sample_and_evaluate_take_them(call, tiny):
    networks = ("--set", "generator={use='mlp', hidden=[8], batch_norm=true}")
    call("run", tiny(), *networks, "--out", "run")
    expected = load_generator("run").with_standing_statistics(4).sample(5)
    call("sample", "run", "-n", 5, "--standing-statistics", 4, "--out", "x.npy")
    torch.testing.assert_close(torch.from_numpy(np.load("x.npy")), expected)
    assert "seed-0-standing-statistics-4.png" in call("sample", "run", "--standing-statistics", 4).stdout
    (score,) = json.loads(call("evaluate", "run", "--samples", 100, "--standing-statistics", 4, "--json").stdout)
    assert score["protocol"]["standing_statistics"] == {"batches": 4, "batch_size": 64}
    printed = call("evaluate", "run", "--samples", 100, "--standing-statistics", 4).stdout
    assert "standing statistics of 4 batches of 64" in printed
    call("run", tiny(), "--out", "plain")
    for command in ("sample", "evaluate"):
        told = call(command, "plain", "--standing-statistics", 2, code=2).stderr
        assert "this generator has none" in told
        assert told.count("\n") == 1
