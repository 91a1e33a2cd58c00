"""Latents: the moments of the prior, exact resume, and sharing between processes."""

import math

import pytest
import torch

from ganframe import DataSpec
from ganframe.data.feed import Share
from ganframe.data.latents import LatentFeed, fixed_latents, sample_prior
from ganframe.recipes.tables import Prior

CPU = torch.device("cpu")

both_priors = pytest.mark.parametrize("distribution", ["normal", "uniform"])


def feed(distribution, dim=3, seed=7, processes=1, rank=0):
    return LatentFeed(Prior(dim, distribution), seed, Share(CPU, processes, rank))


@both_priors
def test_latents_have_mean_zero_and_unit_variance(distribution):
    z = feed(distribution, dim=8, seed=0)(50_000)
    assert z.shape == (50_000, 8)
    n = z.numel()
    assert abs(z.mean()) < 5 / n**0.5
    kurtosis = {"normal": 3, "uniform": 1.8}[distribution]
    assert abs(z.var() - 1) < 5 * ((kurtosis - 1) / n) ** 0.5
    assert abs(z.pow(4).mean() - kurtosis) < 0.05
    torch.testing.assert_close(z.T.corrcoef(), torch.eye(8), atol=0.03, rtol=0)


def test_uniform_latents_are_within_root_three():
    z = feed("uniform", dim=4, seed=0)(50_000)
    assert z.abs().max() <= math.sqrt(3) + 1e-6
    assert z.max() > 1.73
    assert z.min() < -1.73


@both_priors
def test_two_processes_share_the_latents_of_one(distribution):
    whole = feed(distribution)
    shares = [feed(distribution, processes=2, rank=rank) for rank in (0, 1)]
    for _ in range(3):
        assert torch.equal(torch.stack([share(4) for share in shares], 1).flatten(0, 1), whole(8))


@both_priors
def test_restored_latents_continue_exactly(distribution):
    latents = feed(distribution)
    latents(5)
    stored = latents.state_dict()
    expected = [latents(n) for n in (4, 2)]
    fresh = feed(distribution, seed=8)
    fresh.load_state_dict(stored)
    for z, n in zip(expected, (4, 2), strict=True):
        assert torch.equal(fresh(n), z)
    assert not torch.equal(*[feed(distribution, seed=seed)(4) for seed in (7, 8)])


@both_priors
def test_fixed_latents_depend_on_the_seed_alone(distribution):
    prior, before = Prior(3, distribution), torch.get_rng_state()
    z, y = fixed_latents(prior, DataSpec((2,), 5), 100, seed=1)
    again, labels = fixed_latents(prior, DataSpec((2,), 5), 100, seed=1)
    assert torch.equal(z, again)
    assert torch.equal(y, labels)
    assert set(y.tolist()) == set(range(5))
    assert torch.equal(z, sample_prior(prior, 100, torch.Generator().manual_seed(1)))
    assert not torch.equal(z, fixed_latents(prior, DataSpec((2,), 5), 100, seed=2)[0])
    assert not fixed_latents(prior, DataSpec((2,)), 100, seed=1)[1].any()  # labels are 0 without classes
    assert torch.equal(torch.get_rng_state(), before)
