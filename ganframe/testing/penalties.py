"""Checks of a penalty: what it measures, what it reaches, and that it treats samples independently."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ganframe.components import Constraint, Scored
from ganframe.testing.common import DEVICE, asking, changed, elsewhere, require, weights
from ganframe.testing.critics import IMAGE, POINT, Critic, by_label, curved, linear, points, seen


def check_penalty(name: str, holds: Any) -> None:
    """All that a penalty promises; the first failure raises AssertionError."""
    _sign_dtype_and_device(name, holds)
    _reaches_weights_and_nothing_else(name, holds)
    for shape, n in ((POINT, 64), (IMAGE, 4), ((4, 2, 4), 4), ((2, 8), 8)):
        _one_epsilon_per_sample(name, holds, shape, n)
    _any_batch_size(name, holds)
    _all_coordinates(name, holds)
    if not _wraps(holds):  # a critic of zeros cannot be normalised
        _zero_gradient(name, holds)
    _mean_of_samples(name, holds)
    _any_batch_size_of_dropout(name, holds)
    _holds_back(name, holds)
    _refuses_mixed_samples(name, holds)


def refusal(name: str, holds: Any, D: nn.Module) -> str | None:
    """Why the constraint's `check` refuses a critic, or None."""
    with asking(f"{name}.check(D), which raises ValueError for a critic it cannot live with,"):
        try:
            holds.check(D)
        except ValueError as error:
            return str(error)
    return None


def _wraps(holds: Any) -> bool:
    return type(holds).wrap is not Constraint.wrap


def _prepared(holds: Any, D: Critic) -> Any:
    """The critic that a penalty meets: the one that `wrap` made."""
    return holds.wrap(D) if _wraps(holds) else D


def _penalty(
    name: str, holds: Any, D: nn.Module, real: Tensor, fake: Tensor, y: Tensor | None = None
) -> tuple[Tensor, Scored, Scored]:
    """The penalty as the engine asks for it, and both sides that it was given.

    A lazy penalty, which is None in most steps, is asked again.
    """
    for _ in range(64):
        value, *sides = _ask(name, holds, D, real, fake, y)
        if value is not None:
            break
    require(isinstance(value, Tensor), f"{name}: penalty must be a tensor, not {type(value).__name__}")
    require(value.shape == (), f"{name}: penalty must be a scalar; its shape is {tuple(value.shape)}")
    return value, *sides


def _value(name: str, holds: Any, D: nn.Module, real: Tensor, fake: Tensor, y: Tensor | None = None) -> float:
    return _penalty(name, holds, D, real, fake, y)[0].item()


def _ask(
    name: str, holds: Any, D: nn.Module, real: Tensor, fake: Tensor, y: Tensor | None
) -> tuple[Any, Scored, Scored]:
    x, x_fake = (t.detach().clone().requires_grad_(holds.input_gradients) for t in (real, fake))
    y = torch.zeros(len(real), dtype=torch.long, device=real.device) if y is None else y
    a, b = D(torch.cat([x, x_fake]), torch.cat([y, y])).split(len(real))
    sides = Scored(x, y, a), Scored(x_fake, y, b)
    given = [(side, side.x, side.y, side.scores) for side in sides]
    seen(D).clear()
    try:
        with asking(f"{name}: penalty(D, real, fake), x of shape {tuple(real.shape)}, {real.dtype},"):
            value = holds.penalty(D, *sides)
    except AssertionError as raised:
        text = str(raised.__cause__).partition("\n")[0]
        if "not require grad" not in text and "not have been used" not in text:
            raise
        remedy = (
            "points x̂ of the penalty's own, at which it asks D, need x̂.requires_grad_()"
            if seen(D)
            else "a penalty that differentiates real.scores or fake.scores says input_gradients = True"
        )
        raise AssertionError(f"{name}: the scores cannot be differentiated by x ({text}); {remedy}") from raised
    same = all(side.x is x and side.y is y and side.scores is scores for side, x, y, scores in given)
    require(same, f"{name}: penalty puts other tensors in place of those it was given, which other constraints read")
    kept = real.device.type == "meta" or (torch.equal(x, real) and torch.equal(x_fake, fake))
    require(kept, f"{name}: penalty changes samples in place; other constraints read them")
    return value, *sides


def _sign_dtype_and_device(name: str, holds: Any) -> None:
    for dtype in (torch.float32, torch.float64):
        for shape, n in ((POINT, 8), (IMAGE, 4), (IMAGE, 1)):
            for critic in (linear(shape), linear(shape, 0.5), curved(shape), curved(shape, dropout=0.5)):
                D = _prepared(holds, critic).to(dtype)
                value, *_ = _penalty(name, holds, D, points(n, shape).to(dtype), points(n, shape).to(dtype))
                require(value.dtype == dtype, f"{name}: the penalty of a critic in {dtype} is in {value.dtype}")
                require(bool(value.isfinite()), f"{name}: the penalty of {n} samples {shape} is {value.item()}")
                require(value.item() >= 0, f"{name}: a penalty is ≥ 0, and is {value.item():.4g}")
    with elsewhere(f"{name}: penalty"):
        x = torch.zeros(4, *POINT, device=DEVICE, dtype=torch.float64)
        value, *_ = _penalty(name, holds, _prepared(holds, linear(POINT)).to(DEVICE), x, x)
        require(value.device.type == DEVICE, f"{name}: the penalty leaves the device of the critic")


def _reaches_weights_and_nothing_else(name: str, holds: Any) -> None:
    reached = False
    for critic in (linear(POINT, 50.0), curved(POINT), curved(POINT, dropout=0.5)):
        D = _prepared(holds, critic)
        before, modes = weights(D), [m.training for m in D.modules()]
        for p in D.parameters():
            p.grad = torch.full_like(p, 7.0)
        value, real, fake = _penalty(name, holds, D, points(8, POINT), points(8, POINT))
        kept = all(p.grad is not None and bool((p.grad == 7).all()) and p.requires_grad for p in D.parameters())
        require(kept, f"{name}: penalty fills, empties or freezes D's gradients; return it, and the engine descends it")
        kept = not changed(before, dict(D.named_parameters())) and modes == [m.training for m in D.modules()]
        require(kept, f"{name}: penalty changes D's weights, or its mode; that is for project, or wrap")
        require(real.x.grad is None and fake.x.grad is None, f"{name}: penalty leaves gradients on the samples")
        try:
            (real.scores.mean() - fake.scores.mean() + value).backward()
        except RuntimeError as error:
            require("second time" not in str(error), f"{name}: penalty frees the scores' graph; use create_graph=True")
            raise
        value, *_ = _penalty(name, holds, D, points(8, POINT), points(8, POINT))
        if value.requires_grad:
            slopes = torch.autograd.grad(value, list(D.parameters()), allow_unused=True)
            reached |= any(slope is not None and bool(slope.any()) for slope in slopes)
    hint = "is create_graph=True missing, or a graph detached?"
    require(reached, f"{name}: the penalty does not reach D's weights; {hint}")


def _one_epsilon_per_sample(name: str, holds: Any, shape: tuple[int, ...], n: int) -> None:
    """Where D is asked at points between real and fake: x̂ = εx + (1 - ε)G(z), ε a number of each sample's own.

    Such points depend on both sides, which others, as those around real samples, do not.
    """
    D, fake = _prepared(holds, curved(shape)), points(n, shape)
    real = fake + torch.rand(n, *shape, dtype=torch.float64) + 1

    def asked(seed: int, real: Tensor, fake: Tensor) -> list[Tensor]:
        torch.default_generator.manual_seed(seed)
        _penalty(name, holds, D, real, fake)
        return [x.detach() for x in seen(D)]

    situations = (asked(0, real, fake), asked(0, real + 1, fake), asked(0, real, fake + 1), asked(1, real, fake))
    for x, real_moved, fake_moved, drawn_again in zip(*situations, strict=False):
        if x.shape != real.shape or torch.equal(x, real_moved) or torch.equal(x, fake_moved):
            continue
        shares = ((x - fake) / (real - fake)).flatten(1)
        if bool(((shares.abs() < 1e-9) | ((shares - 1).abs() < 1e-9)).all()):
            continue  # each coordinate from one side or the other: a mask, no interpolation
        line = "x̂ depends on real and on fake samples, so it must lie on the line between them, x̂ = εx + (1 - ε)G(z)"
        spread = (shares.amax(1) - shares.amin(1)).max().item()
        ones = ", ".join("1" for _ in shape)
        require(
            spread < 1e-6,
            f"{name}: {line}; within one sample of shape {shape} ε varies by {spread:.2g}: its shape is (N, {ones})",
        )
        low, high = shares.min().item(), shares.max().item()
        between = low > -1e-6 and high < 1 + 1e-6
        require(between, f"{name}: {line}, and not beyond: ε is 0 to 1, and goes from {low:.2g} to {high:.2g}")
        by_chance = not torch.allclose(x, drawn_again)
        require(
            not by_chance or high - low > 1e-6,
            f"{name}: ε must be drawn for each sample, and one is used for the whole batch of {n}",
        )


def _any_batch_size(name: str, holds: Any) -> None:
    """One pair of samples, repeated: a linear critic has one gradient, whatever the number of samples."""
    for shape in (POINT, IMAGE):
        critic, real, fake = linear(shape), points(1, shape), points(1, shape)
        values = {}
        for n in (1, 4, 64):
            D = _prepared(holds, copy.deepcopy(critic))
            values[n] = _value(name, holds, D, real.expand(n, *shape), fake.expand(n, *shape))
        found = ", ".join(f"{value:.6g} at batch {n}" for n, value in values.items())
        require(
            _same(min(values.values()), max(values.values())),
            f"{name}: the penalty of one sample, repeated, must not depend on the size of the batch, and it is {found} "
            "(D linear, slope 2). Differentiate the sum of the scores, not the mean; take one norm per sample, "
            "gradient.flatten(1).norm(dim=1); and the mean over the batch at the end",
        )


def _any_batch_size_of_dropout(name: str, holds: Any) -> None:
    """What only a critic with dropout feels, as the distance of two passes: the same on the average, at any batch."""
    critic, real, fake = curved(POINT, dropout=0.5), points(1, POINT), points(1, POINT)
    if _value(name, holds, _prepared(holds, curved(POINT)), real, fake) != 0:
        return  # seen without dropout too
    means = {}
    for n, draws in ((1, 256), (64, 16)):
        D = _prepared(holds, copy.deepcopy(critic))
        sides = real.expand(n, *POINT), fake.expand(n, *POINT)
        means[n] = sum(_value(name, holds, D, *sides) for _ in range(draws)) / draws
    require(
        max(means.values()) <= 2 * min(means.values()) + 1e-9,
        f"{name}: the penalty of one sample, repeated, must not depend on the size of the batch, and on a critic with "
        f"dropout it is {means[1]:.4g} at batch 1 and {means[64]:.4g} at batch 64, on the average: is a sum or a norm "
        "taken over the batch, where a mean over samples is meant?",
    )


def _all_coordinates(name: str, holds: Any) -> None:
    """D sees its samples flattened: axes, and coordinates that it does not read, change no gradient's norm."""
    critic, real, fake = linear((32,)), points(4, (32,)), points(4, (32,))
    wide = linear((64,))
    with torch.no_grad():
        (weight,), (wide_weight,) = critic.parameters(), wide.parameters()
        wide_weight.copy_(torch.cat([weight, torch.zeros_like(weight)], dim=1))
    D = _prepared(holds, critic)
    flat = _value(name, holds, D, real, fake)
    if not _differentiates_by_samples(holds, D):
        return
    for shape in (IMAGE, (8, 4)):
        value = _value(name, holds, D, real.view(4, *shape), fake.view(4, *shape))
        require(
            _same(value, flat),
            f"{name}: one norm per sample, over all its coordinates: gradient.flatten(1).norm(dim=1). A linear critic "
            f"on 32 coordinates has the penalty {flat:.6g}, and on the same as {shape} {value:.6g}",
        )
    value = _value(name, holds, _prepared(holds, wide), torch.cat([real, real], 1), torch.cat([fake, fake], 1))
    require(
        _same(value, flat),
        f"{name}: ‖∇D‖² is a sum over coordinates, not a mean: 32 more coordinates that D does not read make "
        f"{value:.6g} of a penalty of {flat:.6g}",
    )


def _zero_gradient(name: str, holds: Any) -> None:
    for D, shape in ((linear(POINT, 0.0), POINT), (curved(POINT, last=0.0), POINT), (linear(IMAGE, 0.0), IMAGE)):
        value, *_ = _penalty(name, holds, D, points(4, shape), points(4, shape))
        require(bool(value.isfinite()), f"{name}: a critic that is 0 everywhere has the penalty {value.item()}")
        if value.requires_grad:
            slopes = torch.autograd.grad(value, list(D.parameters()), allow_unused=True)
            require(
                all(slope is None or bool(slope.isfinite().all()) for slope in slopes),
                f"{name}: where D's gradient by x is zero, the penalty's by D's weights is not finite: √(Σg²) has no "
                "derivative at 0; torch.linalg.vector_norm has the derivative 0 there",
            )


def _mean_of_samples(name: str, holds: Any) -> None:
    """With real = fake, all points between them are the same, so a penalty without other chance is determined.

    One that asks D at points around the samples is determined too where each label has its own slope.
    """
    makers: tuple[Callable[[], Critic], ...] = (lambda: curved(POINT), lambda: by_label(POINT))
    for make in makers:
        D, x, y = _prepared(holds, make()), points(5, POINT), torch.arange(5)
        batch, again = (_value(name, holds, D, x, x, y) for _ in range(2))
        if not _same(batch, again):
            continue  # it draws points or masks of its own
        mean = sum(_value(name, holds, D, x[i : i + 1], x[i : i + 1], y[i : i + 1]) for i in range(5)) / 5
        require(
            _same(batch, mean),
            f"{name}: the penalty of a batch must be the mean of its samples' penalties, {mean:.6g}, and is "
            f"{batch:.6g}; is the mean taken before the square, or the gradient's norm over the batch?",
        )


def _holds_back(name: str, holds: Any) -> None:
    real, fake = points(64, POINT), points(64, POINT)
    flat, steep = (_value(name, holds, _prepared(holds, linear(POINT, slope)), real, fake) for slope in (0.5, 100.0))
    require(
        steep >= flat - 1e-9,
        f"{name}: a penalty holds the critic back, and a slope of 100 costs {steep:.4g} where ½ costs {flat:.4g}; "
        "is a difference swapped?",
    )


def _differentiates_by_samples(holds: Any, D: nn.Module) -> bool:
    """Whether the penalty that was last asked for did, by real.x or fake.x, or by points of its own."""
    return holds.input_gradients or any(x.requires_grad for x in seen(D))


def _refuses_mixed_samples(name: str, holds: Any) -> None:
    D = _prepared(holds, curved(POINT))
    _penalty(name, holds, D, points(8, POINT), points(8, POINT))
    if not _differentiates_by_samples(holds, D):
        return
    batch_norm = Critic(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    says_so = curved(POINT)
    says_so.mixes_samples = True  # type: ignore[assignment]
    for critic, where in ((batch_norm, "under BatchNorm"), (says_so, "where a module says mixes_samples = True")):
        require(
            refusal(name, holds, critic) is not None,
            f"{name} differentiates D by its samples, and {where} ∂D(x)_i/∂x_j ≠ 0: check(D) must raise ValueError "
            "for a critic that mixes samples; ganframe.refuse_mixed_samples(D) does",
        )


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
