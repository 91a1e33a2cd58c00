"""Fréchet and kernel distance: closed forms, torch-fidelity's numbers on the same features, and what is refused."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, option
from ganframe.builtin import frechet
from ganframe.builtin.distributions import Ring
from ganframe.builtin.frechet import Frechet, Kernel

fidelity = pytest.importorskip("torch_fidelity")


@attrs.frozen
class Normal(Dataset):
    """Points of a Gaussian."""

    count: int = option(3000, help="points")
    dimensions: int = option(6, help="of each")
    constant: int = option(0, help="dimensions that are always zero")

    @property
    def spec(self):
        return DataSpec((self.dimensions,))

    def build(self):
        return TensorDataset(points(self), torch.zeros(self.count, dtype=torch.long))


def points(data, seed=0, shift=0.0, scale=1.0):
    x = torch.randn(data.count, data.dimensions, generator=torch.Generator().manual_seed(seed)) * scale + shift
    x[:, : data.constant] = 0
    return x


def exact(n, mean, covariance, seed):
    """n points whose mean and covariance are these, to rounding."""
    x = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.atleast_2d(x.T.cov())).T)
    return x @ torch.linalg.cholesky(covariance).T + mean


def covariance(dimensions, seed):
    root = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    return root @ root.T / dimensions + 0.1 * torch.eye(dimensions, dtype=torch.double)


def closed_form(m1, s1, m2, s2):
    """‖m₁ - m₂‖² + tr(S₁ + S₂ - 2 (S₁S₂)^½) of Gaussians, by eigenvalues of S₁S₂."""
    root = torch.linalg.eigvals(s1 @ s2).real.clamp(min=0).sqrt().sum()
    return ((m1 - m2).square().sum() + (s1 + s2).trace() - 2 * root).item()


@pytest.mark.parametrize("dimensions", [1, 2, 16, 64])
def test_frechet_is_the_closed_form_of_gaussians(dimensions):
    means = torch.zeros(dimensions).double(), torch.linspace(-1, 2, dimensions).double()
    spreads = covariance(dimensions, 1), covariance(dimensions, 2)
    sides = [exact(500, m, s, i) for i, (m, s) in enumerate(zip(means, spreads, strict=True))]
    found = frechet.frechet(*map(frechet.moments, sides))
    assert found == pytest.approx(closed_form(means[0], spreads[0], means[1], spreads[1]), rel=1e-9)


def test_frechet_of_one_dimension_is_that_of_means_and_deviations(judged):
    data = Normal(count=20_000, dimensions=1)
    found = judged(Frechet(), data, points(data, 1, shift=3.0, scale=2.0))["frechet"]
    assert found == pytest.approx(3.0**2 + (2.0 - 1.0) ** 2, rel=0.02)


@pytest.mark.parametrize("constant", [0, 3], ids=["all vary", "some constant"])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_frechet_is_that_of_torch_fidelity_on_the_same_features(judged, constant, shift):
    from torch_fidelity import metric_fid

    data = Normal(dimensions=12, constant=constant)
    x = points(data, 1, shift, 1.2)
    statistics = [metric_fid.fid_features_to_statistics(side.double()) for side in (x, points(data))]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, False)[metric_fid.KEY_METRIC_FID]
    assert judged(Frechet(), data, x)["frechet"] == pytest.approx(theirs, rel=1e-6)


def test_a_set_against_itself_is_at_distance_zero(judged):
    data = Normal(constant=2)
    assert judged(Frechet(), data, points(data))["frechet"] == pytest.approx(0, abs=1e-10)


def test_a_generator_that_repeats_one_sample_has_a_distance(judged):
    """Its covariance is singular too, but not for want of samples."""
    data = Normal()
    found = judged(Frechet(), data, points(data)[:1].repeat(3000, 1))["frechet"]
    assert found > 4
    assert math.isfinite(found)


@pytest.mark.parametrize(("real", "generated"), [(6, 500), (500, 6), (4, 4)])
def test_as_few_samples_as_features_are_refused_with_the_number_needed(judged, real, generated):
    data = Normal(count=500)
    try:
        text = judged(Frechet(real=real), data, points(data, 1)[:generated], score=True)["error"]
    except ValueError as error:
        text = str(error)
    few = "real" if real < 500 else "generated"
    assert f"{min(real, generated)} {few} samples give a singular covariance of 6 features" in text
    assert "it needs more than 6" in text


def test_one_sample_more_than_features_is_judged_and_constant_features_do_not_count(judged):
    data = Normal(count=500, dimensions=40, constant=34)
    assert judged(Frechet(real=7), data, points(data, 1)[:7])["frechet"] > 0


def test_too_few_samples_are_refused_before_any_is_generated(judged):
    with pytest.raises(ValueError, match=r"metrics\[0\]: 5 generated samples give a singular covariance"):
        judged(Frechet(), Normal(), points(Normal()), samples=5)


def test_features_are_the_values_of_points_and_a_classifier_of_images_with_labels():
    assert frechet.features_for(None, DataSpec((2,), classes=3)) == "pixels"
    assert frechet.features_for(None, DataSpec((1, 8, 8))) == "pixels"
    assert frechet.features_for(None, DataSpec((1, 8, 8), classes=3)) == "builtin:classifier"
    assert frechet.features_for("own", DataSpec((1, 8, 8), classes=3)) == "own"


@pytest.mark.parametrize("metric", [Frechet, Kernel])
def test_the_features_used_stand_in_the_score(judged, metric):
    options = {} if metric is Frechet else {"subset_size": 100}
    score = judged(metric(**options), Ring(), points(Normal(dimensions=2)), score=True)
    assert list(score["protocol"]["features"]) == ["pixels"]
    assert score["protocol"]["counts"] == {"real": 10_000}


@pytest.mark.parametrize("metric", [Frechet, Kernel])
@pytest.mark.parametrize(
    ("features", "count"), [(None, 10_000), ("effnet_lite0", 2_000), ("builtin:effnet_lite0", 2_000)]
)
def test_fewer_samples_are_judged_by_default_on_slow_features(metric, features, count):
    assert metric(features=features).samples == count


# ------------------------------------------------------------------------------------------------------------- kernel


@pytest.mark.parametrize(("subsets", "size"), [(10, 1000), (100, 50)])
def test_kernel_is_that_of_torch_fidelity_on_the_same_features(judged, subsets, size):
    from torch_fidelity import metric_kid

    data = Normal(count=1500)
    x = points(data, 1, shift=0.2)
    theirs = metric_kid.kid_features_to_metric(
        x.double(), _real(judged, data), kid_subsets=subsets, kid_subset_size=size, rng_seed=0, verbose=False
    )
    found = judged(Kernel(subsets=subsets, subset_size=size), data, x)
    assert found["kernel"] == pytest.approx(theirs[metric_kid.KEY_METRIC_KID_MEAN], rel=1e-6)
    assert found["kernel_std"] == pytest.approx(theirs[metric_kid.KEY_METRIC_KID_STD], rel=1e-6)


def _real(judged, data):
    """The real samples in the order in which the judge has them."""
    from ganframe.data.real import real_samples

    return real_samples(data.build(), data.spec, 10_000, 0, torch.device("cpu"))[0].double()


def test_kernel_has_no_bias(judged):
    """It is 0 on average for samples of the same distribution, so some are below."""
    data = Normal(count=200)
    found = [judged(Kernel(subsets=1, subset_size=200), data, points(data, seed))["kernel"] for seed in range(1, 25)]
    mean, error = torch.tensor(found).mean().item(), torch.tensor(found).std().item() / 24**0.5
    assert abs(mean) < 4 * error
    assert min(found) < 0 < max(found)


@pytest.mark.parametrize(("real", "generated", "kind"), [(30, 200, "real"), (200, 30, "generated")])
def test_fewer_samples_than_a_subset_has_are_refused(judged, real, generated, kind):
    data = Normal(count=real)
    try:
        text = judged(Kernel(subset_size=40), data, points(Normal(), 1)[:generated], score=True)["error"]
    except ValueError as error:
        text = str(error)
    assert f"there are 30 {kind} samples, fewer than its subsets have; set subset_size to 30 or less" in text
