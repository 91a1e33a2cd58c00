"""L-BFGS of independent rows: it finds minima, and a row does not depend on the others."""

import pytest
import torch

from ganframe.analysis.lbfgs import minimise


def with_slope(values):
    """f of `minimise` from a function (N, d) -> (N,)."""

    def f(points):
        points = points.detach().requires_grad_()
        value = values(points)
        (slope,) = torch.autograd.grad(value.sum(), points)
        return value.detach(), slope

    return f


def rosenbrock(z):
    return 100 * (z[:, 1] - z[:, 0] ** 2) ** 2 + (1 - z[:, 0]) ** 2


def test_quadratics_of_different_curvature_reach_their_minima():
    scales = torch.logspace(0, 3, 12, dtype=torch.float64)
    start = torch.randn(5, 12, dtype=torch.float64)
    found, value = minimise(with_slope(lambda z: (scales * (z - 3).square()).sum(1)), start, 200)
    torch.testing.assert_close(found, torch.full_like(found, 3.0), atol=1e-5, rtol=0)
    assert (value < 1e-10).all()


def test_rosenbrock_reaches_its_minimum_where_gradient_descent_does_not():
    start = torch.tensor([[-1.2, 1.0], [2.0, -1.0], [0.0, 0.0]], dtype=torch.float64)
    found, value = minimise(with_slope(rosenbrock), start, 200)
    torch.testing.assert_close(found, torch.ones_like(found), atol=1e-6, rtol=0)
    plain, _ = minimise(with_slope(rosenbrock), start, 200, memory=1)
    assert (rosenbrock(plain) >= value).all()


def test_a_row_does_not_depend_on_the_others():
    start = torch.randn(6, 2, dtype=torch.float64)
    together, _ = minimise(with_slope(rosenbrock), start, 60)
    alone = torch.cat([minimise(with_slope(rosenbrock), row[None], 60)[0] for row in start])
    torch.testing.assert_close(together, alone, atol=1e-9, rtol=1e-9)


def test_values_never_rise_and_are_those_of_the_points():
    start = torch.randn(8, 3)
    f = with_slope(lambda z: (z.sin() + 0.1 * z.square()).sum(1))
    before = f(start)[0]
    for steps in (1, 5, 40):
        found, value = minimise(f, start, steps)
        torch.testing.assert_close(value, f(found)[0])
        assert (value <= before + 1e-6).all()
        before = value


def test_steps_into_values_that_are_not_finite_are_shortened():
    """-log has no values below 0, where a step along its slope leads."""
    start = torch.tensor([[5.0], [2.0]], dtype=torch.float64)
    found, _ = minimise(with_slope(lambda z: (z - z.log()).squeeze(1)), start, 60, first=10.0)
    torch.testing.assert_close(found, torch.ones_like(found), atol=1e-5, rtol=0)


def test_a_row_whose_gradient_is_not_finite_stays_and_leaves_the_others_alone():
    start = torch.tensor([[0.0], [4.0]])
    found, _ = minimise(with_slope(lambda z: (z.abs().sqrt() + (z - 1).square()).squeeze(1)), start, 30)
    assert found[0].item() == 0
    assert found[1].isfinite().all()
    assert found[1].item() < 1.5


@pytest.mark.parametrize("steps", [0, 1])
def test_the_start_is_kept_and_not_changed(steps):
    start = torch.zeros(2, 2)
    found, value = minimise(with_slope(lambda z: z.square().sum(1)), start, steps)
    assert torch.equal(found, torch.zeros(2, 2))
    assert torch.equal(value, torch.zeros(2))
