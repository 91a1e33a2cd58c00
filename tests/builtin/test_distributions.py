"""Tests of synthetic distributions: means, spreads and shares of the modes, and reproducibility from a seed."""

import math

import pytest
import torch
from torch.utils.data import DataLoader

from ganframe import DataSpec, Distribution
from ganframe.builtin.distributions import Gaussian1D, Grid, Ring, SwissRoll

ALL = [Ring(), Grid(), Gaussian1D(means=(-2.0, 3.0), stds=(0.5, 1.0)), SwissRoll()]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def samples_and_means(config, n=200_000):
    """Samples x, y of a mixture, and the mean of each sample's mode, computed here from the config."""
    x, y = config.build().draw(n, seeded())
    if isinstance(config, Ring):
        means = [
            (
                config.radius * math.cos(2 * math.pi * k / config.modes),
                config.radius * math.sin(2 * math.pi * k / config.modes),
            )
            for k in range(config.modes)
        ]
    else:
        half = (config.side - 1) / 2
        ticks = [(i - half) * config.spacing for i in range(config.side)]
        means = [(a, b) for a in ticks for b in ticks]
    return x, y, torch.tensor(means)[y]


@pytest.mark.parametrize("config", [Ring(), Ring(modes=5, radius=3.0, std=0.2), Grid(), Grid(side=2, std=0.3)])
def test_mixture_modes_have_mean_covariance_share_and_label(config):
    x, y, means = samples_and_means(config)
    n, modes = len(x), config.spec.classes
    assert y.dtype == torch.long
    counts = torch.bincount(y, minlength=modes)
    assert len(counts) == modes
    share = 1 / modes
    assert ((counts / n - share).abs() < 5 * (share * (1 - share) / n) ** 0.5).all()
    offset = (x - means) / config.std
    assert offset.abs().max() < 6  # so each label is the mode of its sample
    for mode in range(modes):
        of_mode = offset[y == mode]
        assert (of_mode.mean(0).abs() < 5 / len(of_mode) ** 0.5).all()
        torch.testing.assert_close(of_mode.T.cov(), torch.eye(2), atol=8 / len(of_mode) ** 0.5, rtol=0)


def test_ring_modes_are_evenly_spaced():
    """linspace(0, 2π, 8) would put the last mode onto the first and leave seven modes."""
    means = Ring().build().means
    assert means.shape == (8, 2)
    torch.testing.assert_close(means.norm(dim=1), torch.ones(8))
    neighbours = (means - means.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(neighbours, torch.full((8,), 2 * math.sin(math.pi / 8)))
    assert torch.pdist(means).min() > 0.7


def test_grid_matches_papers():
    ticks = (-4.0, -2.0, 0.0, 2.0, 4.0)
    mixture = Grid().build()
    assert {tuple(mean) for mean in mixture.means.tolist()} == {(a, b) for a in ticks for b in ticks}
    assert (mixture.stds == 0.05).all()
    assert Grid().spec == DataSpec((2,), classes=25)


@pytest.mark.parametrize("config", [Ring(), Grid()])
def test_exact_samples_have_expected_high_quality_share(config):
    """Share of samples within 3σ of the nearest mode: 1 - e^-4.5 = 98.889 % for isotropic Gaussians in the plane."""
    mixture = config.build()
    x, y = mixture.draw(400_000, seeded(1))
    distance, nearest = torch.cdist(x, mixture.means).min(1)
    high = (distance < 3 * config.std).double().mean().item()
    expected = 1 - math.exp(-4.5)
    assert abs(high - expected) < 4 * (expected * (1 - expected) / len(x)) ** 0.5
    assert abs(expected - 0.98889) < 1e-5
    assert torch.equal(nearest, y)


def test_gaussian_1d_means_stds_and_weights():
    config = Gaussian1D(means=(-3.0, 0.0, 5.0), stds=(0.1, 1.0, 0.5), weights=(1.0, 2.0, 5.0))
    assert config.spec == DataSpec((1,), classes=3)
    x, y = config.build().draw(200_000, seeded())
    assert x.shape == (200_000, 1)
    for mode in range(3):
        of_mode, share = x[y == mode], config.weights[mode] / 8
        n = len(of_mode)
        assert abs(n / len(x) - share) < 5 * (share * (1 - share) / len(x)) ** 0.5
        assert abs(of_mode.mean() - config.means[mode]) < 5 * config.stds[mode] / n**0.5
        assert abs(of_mode.std() / config.stds[mode] - 1) < 5 / (2 * n) ** 0.5


def test_gaussian_1d_default_is_standard_normal():
    x, y = Gaussian1D().build().draw(200_000, seeded())
    assert abs(x.mean()) < 5 / 200_000**0.5
    assert abs(x.var() - 1) < 5 * (2 / 200_000) ** 0.5
    assert (y == 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"means": (0.0, 1.0)},
        {"means": (0.0,), "stds": (1.0, 1.0)},
        {"means": (0.0, 1.0), "stds": (1.0, 1.0), "weights": (1.0,)},
    ],
)
def test_gaussian_1d_refuses_lists_of_different_lengths(options):
    with pytest.raises(ValueError, match="means, stds and weights must have the same length"):
        Gaussian1D(**options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ring(modes=0),
        lambda: Ring(std=0.0),
        lambda: Ring(radius=-1.0),
        lambda: Grid(side=0),
        lambda: Grid(std=-1.0),
        lambda: Gaussian1D(means=(), stds=()),
        lambda: Gaussian1D(stds=(0.0,)),
        lambda: Gaussian1D(means=(0.0, 1.0), stds=(1.0, 1.0), weights=(1.0, 0.0)),
        lambda: SwissRoll(noise=-0.1),
    ],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_swiss_roll_without_noise_is_on_the_spiral():
    x, y = SwissRoll(noise=0.0).build().draw(10_000, seeded())
    radius = x.norm(dim=1) * 7.5  # the parameter t of the spiral, from 1.5π to 4.5π
    assert radius.min() >= 1.5 * math.pi - 1e-3
    assert radius.max() <= 4.5 * math.pi + 1e-3
    torch.testing.assert_close(
        x * 7.5, torch.stack([radius * radius.cos(), radius * radius.sin()], 1), atol=1e-3, rtol=0
    )
    assert abs(radius.mean() - 3 * math.pi) < 0.15  # t is uniform
    assert (y == 0).all()
    assert SwissRoll().spec.classes is None
    noise = SwissRoll(noise=0.1).build().draw(10_000, seeded())[0] - x  # the same t, from the same seed
    assert abs(noise.std() - 0.1) < 0.005


@pytest.mark.parametrize("config", ALL, ids=lambda config: type(config).__name__)
def test_draws_are_reproducible_from_the_generator(config):
    data = config.build()
    assert isinstance(data, Distribution)
    first, second, other = (data.draw(50, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    generator = seeded(3)
    data.draw(50, generator)
    assert not torch.equal(data.draw(50, generator)[0], first[0])  # every batch is new
    before = torch.get_rng_state()
    data.draw(5, seeded())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("config", ALL, ids=lambda config: type(config).__name__)
def test_draws_match_spec(config):
    x, y = config.build().draw(500, seeded())
    assert x.shape == (500, *config.spec.shape)
    assert x.dtype == torch.float32
    assert y.shape == (500,)
    assert y.min() >= 0
    assert y.max() < (config.spec.classes or 1)


@pytest.mark.parametrize("config", ALL, ids=lambda config: type(config).__name__)
def test_distribution_as_torch_dataset_has_fixed_samples(config):
    data = config.build()
    x, y = data[0]
    assert x.shape == config.spec.shape
    assert y.shape == ()
    assert torch.equal(data[0][0], x)
    assert not torch.equal(data[1][0], x)
    assert torch.equal(config.build()[0][0], x)
    for index in (len(data), -1):
        with pytest.raises(IndexError):
            data[index]
    batch, labels = next(iter(DataLoader(data, batch_size=4)))
    assert batch.shape == (4, *config.spec.shape)
    assert labels.shape == (4,)
    assert torch.equal(batch[0], x)


def test_integers_are_accepted_for_float_options():
    """In Python code, users write Gaussian1D(means=(-2, 2), stds=(1, 1))."""
    for config in (
        Gaussian1D(means=(-2, 2), stds=(1, 1), weights=(1, 3)),
        Grid(spacing=2, std=1),
        Ring(radius=2, std=1),
    ):
        assert config.build().draw(10, seeded())[0].dtype == torch.float32


@pytest.mark.parametrize("stds", [(0.3, 0.3, 0.3), (0.1, 0.2, 0.3)])
def test_a_draw_is_mean_and_noise_of_its_mode(stds):
    data = Gaussian1D((0.0, 1.0, 5.0), stds).build()
    x, y = data.draw(50, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    modes = torch.multinomial(data.weights, 50, replacement=True, generator=generator)
    noise = torch.randn(50, 1, generator=generator)
    assert torch.equal(y, modes)
    assert torch.equal(x, torch.addcmul(data.means[y], noise, data.stds[y, None]))
