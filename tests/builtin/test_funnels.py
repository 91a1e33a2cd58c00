"""The pairs with a known W1: the transport is optimal, f is 1-Lipschitz, and files of pairs are read strictly."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest
import torch

from ganframe import DataSpec
from ganframe.builtin.distributions import SwissRoll
from ganframe.builtin.funnels import Funnels, FunnelsCube, FunnelsMoved

PAIRS = [(1, 3), (2, 1), (2, 4), (2, 64), (16, 4), (16, 64), (128, 64)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def funnels_of(dimension, funnels, seed=0):
    return FunnelsMoved(dimension=dimension, funnels=funnels, seed=seed).build().funnels


# ------------------------------------------------------------------------------------------------------ the mathematics


@pytest.mark.parametrize(("dimension", "funnels"), PAIRS)
def test_f_is_the_smallest_cone(dimension, funnels):
    f = funnels_of(dimension, funnels)
    x = f.points(50, seeded())
    cones = np.linalg.norm(x.numpy()[:, None] - f.centres.numpy(), axis=2) + f.offsets.numpy()
    np.testing.assert_allclose(f(x).numpy(), cones.min(1), atol=1e-12)


@pytest.mark.parametrize(("dimension", "funnels"), PAIRS)
def test_f_is_1_lipschitz_and_its_gradient_has_norm_1(dimension, funnels):
    f = funnels_of(dimension, funnels)
    x, other = f.points(2_000, seeded()), f.points(2_000, seeded(1))
    other[1_000:] = x[1_000:] + 1e-3 * torch.randn(1_000, dimension, dtype=torch.float64, generator=seeded(2))
    assert ((f(x) - f(other)).abs() <= (x - other).norm(dim=1) + 1e-12).all()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(f(x).sum(), x)
    torch.testing.assert_close(gradient.norm(dim=1), torch.ones(2_000, dtype=torch.float64))


@pytest.mark.parametrize("degree", [1.5, 8.0])
@pytest.mark.parametrize(("dimension", "funnels"), PAIRS)
def test_cost_of_the_transport_is_the_difference_of_means_of_f(dimension, funnels, degree):
    """A coupling costs at least W1, and a 1-Lipschitz function gives at most W1: where they are equal, both are."""
    f = funnels_of(dimension, funnels)
    x = f.points(20_000, seeded())
    moved = f.moved(x, degree)
    cost = (x - moved).norm(dim=1).mean()
    assert abs(cost - (f(x).mean() - f(moved).mean())) < 1e-10
    assert cost > 0.01
    assert moved.abs().max() <= 2.5 + 1e-12


@pytest.mark.parametrize(("dimension", "funnels"), [(1, 3), (2, 4), (3, 20), (16, 64)])
def test_points_are_moved_by_their_share_of_the_ray(dimension, funnels):
    """The end of each ray is found by bisection, as the last point that is in the funnel and in the cube."""
    f = funnels_of(dimension, funnels)
    x = f.points(300, seeded())
    k = f.nearest(x)
    centre = f.centres[k]
    length = (x - centre).norm(dim=1, keepdim=True)
    v = (x - centre) / length
    low, high = length, torch.full_like(length, 100.0)
    for _ in range(80):
        middle = (low + high) / 2
        point = centre + middle * v
        own = (point - centre).norm(dim=1) + f.offsets[k]
        cones = torch.linalg.vector_norm(point[:, None] - f.centres, dim=2) + f.offsets
        there = (own <= cones.amin(1) + 1e-13) & (point.abs().amax(1) <= 2.5)
        low, high = torch.where(there[:, None], middle, low), torch.where(there[:, None], high, middle)
    expected = centre + low * (length / low) ** 8 * v
    torch.testing.assert_close(f.moved(x, 8.0), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("dimension", "funnels"), [(2, 4), (16, 64)])
def test_w1_is_that_of_the_mean_length_of_rays(dimension, funnels):
    """Uniform points lie on a ray of length R with the density d s^(d-1) / R^d, so E (s - R (s/R)^p) is
    R (d/(d+1) - d/(d+p)). R is s² over the length to which a point is moved by the degree 2."""
    f, d = funnels_of(dimension, funnels), dimension
    x = f.points(200_000, seeded())
    centre = f.centres[f.nearest(x)]
    ray = (x - centre).norm(dim=1).square() / (f.moved(x, 2.0) - centre).norm(dim=1)
    expected = ray.mean() * (d / (d + 1) - d / (d + 8))
    moved = f(x) - f(f.moved(x, 8.0))
    error = (moved - ray * (d / (d + 1) - d / (d + 8))).std() / math.sqrt(len(x))
    assert abs(moved.mean() - expected) < 4 * error
    assert error < 0.003 * expected


def test_w1_on_the_line_is_that_between_sorted_samples():
    p, q = (cls(dimension=1, funnels=3, seed=2).build() for cls in (FunnelsMoved, FunnelsCube))
    x, y = p.draw(200_000, seeded(1))[0], q.draw(200_000, seeded(2))[0]
    critic = p.optimal_critic(q)
    value = critic(x).mean() - critic(y).mean()
    assert (x.sort(0).values - y.sort(0).values).abs().mean().item() == pytest.approx(value.item(), abs=0.01)
    assert value > 0.1


def test_point_at_its_centre_stays():
    f = Funnels(torch.tensor([[1.0, 1.0], [-1.0, 0.0]]), torch.zeros(2))
    torch.testing.assert_close(f.moved(f.centres.clone(), 8.0), f.centres)
    x = f.centres.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x).sum(), x)
    assert gradient.isfinite().all()


def test_funnel_that_is_never_the_smallest_has_no_part():
    inner = Funnels(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0.0, 0.5]))
    both = Funnels(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.0]]), torch.tensor([0.0, 0.5, 9.0]))
    x = inner.points(1_000, seeded())
    torch.testing.assert_close(both.moved(x, 8.0), inner.moved(x, 8.0))


# ------------------------------------------------------------------------------------------------------------ the sides


def test_cube_is_uniform_and_moved_points_are_nearer_to_their_centres():
    cube, moved = (cls(dimension=3, funnels=5).build() for cls in (FunnelsCube, FunnelsMoved))
    q, y = cube.draw(50_000, seeded())
    p, _ = moved.draw(50_000, seeded())
    assert (q.dtype, q.shape, y.dtype, y.any().item()) == (torch.float32, (50_000, 3), torch.long, False)
    assert q.abs().max() <= 2.5
    assert q.mean(0).abs().max() < 0.03
    torch.testing.assert_close(q.var(0), torch.full((3,), 25 / 12), rtol=0.03, atol=0)
    f = moved.funnels
    assert (f(p) <= f(q) + 1e-6).all()
    assert f(p).mean() < f(q).mean() - 0.3
    torch.testing.assert_close(FunnelsMoved(dimension=3, funnels=5, degree=1).build().draw(50, seeded())[0], q[:50])


def test_same_seed_makes_the_same_pair_and_another_seed_another():
    one, same, other = (FunnelsMoved(dimension=4, funnels=8, seed=seed).build().funnels for seed in (0, 0, 1))
    assert torch.equal(one.centres, same.centres)
    assert torch.equal(one.offsets, same.offsets)
    assert not torch.equal(one.centres, other.centres)
    many = FunnelsMoved(dimension=50, funnels=2_000).build().funnels
    assert many.centres.abs().max() <= 2.5
    assert many.centres.std() == pytest.approx(5 / math.sqrt(12), rel=0.01)
    assert many.offsets.std() == pytest.approx(0.1, rel=0.1)


def test_optimal_critic_scores_the_moved_side_high_in_either_order():
    options = {"dimension": 3, "funnels": 5}
    p, q = FunnelsMoved(**options).build(), FunnelsCube(**options).build()
    x = q.draw(100, seeded())[0]
    torch.testing.assert_close(p.optimal_critic(q)(x), -p.funnels(x))
    torch.testing.assert_close(q.optimal_critic(p)(x), p.funnels(x))
    torch.testing.assert_close(p.optimal_critic(FunnelsMoved(**options, degree=3).build())(x), -p.funnels(x))
    torch.testing.assert_close(p.optimal_critic(FunnelsMoved(**options, degree=9).build())(x), p.funnels(x))
    # The cube is that of any funnels.
    torch.testing.assert_close(p.optimal_critic(FunnelsCube(dimension=3, seed=7).build())(x), -p.funnels(x))
    torch.testing.assert_close(FunnelsCube(dimension=3, seed=7).build().optimal_critic(p)(x), p.funnels(x))


def test_other_sides_have_no_known_critic():
    p = FunnelsMoved(dimension=2, funnels=5).build()
    for other in (FunnelsMoved(dimension=2, funnels=5, seed=1).build(), SwissRoll().build()):
        with pytest.raises(NotImplementedError):
            p.optimal_critic(other)


# ---------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def write(tmp_path):
    """write(**arrays): the path of a file of them."""

    def save(**arrays):
        np.savez(tmp_path / "pairs.npz", **arrays)
        return str(tmp_path / "pairs.npz")

    return save


def test_pair_is_read_from_a_file(write):
    centres, offsets = np.random.default_rng(0).normal(size=(4, 3)), np.arange(4.0)
    file = write(centres_3_4=centres, offsets_3_4=offsets, centres_2_1=np.zeros((1, 2)), offsets_2_1=np.zeros(1))
    config = FunnelsMoved(dimension=3, funnels=4, file=file)
    assert config.spec == DataSpec((3,))
    found = config.build().funnels
    np.testing.assert_array_equal(found.centres.numpy(), centres)
    np.testing.assert_array_equal(found.offsets.numpy(), offsets)
    before = config.fingerprint()
    write(centres_3_4=centres, offsets_3_4=offsets + 1e-9)
    assert config.fingerprint() != before
    with pytest.raises(ValueError, match=r"has no centres_3_5; its pairs <dimension>_<funnels>: 3_4$"):
        attrs.evolve(config, funnels=5).build()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"centres_2_4": np.zeros((4, 2))}, "it has no offsets_2_4; its pairs <dimension>_<funnels>: 2_4"),
        ({"other": np.zeros(3)}, "it has no centres_2_4; its pairs <dimension>_<funnels>: none"),
        (
            {"centres_2_4": np.zeros((2, 4)), "offsets_2_4": np.zeros(4)},
            r"centres_2_4 has shape \(2, 4\), not \(4, 2\)",
        ),
        (
            {"centres_2_4": np.zeros((4, 2)), "offsets_2_4": np.full(4, np.nan)},
            "offsets_2_4 has values that are not finite",
        ),
        ({"centres_2_4": np.array(["a"] * 8).reshape(4, 2), "offsets_2_4": np.zeros(4)}, "could not convert"),
        ({"centres_2_4": np.array([{}] * 4), "offsets_2_4": np.zeros(4)}, "Object arrays cannot be loaded"),
    ],
)
def test_unsound_file_is_refused_in_a_line(write, arrays, said):
    file = write(**arrays)
    for cls in (FunnelsMoved, FunnelsCube):
        with pytest.raises(ValueError, match=rf"^file: .*pairs\.npz: {said}") as caught:
            cls(file=file).build()
        assert "\n" not in str(caught.value)


def test_file_that_is_none_is_refused_in_a_line(tmp_path):
    (tmp_path / "text.npz").write_text("centres")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04" + bytes(40))
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name, said in [
        ("missing.npz", "no such file"),
        ("text.npz", ""),
        ("cut.npz", ""),
        ("empty.npz", ""),
        ("single.npy", "it is a single array"),
        (".", "directory"),
    ]:
        with pytest.raises(ValueError, match=rf"^file: .*: .*{said}") as caught:
            FunnelsMoved(file=str(tmp_path / name)).build()
        assert "\n" not in str(caught.value)
