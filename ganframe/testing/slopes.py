"""Checks that the Lipschitz constants which modules declare are not below a slope of them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ganframe.declarations import declared_constant
from ganframe.testing.common import calling, require

RADII = (1e-3, 0.3, 10.0)
"""Distances between the two points of a slope, in units of the size of a point's numbers."""


def check_lipschitz_constants(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    """Each `lipschitz_constant()` in D must be at least every slope that is found, as built and with other weights.

    The points are what the module receives where D is called with x and y, and random ones. Works on a copy in float64.
    """
    if not any(hasattr(module, "lipschitz_constant") for module in D.modules()):
        return
    D = copy.deepcopy(D).double().eval()
    declared = {key: module for key, module in D.named_modules() if hasattr(module, "lipschitz_constant")}
    for noise in (0.0, 0.3, 3.0):
        with torch.no_grad():
            for parameter in D.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
        received = _received(D, declared, x.double(), y.double() if y.is_floating_point() else y)
        for key, module in declared.items():
            where = f"{name}: {type(module).__name__}.lipschitz_constant() of {key or 'D'}"
            with calling(where):
                constant = declared_constant(module)
            if key in received:
                (h, *rest), named = received[key]
                found = steepest_slope(functools.partial(_call, module, rest, named), h)
                require(
                    found <= constant * (1 + 1e-7) + 1e-12,
                    f"{where} is {constant:.6g}, but two points were found between which the module's slope is "
                    f"{found:.6g}; it must be an upper bound for the present weights, in the Euclidean norm",
                )


def _call(module: nn.Module, rest: list[Any], named: dict[str, Any], h: Tensor) -> Tensor:
    out: Tensor = module(h, *rest, **named)
    return out


def _received(D: nn.Module, modules: dict[str, nn.Module], x: Tensor, y: Tensor) -> dict[str, Any]:
    """The arguments and keywords of each module's first call, where D scores x."""
    found: dict[str, Any] = {}

    def note(key: str) -> Callable[..., None]:
        def noted(_: nn.Module, arguments: Any, named: Any) -> None:
            if arguments and isinstance(arguments[0], Tensor):
                found.setdefault(key, ((arguments[0].detach().clone(), *arguments[1:]), named))

        return noted

    handles = [module.register_forward_pre_hook(note(key), with_kwargs=True) for key, module in modules.items()]
    with torch.no_grad():
        D(x, y)
    for handle in handles:
        handle.remove()
    return found


def steepest_slope(function: Callable[[Tensor], Tensor], points: Tensor, steps: int = 30) -> float:
    """The largest ‖f(a) - f(b)‖ / ‖a - b‖ found for a function of points (n, …), each by itself; a lower bound.

    From the points, and from random ones of the same size, pairs of points at several distances are moved uphill: the
    difference b - a along the gradient of ‖f(a) - f(b)‖, which is power iteration where f is linear, and a by a part of
    that distance.
    """
    size = points.square().mean().sqrt().item() or 1.0
    steepest = 0.0
    for start in (points, size * torch.randn_like(points)):
        for radius in RADII:
            length = radius * size * points[0].numel() ** 0.5
            a, difference = start.detach().clone(), torch.randn_like(start)
            for _ in range(steps):
                a = a.requires_grad_()
                difference = (length * _unit(difference)).requires_grad_()
                moved = (function(a + difference) - function(a)).reshape(len(a), -1).norm(dim=1)
                apart = difference.detach().flatten(1).norm(dim=1)
                steepest = max(steepest, (moved.detach() / apart).max().item())
                uphill, difference = torch.autograd.grad(moved.sum(), (a, difference), materialize_grads=True)
                a = (a + 0.1 * length * _unit(uphill)).detach()
    return steepest


def _unit(v: Tensor) -> Tensor:
    """Each v (n, …) divided by its norm; a random direction where v is 0."""
    v = v.detach()
    v = torch.where(v.flatten(1).any(1).view(-1, *[1] * (v.ndim - 1)), v, torch.randn_like(v))
    return v / v.flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1))
