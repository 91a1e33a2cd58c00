"""Checks of a discriminator's scores and extras: independent samples, raw scores, second derivatives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ganframe.declarations import group_size, has_extras, mean_scores, mixes_samples
from ganframe.testing.common import calling, require


def check_independence(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    """∂D(x)_i/∂x_j must be 0 for i ≠ j, or for i and j in different declared groups."""
    if mixes_samples(D):
        return
    m = group_size(D)
    x = x.double().requires_grad_()
    scores = mean_scores(D.double()(x, y))
    for i in range(len(y)):
        (slope,) = torch.autograd.grad(scores[i], x, retain_graph=True, allow_unused=True)
        require(slope is not None, f"{name}: D has no gradient with respect to x: G cannot learn from its scores")
        first = i // m * m
        others = torch.cat([slope[:first], slope[first + m :]]).abs().max().item()
        where = "i ≠ j" if m == 1 else f"i and j in different groups of {m}"
        require(
            others <= 1e-12,
            f"{name}: ∂D(x)_i/∂x_j must be 0 for {where}; it is {others:.2g}: the engine would score real and fake "
            "samples in one batch, and a gradient penalty would be wrong. A network that mixes samples on purpose "
            "must set mixes_samples = True, or mixes_groups_of = m where it mixes m consecutive samples",
        )


def check_extras(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    """A network that declares `gives_extras` fills the dict with tensors (N, …), and returns the same scores."""
    if not has_extras(D):
        return
    D.eval()
    extras: dict[str, Any] = {}
    with calling(f"{name}: D(x, y, extras), as gives_extras = True declares,"):
        scores = D(x, y, extras)
    require(bool(extras), f"{name}: D declares gives_extras, but leaves the dict empty")
    for key, value in extras.items():
        right = isinstance(value, Tensor) and value.shape[:1] == (len(y),)
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        require(right, f"{name}: extras['{key}'] must be a tensor whose first size is that of the batch, not {found}")
        require(bool(value.isfinite().all()), f"{name}: extras['{key}'] has non-finite values")
    same = torch.equal(scores, D(x, y))
    require(same, f"{name}: D must return the same scores with and without extras")


def check_second_derivative(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    x = x.clone().requires_grad_()
    try:
        (slope,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
        slope.square().sum().backward()
    except RuntimeError as error:
        raise AssertionError(
            f"{name}: a gradient penalty needs D's gradient with respect to x to be differentiable: {error}"
        ) from error
    slopes = [p.grad for p in D.parameters() if p.grad is not None]
    require(bool(slopes), f"{name}: D's gradient with respect to x does not depend on D's weights")
    finite = all(bool(s.isfinite().all()) for s in slopes)
    require(finite, f"{name}: D's gradient with respect to x has a non-finite derivative by D's weights")


@torch.no_grad()
def check_raw_scores(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    """With large random weights raw scores leave any interval; outputs of a sigmoid or a tanh do not."""
    D.double().eval()
    first, second = (_largest(D, x, y, scale) for scale in (10.0, 1000.0))
    require(
        second > 1.5 * first or second == math.inf,
        f"{name}: D must return raw scores, before any sigmoid or tanh; with large weights they still stay within "
        f"[{-second:.3g}, {second:.3g}]; objectives accept scores of any size",
    )


def _largest(D: nn.Module, x: Tensor, y: Tensor, scale: float) -> float:
    """The largest |score| over 10 draws of weights from N(0, scale²), with x multiplied by `scale`."""
    largest = 0.0
    for _ in range(10):
        for parameter in D.parameters():
            parameter.normal_(0, scale)
        largest = max(largest, D(x.double() * scale, y).abs().nan_to_num(posinf=math.inf, nan=math.inf).max().item())
    return largest
