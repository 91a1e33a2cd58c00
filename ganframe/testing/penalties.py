"""Checks of a penalty: its value, its gradient, and that it treats samples independently.

The file is long because its many short checks share the same few calls of a penalty.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ganframe.errors import counted
from ganframe.testing.calls import (
    call,
    differentiates_by_samples,
    penalty_of,
    plain_shape,
    prepared,
    reads_scores_only,
    refusal,
    same,
    same_state,
    value_of,
    wraps,
)
from ganframe.testing.common import DEVICE, buffers, changed, require, require_same_device, weights
from ganframe.testing.declared import check_gradient_of_groups, check_many_scores
from ganframe.testing.discriminators import (
    IMAGE,
    POINT,
    RecordingDiscriminator,
    by_label,
    curved,
    linear,
    points,
    seen,
)
from ganframe.training.penalties import FREED, NOT_REACHED


def check_penalty(name: str, constraint: Any) -> None:
    """Checks all properties of a penalty. The first that is violated raises AssertionError."""
    if _is_always_none(name, constraint):
        return
    _sign_dtype_and_device(name, constraint)
    _reaches_weights_and_nothing_else(name, constraint)
    usual = plain_shape(constraint)
    for shape, n in ((usual, 64), (IMAGE, 4), ((4, 2, 4), 4), *([((2, 8), 8)] if usual == POINT else [])):
        _one_epsilon_per_sample(name, constraint, shape, n)
    _any_batch_size(name, constraint)
    _all_coordinates(name, constraint)
    if not wraps(constraint):  # spectral normalisation of zero weights divides by 0
        _zero_gradient(name, constraint)
    _mean_of_samples(name, constraint)
    _any_batch_size_with_dropout(name, constraint)
    _does_not_favour_steep(name, constraint)
    _refuses_mixed_samples(name, constraint)
    check_gradient_of_groups(name, constraint)
    check_many_scores(name, constraint)


def _is_always_none(name: str, constraint: Any) -> bool:
    """Whether the penalty never has a value: it only looks at the scores, for what `wrap` returned."""
    usual = plain_shape(constraint)
    if not wraps(constraint):
        return False
    D = prepared(constraint, curved(usual))
    before = weights(D)
    looks = all(call(name, constraint, D, points(4, usual), points(4, usual), None)[0] is None for _ in range(64))
    kept = not looks or not changed(before, weights(D))
    require(kept, f"{name}: penalty must not change D's weights; use project")
    return looks


def _sign_dtype_and_device(name: str, constraint: Any) -> None:
    usual = plain_shape(constraint)
    for dtype in (torch.float32, torch.float64):
        for shape, n in ((usual, 8), (IMAGE, 4), (IMAGE, 1)):
            for plain in (linear(shape), linear(shape, 0.5), curved(shape), curved(shape, dropout=0.5)):
                D = prepared(constraint, plain).to(dtype)
                value, *_ = penalty_of(name, constraint, D, points(n, shape).to(dtype), points(n, shape).to(dtype))
                require(
                    value.dtype == dtype, f"{name}: for D in {dtype} the penalty must be in {dtype}, not {value.dtype}"
                )
                require(
                    bool(value.isfinite()),
                    f"{name}: the penalty of {counted(n, 'sample')} of shape {shape} is {value.item()}",
                )
                right = value.item() >= 0 or reads_scores_only(constraint, D)
                require(
                    right,
                    f"{name}: a penalty must be ≥ 0 unless it reads scores only; it is {value.item():.4g}",
                )
    with require_same_device(f"{name}: penalty"):
        x = torch.zeros(4, *usual, device=DEVICE, dtype=torch.float64)
        value, *_ = penalty_of(name, constraint, prepared(constraint, linear(usual)).to(DEVICE), x, x)
        require(value.device.type == DEVICE, f"{name}: the penalty must be on D's device")


def _reaches_weights_and_nothing_else(name: str, constraint: Any) -> None:
    usual = plain_shape(constraint)
    reached = False
    for plain in (linear(usual, 50.0), curved(usual), curved(usual, dropout=0.5)):
        D = prepared(constraint, plain)
        before, modes = weights(D), [m.training for m in D.modules()]
        for p in D.parameters():
            p.grad = torch.full_like(p, 7.0)
        value, real, fake = penalty_of(name, constraint, D, points(8, usual), points(8, usual))
        kept = all(p.grad is not None and bool((p.grad == 7).all()) and p.requires_grad for p in D.parameters())
        require(kept, f"{name}: penalty must not change D's .grad or requires_grad; the engine calls backward()")
        kept = not changed(before, dict(D.named_parameters())) and modes == [m.training for m in D.modules()]
        require(kept, f"{name}: penalty must not change D's weights or training mode; use project or wrap")
        require(real.x.grad is None and fake.x.grad is None, f"{name}: penalty leaves gradients on the samples")
        try:
            (real.scores.mean() - fake.scores.mean() + value).backward()
        except RuntimeError as error:
            require("second time" not in str(error), f"{name}: {FREED}")
            raise
        value, *_ = penalty_of(name, constraint, D, points(8, usual), points(8, usual))
        if value.requires_grad:
            slopes = torch.autograd.grad(value, list(D.parameters()), allow_unused=True)
            reached |= any(slope is not None and bool(slope.any()) for slope in slopes)
    require(reached, f"{name}: {NOT_REACHED}")


def _one_epsilon_per_sample(name: str, constraint: Any, shape: tuple[int, ...], n: int) -> None:
    """Points between real and fake, x̂ = εx + (1 - ε)G(z), must use one ε per sample.

    These points depend on both sides. Points that depend on one side, such as those around real samples, are skipped.
    """
    D, fake = prepared(constraint, curved(shape)), points(n, shape)
    real = fake + torch.rand(n, *shape, dtype=torch.float64) + 1

    def points_of_calls(seed: int, real: Tensor, fake: Tensor) -> list[Tensor]:
        torch.default_generator.manual_seed(seed)
        value_of(name, constraint, D, real, fake)
        return [x.detach() for x in seen(D)]

    cases = ((0, real, fake), (0, real + 1, fake), (0, real, fake + 1), (1, real, fake))
    results = (points_of_calls(*case) for case in cases)
    for x, real_moved, fake_moved, drawn_again in zip(*results, strict=False):
        if x.shape != real.shape or torch.equal(x, real_moved) or torch.equal(x, fake_moved):
            continue
        shares = ((x - fake) / (real - fake)).flatten(1)
        if bool(((shares.abs() < 1e-9) | ((shares - 1).abs() < 1e-9)).all()):
            continue  # each coordinate comes from one side: a mask, not an interpolation
        line = "x̂ depends on real and fake samples, so it must lie on the line between them, x̂ = εx + (1 - ε)G(z)"
        spread = (shares.amax(1) - shares.amin(1)).max().item()
        ones = ", ".join("1" for _ in shape)
        require(
            spread < 1e-6,
            f"{name}: {line}; within one sample of shape {shape} ε varies by {spread:.2g}; use ε of shape (N, {ones})",
        )
        low, high = shares.min().item(), shares.max().item()
        between = low > -1e-6 and high < 1 + 1e-6
        require(between, f"{name}: {line}, with ε from 0 to 1; it ranges from {low:.2g} to {high:.2g}")
        random = not torch.allclose(x, drawn_again)
        require(
            not random or high - low > 1e-6,
            f"{name}: ε must be drawn for each sample, but one ε is used for the whole batch of {n}",
        )


def _any_batch_size(name: str, constraint: Any) -> None:
    """The penalty of one repeated pair of samples must not depend on the batch size. D is linear: one gradient."""
    for shape in (plain_shape(constraint), IMAGE):
        D_0, real, fake = linear(shape), points(1, shape), points(1, shape)
        D = prepared(constraint, copy.deepcopy(D_0))
        if _is_random(name, constraint, D, real, fake):
            _average_at_any_batch_size(name, constraint, D_0, real, fake)
            continue
        values = {}
        for n in (1, 4, 64):
            D = prepared(constraint, copy.deepcopy(D_0))
            values[n] = value_of(name, constraint, D, real.expand(n, *shape), fake.expand(n, *shape))
        found = ", ".join(f"{value:.6g} at batch {n}" for n, value in values.items())
        require(
            same(min(values.values()), max(values.values())),
            f"{name}: the penalty of one repeated sample must not depend on the batch size; it is {found} (D linear, "
            "slope 2). Differentiate the sum of the scores, not the mean; take one norm per sample, "
            "gradient.flatten(1).norm(dim=1); take the mean over the batch last",
        )


def _is_random(name: str, constraint: Any, D: nn.Module, real: Tensor, fake: Tensor) -> bool:
    """Whether the penalty draws points or masks on which its value depends."""
    values = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            values.append(value_of(name, constraint, D, real, fake))
    return same(values[0], values[1]) and not same(values[0], values[2])


def _any_batch_size_with_dropout(name: str, constraint: Any) -> None:
    """A penalty that is 0 without dropout, such as the distance of two passes: its average at any batch size."""
    usual = plain_shape(constraint)
    D_0, real, fake = curved(usual, dropout=0.5), points(1, usual), points(1, usual)
    if value_of(name, constraint, prepared(constraint, curved(usual)), real, fake) != 0:
        return  # not 0 without dropout, so _any_batch_size checks it
    _average_at_any_batch_size(name, constraint, D_0, real, fake)


def _average_at_any_batch_size(name: str, constraint: Any, D_0: nn.Module, real: Tensor, fake: Tensor) -> None:
    """The average over draws of the penalty of one repeated pair of samples must not depend on the batch size."""
    shape, means = real.shape[1:], {}
    for n, draws in ((1, 256), (64, 16)):
        D = prepared(constraint, copy.deepcopy(D_0))
        sides = real.expand(n, *shape), fake.expand(n, *shape)
        means[n] = sum(value_of(name, constraint, D, *sides) for _ in range(draws)) / draws
    require(
        max(means.values()) <= 2 * min(means.values()) + 1e-9,
        f"{name}: the average penalty of one repeated sample must not depend on the batch size; over random masks or "
        f"points it is {means[1]:.4g} at batch 1 and {means[64]:.4g} at batch 64: is a sum or a norm taken over the "
        "batch instead of a mean over samples?",
    )


def _all_coordinates(name: str, constraint: Any) -> None:
    """The axes of a sample, and coordinates that D ignores, must not change the penalty: D flattens its samples."""
    if plain_shape(constraint) != POINT:
        return  # samples of other shapes are no images
    narrow, real, fake = linear((32,)), points(4, (32,)), points(4, (32,))
    wide = linear((64,))
    with torch.no_grad():
        (weight,), (wide_weight,) = narrow.parameters(), wide.parameters()
        wide_weight.copy_(torch.cat([weight, torch.zeros_like(weight)], dim=1))
    D = prepared(constraint, narrow)
    flat = value_of(name, constraint, D, real, fake)
    if not differentiates_by_samples(constraint, D):
        return
    for shape in (IMAGE, (8, 4)):
        value = value_of(name, constraint, D, real.view(4, *shape), fake.view(4, *shape))
        require(
            same(value, flat),
            f"{name}: take one norm per sample, over all its coordinates: gradient.flatten(1).norm(dim=1). A linear D "
            f"of 32 coordinates has the penalty {flat:.6g}, but with the same coordinates as {shape} {value:.6g}",
        )
    value = value_of(
        name, constraint, prepared(constraint, wide), torch.cat([real, real], 1), torch.cat([fake, fake], 1)
    )
    require(
        same(value, flat),
        f"{name}: ‖∇D‖² is a sum over coordinates, not a mean: 32 more coordinates that D ignores change the penalty "
        f"from {flat:.6g} to {value:.6g}",
    )


def _zero_gradient(name: str, constraint: Any) -> None:
    usual = plain_shape(constraint)
    for D, shape in ((linear(usual, 0.0), usual), (curved(usual, last=0.0), usual), (linear(IMAGE, 0.0), IMAGE)):
        value, *_ = penalty_of(name, constraint, D, points(4, shape), points(4, shape))
        require(bool(value.isfinite()), f"{name}: a D that is 0 everywhere has the penalty {value.item()}")
        if value.requires_grad:
            slopes = torch.autograd.grad(value, list(D.parameters()), allow_unused=True)
            require(
                all(slope is None or bool(slope.isfinite().all()) for slope in slopes),
                f"{name}: where D's gradient with respect to x is 0, the penalty's gradient with respect to D's "
                "weights is non-finite: √(Σg²) has no derivative at 0; use torch.linalg.vector_norm, whose derivative "
                "is 0 there",
            )


def _mean_of_samples(name: str, constraint: Any) -> None:
    """The penalty of a batch must be the mean of the penalties of its samples, where the penalty is deterministic.

    With real = fake, all points between them are the same. With `by_label`, the gradient depends on the label only, so
    random points around the samples have the same gradient too.
    """
    usual = plain_shape(constraint)
    makers: tuple[Callable[[], RecordingDiscriminator], ...] = (lambda: curved(usual), lambda: by_label(usual))
    for make in makers:
        D, x, y = prepared(constraint, make()), points(5, usual), torch.arange(5)
        batch, again = (value_of(name, constraint, D, x, x, y) for _ in range(2))
        if not same(batch, again) or _has_memory(name, constraint, D, x):
            continue  # the penalty draws random points or masks, or compares with what it remembers of a batch
        mean = sum(value_of(name, constraint, D, x[i : i + 1], x[i : i + 1], y[i : i + 1]) for i in range(5)) / 5
        require(
            same(batch, mean),
            f"{name}: the penalty of a batch must be the mean of its samples' penalties, {mean:.6g}, but it is "
            f"{batch:.6g}; is the mean taken before the square, or the gradient's norm over the batch?",
        )


def _has_memory(name: str, constraint: Any, D: nn.Module, x: Tensor) -> bool:
    before = buffers(D)
    with same_state(D):
        penalty_of(name, constraint, D, x, x)
        return bool(changed(before, buffers(D)))


def _does_not_favour_steep(name: str, constraint: Any) -> None:
    usual = plain_shape(constraint)
    real, fake = points(64, usual), points(64, usual)
    flat, steep = (
        value_of(name, constraint, prepared(constraint, linear(usual, slope)), real, fake) for slope in (0.5, 100.0)
    )
    require(
        steep >= flat - 1e-9 or min(steep, flat) < 0,  # negative: a balance of scores, which has no such order
        f"{name}: a penalty must not favour a steep D: the penalty of slope 100 is {steep:.4g}, that of slope ½ is "
        f"{flat:.4g}; is a difference swapped?",
    )


def _refuses_mixed_samples(name: str, constraint: Any) -> None:
    usual = plain_shape(constraint)
    D = prepared(constraint, curved(usual))
    penalty_of(name, constraint, D, points(8, usual), points(8, usual))
    if not differentiates_by_samples(constraint, D):
        return
    batch_norm = RecordingDiscriminator(nn.Linear(math.prod(usual), 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    declared = curved(usual)
    declared.mixes_samples = True  # type: ignore[assignment]
    for mixing, where in ((batch_norm, "with BatchNorm"), (declared, "where a module sets mixes_samples = True")):
        require(
            refusal(name, constraint, mixing) is not None,
            f"{name} differentiates D with respect to its samples, and {where} ∂D(x)_i/∂x_j ≠ 0: check(D) must raise "
            "ValueError for a D that mixes samples; call ganframe.refuse_mixed_samples(D)",
        )
