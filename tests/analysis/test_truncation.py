"""Truncation of latents: in w around its mean, and in z by the truncated normal distribution."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from ganframe import DataSpec, RequestError, load_generator
from ganframe.analysis.interpolation import find_paths
from ganframe.analysis.spaces import in_space
from ganframe.analysis.trained import TrainedGenerator
from ganframe.analysis.truncation import MeanW, truncated_normal
from ganframe.recipes.tables import Prior


class WithW(nn.Module):
    """G with w = tanh(A z) + B y, x = C w + D y. Counts the latents that it maps."""

    def __init__(self, dim=3, classes=1, condition=None, w=(4,)):
        super().__init__()
        self.first, self.last = nn.Linear(dim, math.prod(w)), nn.Linear(math.prod(w), 2)
        inner = condition[0] if condition else classes
        self.in_map, self.in_synthesis = nn.Linear(inner, math.prod(w)), nn.Linear(inner, 2)
        self.classes, self.w, self.mapped = None if condition else classes, w, 0

    def _y(self, y):
        return y if self.classes is None else nn.functional.one_hot(y, self.classes).float()

    def map(self, z, y):
        self.mapped += len(z)
        return (self.first(z).tanh() + self.in_map(self._y(y))).unflatten(1, self.w)

    def synthesize(self, w, y):
        if w.ndim > len(self.w) + 1:  # one for each of some layers
            w = w.mean(1)
        return self.last(w.flatten(1)) + self.in_synthesis(self._y(y))

    def forward(self, z, y):
        return self.synthesize(self.map(z, y), y)


class Echo(nn.Module):
    """The sample is the latent, and latents are declared to be truncated."""

    truncates_latent = True

    def forward(self, z, y):
        return z


def of_w(classes=None, condition=None, w=(4,), distribution="normal"):
    torch.manual_seed(0)
    spec = DataSpec((2,), classes=classes, condition=condition)
    network = WithW(classes=classes or 1, condition=condition, w=w)
    kept = torch.randn(3, *condition) if condition else None
    return TrainedGenerator(network, spec, Prior(dim=3, distribution=distribution), conditions=kept)


def echo(distribution="normal"):
    return TrainedGenerator(Echo(), DataSpec((2,)), Prior(dim=2, distribution=distribution))


# --------------------------------------------------------------------------------------------------------------- in w


@pytest.mark.parametrize("w", [(4,), (3, 2)])
def test_truncated_samples_are_those_of_the_formula(w):
    G = of_w(classes=3, w=w)
    z, y = G.latents(64)
    mean = G._mean_w(y)
    for psi in (0.3, 0.7, 1.6):
        with torch.no_grad():
            expected = G.network.synthesize(mean + psi * (G.network.map(z, y) - mean), y)
        torch.testing.assert_close(G.truncated(psi).decode(z, y), expected)
        torch.testing.assert_close(G.sample(64, truncation=psi), expected)


def test_mean_is_that_of_w_of_each_class():
    G = of_w(classes=3)
    z = torch.randn(100_000, 3)
    for label in (0, 2):
        y = torch.full((len(z),), label)
        exact = G.network.map(z, y).mean(0)
        torch.testing.assert_close(G._mean_w(y[:1])[0], exact, rtol=0, atol=5 * 0.7 / 4096**0.5)
    means = G._mean_w(torch.tensor([2, 0, 2, 1]))
    assert torch.equal(means[0], means[2])
    assert not torch.equal(means[0], means[1])


def test_means_of_classes_are_computed_once_and_of_those_that_are_asked_for():
    G = of_w(classes=3)
    G.truncated(0.5).decode(torch.randn(5, 3), torch.tensor([1, 1, 2, 1, 2]))
    before = G.network.mapped
    G.sample(7, y=2, truncation=0.2)
    assert G.network.mapped == before + 7
    G.sample(7, y=0, truncation=0.2)
    assert G.network.mapped == before + 7 + 7 + 4096


def test_means_of_conditions_are_those_of_each():
    G = of_w(condition=(2,))
    y = torch.randn(6, 2)[[0, 1, 0, 2, 3, 4]]
    means = G._mean_w(y)
    z = torch.randn(100_000, 3)
    for i in (0, 1, 4):
        exact = G.network.map(z, y[i].expand(len(z), 2)).mean(0)
        torch.testing.assert_close(means[i], exact, rtol=0, atol=5 * 0.7 / 256**0.5)
    z = G.latents(6)[0]
    together = G.truncated(0.5).decode(z, y)
    alone = torch.cat([G.truncated(0.5).decode(z[i : i + 1], y[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone)


def test_truncation_1_in_w_is_exactly_the_plain_sample():
    G = of_w(classes=3)
    assert torch.equal(G.sample(50, truncation=1), G.sample(50))
    assert G.truncated(1.0).network is G.network


@pytest.mark.parametrize("classes", [None, 3])
def test_no_samples_can_be_truncated(classes):
    assert of_w(classes).sample(0, truncation=0.5).shape == (0, 2)


def test_truncation_0_in_w_leaves_one_sample_of_each_class():
    G = of_w(classes=3)
    x, (_, y) = G.sample(60, truncation=0), G.latents(60)
    for label in range(3):
        of_class = x[y == label]
        assert len(of_class) > 5
        assert torch.equal(of_class, of_class[:1].expand_as(of_class))
    assert len(x.unique(dim=0)) == 3


def test_smaller_truncation_in_w_varies_less():
    G = of_w()
    spreads = [G.sample(500, truncation=psi).std(0).mean().item() for psi in (0, 0.3, 1, 1.5)]
    # Synthesis is linear.
    assert spreads == pytest.approx([0, 0.3 * spreads[2], spreads[2], 1.5 * spreads[2]], abs=1e-5)


def test_w_of_each_layer_is_truncated_to_the_mean_of_all():
    G = of_w()
    w, y = torch.randn(5, 7, 4), torch.zeros(5, dtype=torch.long)
    with torch.no_grad():
        mean = G._mean_w(y)[:, None]
        expected = G.network.synthesize(mean + 0.4 * (w - mean), y)
        torch.testing.assert_close(G.truncated(0.4).network.synthesize(w, y), expected)


def test_truncation_twice_is_the_last_one():
    G = of_w()
    torch.testing.assert_close(G.truncated(0.2).truncated(0.8).sample(9), G.sample(9, truncation=0.8))


def test_truncated_generator_keeps_its_conditions_and_heeds_them():
    G = of_w(condition=(2,)).truncated(0.5)
    assert G.heeds_y
    assert G.conditions is not None
    assert not torch.equal(*G.sample(2, y=torch.randn(2, 2)))
    assert G.with_conditions(torch.ones(1, 2)).sample(3).shape == (3, 2)
    assert of_w(classes=3).truncated(0.0).heeds_y


def test_interpolation_in_w_of_a_truncated_generator_is_a_line_of_truncated_w():
    G = of_w(classes=3)
    z, y = G.latents(64)
    paths = find_paths(G.truncated(0.5), [("3", "5")], steps=3, space="w")
    with torch.no_grad():
        label = y[3:4]
        a, b = G.network.map(z[3:4], label), G.network.map(z[5:6], y[5:6])
        mean = G._mean_w(label)
        expected = torch.cat([G.network.synthesize(mean + 0.5 * (w - mean), label) for w in (a, (a + b) / 2, b)])
    torch.testing.assert_close(paths.samples()[0], expected)
    of_both = in_space(G, "w").truncated(0.5)
    torch.testing.assert_close(of_both.sample(8), G.sample(8, truncation=0.5))
    torch.testing.assert_close(of_both.decode(*of_both.latents(8)), G.sample(8, truncation=0.5))


def test_mean_of_w_is_that_of_the_prior():
    uniform, normal = (of_w(distribution=distribution) for distribution in ("uniform", "normal"))
    assert uniform._mean_w.z.abs().max() < 3**0.5 + 1e-6 < normal._mean_w.z.abs().max()


def test_mean_is_not_moved_by_torchs_random_state():
    G, y = of_w(), torch.zeros(1, dtype=torch.long)
    first = MeanW(G.network, G.spec, G.prior)(y)
    torch.manual_seed(17)
    state = torch.get_rng_state()
    assert torch.equal(MeanW(G.network, G.spec, G.prior)(y), first)
    assert torch.equal(torch.get_rng_state(), state)


# --------------------------------------------------------------------------------------------------------------- in z


def test_truncated_latents_are_the_quantiles_of_the_truncated_normal():
    z = torch.randn(5000, dtype=torch.float64)
    for limit in (0.02, 0.5, 1.0, 2.0, 5.0):
        expected = stats.truncnorm.ppf(stats.norm.cdf(z.numpy()), -limit, limit)
        np.testing.assert_allclose(truncated_normal(z, limit).numpy(), expected, rtol=1e-6, atol=1e-9)


def test_truncated_latents_have_the_distribution_of_values_drawn_again():
    limit, z = 0.8, torch.randn(200_000)
    again = torch.randn(600_000)
    again = again[again.abs() <= limit]
    found = truncated_normal(z, limit)
    assert stats.ks_2samp(found.numpy(), again.numpy()).pvalue > 1e-3
    assert found.abs().max() <= limit


@pytest.mark.parametrize("limit", [1e-300, 1e-30, 1e-3, 0.5, 6.0, 40.0, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_truncated_latents_are_finite_ordered_and_inside_for_any_limit(limit, dtype):
    z = torch.tensor([-1e30, -50, -9, -6, -1, -1e-20, 0, 1e-20, 1, 6, 9, 50, 1e30], dtype=dtype)
    found = truncated_normal(z, limit)
    assert found.isfinite().all()
    assert found.dtype == dtype
    assert (found.diff() >= 0).all()
    assert (found.abs().double() <= z.abs().double() + 1e-12).all()
    assert found.abs().max() <= limit
    torch.testing.assert_close(found, -found.flip(0))


def test_truncation_far_out_leaves_latents_as_they_are():
    z = torch.randn(10_000)
    torch.testing.assert_close(truncated_normal(z, 40.0), z)


def test_samples_move_continuously_with_the_truncation():
    G = echo()
    last = G.sample(100, truncation=0.5)
    for psi in np.linspace(0.5, 3, 60)[1:]:
        now = G.sample(100, truncation=float(psi))
        assert 0 < (now - last).abs().max() < 0.05
        last = now
    assert (G.sample(100) - last).abs().max() < 0.5


def test_declared_network_gets_truncated_latents():
    G = echo()
    torch.testing.assert_close(G.sample(30, seed=2, truncation=0.5), truncated_normal(G.latents(30, 2)[0], 0.5))
    assert G.truncated(0.5).sample(1000).abs().max() <= 0.5
    assert not torch.equal(G.sample(9, truncation=1), G.sample(9))  # 1 is a truncation here


# ------------------------------------------------------------------------------------------------------------ refused


def test_networks_and_numbers_that_have_no_truncation_are_refused():
    plain = TrainedGenerator(nn.Linear(2, 2), DataSpec((2,)), Prior(dim=2))
    for G, psi, message in (
        (plain, 0.5, r"truncation 0\.5: this generator offers none: its network has no map\(z, y\)"),
        (echo("uniform"), 0.5, "of a normal prior, and its prior is uniform"),
        (echo(), 0.0, "give a number above 0"),
        (of_w(), -0.1, "a number from 0 up"),
        (of_w(), math.nan, "a number from 0 up"),
        (echo(), math.inf, "a number from 0 up"),
    ):
        with pytest.raises(RequestError, match=message) as refused:
            G.sample(2, truncation=psi)
        assert "\n" not in str(refused.value)


# ------------------------------------------------------------------------------------------------------- command line

PLUGIN = """
import attrs
from torch import nn
from ganframe import Generator, hookimpl

class Network(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.first, self.last = nn.Linear(dim, 4), nn.Linear(4, 2)

    def map(self, z, y):
        return 3 + self.first(z).tanh()

    def synthesize(self, w, y):
        return self.last(w)

    def forward(self, z, y):
        return self.synthesize(self.map(z, y), y)

class Truncating(nn.Linear):
    truncates_latent = True

    def forward(self, z, y):
        return super().forward(z)

class Normed(Truncating):
    def __init__(self, dim):
        super().__init__(dim, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, z, y):
        return self.norm(super().forward(z, y))

@attrs.frozen
class WithW(Generator):
    "A generator with latents w."
    def build(self, data, latent_dim):
        return Network(latent_dim)

@attrs.frozen
class OfZ(Generator):
    "A generator that truncates z."
    def build(self, data, latent_dim):
        return Normed(latent_dim)

@hookimpl
def ganframe_generators():
    return {"with_w": WithW, "of_z": OfZ}
"""


@pytest.fixture
def made(call, tiny, install):
    """made(name, more=""): a run of the generator of that name."""
    install("ganframe-truncating", PLUGIN, plugin="truncating")

    def train(name, *more):
        call("run", tiny(), "--set", f"generator={{use='{name}'}}", "--out", name, *more)
        return load_generator(name)

    return train


def test_sample_draws_truncated_samples_into_a_file_that_says_so(call, made):
    for name in ("with_w", "of_z"):
        G = made(name)
        call("sample", name, "-n", 5, "--truncation", "0.6", "--out", "x.npy")
        torch.testing.assert_close(torch.from_numpy(np.load("x.npy")), G.sample(5, truncation=0.6))
        printed = call("sample", name, "-n", 5, "--truncation", "0.6").stdout
        assert "seed-0-truncation-0.6.png" in printed


def test_interpolate_in_w_with_truncation(call, made):
    G = made("with_w")
    asked = ("interpolate", "with_w", "--space", "w", "--truncation", 0.5)
    call(*asked, "--between", 1, 2, "--steps", 3, "--out", "x.npy")
    expected = find_paths(G.truncated(0.5), [("1", "2")], 3, space="w").samples()
    torch.testing.assert_close(torch.from_numpy(np.load("x.npy")), expected)
    straight = (expected[:, 0] + expected[:, 2]) / 2  # synthesis is linear here
    torch.testing.assert_close(expected[:, 1], straight)
    assert "interpolation-space-w-truncation-0.5.png" in call(*asked).stdout


def test_interpolate_in_z_is_another_path_than_in_w(call, made):
    made("with_w")
    for space in ("z", "w"):
        call("interpolate", "with_w", "--between", 1, 2, "--steps", 3, "--space", space, "--out", f"{space}.npy")
    z, w = (np.load(f"{space}.npy") for space in "zw")
    np.testing.assert_allclose(z[:, [0, 2]], w[:, [0, 2]], rtol=1e-5)
    assert np.abs(z[:, 1] - w[:, 1]).max() > 1e-3


def test_arithmetic_in_w_adds_w(call, made):
    G = made("with_w")
    call("arithmetic", "with_w", "1 - 2 + 3", "--space", "w", "--out", "sum.npy")
    w, y = G.network.map(*G.latents(64)), torch.zeros(1, dtype=torch.long)
    expected = G.network.synthesize((w[1] - w[2] + w[3])[None], y)[0]
    torch.testing.assert_close(torch.from_numpy(np.load("sum.npy")), expected)


def test_latents_of_a_file_fit_a_truncated_generator(call, made):
    made("with_w")
    call("sample", "with_w", "-n", 2, "--out", "x.npy")
    call("invert", "with_w", "x.npy", "--space", "w", "--out", "found.w.npy")
    found = call("interpolate", "with_w", "--between", "found.w.npy:0", "found.w.npy:1", "--truncation", 0.5)
    assert "other weights" not in found.stderr
    refused = call("interpolate", "with_w", "--between", "found.w.npy:0", 1, "--space", "z", code=2)
    assert "it holds latents w, and latents z are wanted here" in refused.stderr


def test_truncation_is_refused_in_one_line_where_there_is_none(call, tiny, made):
    call("run", tiny(), "--out", "plain")
    for command in (("sample", "plain"), ("interpolate", "plain"), ("evaluate", "plain")):
        told = call(*command, "--truncation", "0.5", code=2).stderr
        assert "this generator offers none" in told
        assert told.count("\n") == 1
    told = call("interpolate", "plain", "--space", "w", code=2).stderr
    assert "no map(z, y) and synthesize(w, y)" in told
    assert "nan" in call("sample", "plain", "--truncation", "nan", code=2).stderr


def test_evaluate_judges_each_truncation_in_one_table(call, made):
    made("with_w")
    asked = ("evaluate", "with_w", "--samples", 200, "--truncation", 0, "--truncation", 0.5, "--truncation", "1")
    lines = call(*asked).stdout.splitlines()
    assert lines[0].split() == ["truncation", "metric", "number", "value"]
    assert [line.split()[0] for line in lines if " modes  " in line] == ["0", "0.5", "1"]
    assert sum("generated samples" in line for line in lines) == 1
    one = call("evaluate", "with_w", "--samples", 200).stdout
    assert "truncation" not in one
