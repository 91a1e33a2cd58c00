"""A constraint called as the engine calls it, on discriminators of the kit."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ganframe.components import Constraint, Scored
from ganframe.testing.common import calling, require
from ganframe.testing.discriminators import IMAGE, POINT, curved, points, seen
from ganframe.training.penalties import remedy


def refusal(name: str, constraint: Any, D: nn.Module) -> str | None:
    """The reason why the constraint's `check` refuses D, or None."""
    with calling(f"{name}.check(D), which must raise ValueError for an unsupported D,"):
        try:
            constraint.check(D)
        except ValueError as error:
            return str(error)
    return None


def wraps(constraint: Any) -> bool:
    return type(constraint).wrap is not Constraint.wrap


def prepared(constraint: Any, D: nn.Module, seed: int = 1) -> Any:
    """The discriminator that a penalty receives: the result of `wrap`, in D's dtype.

    What `wrap` adds with random weights is the same for each discriminator of one shape.
    """
    if not wraps(constraint):
        return D
    dtype, random = next(D.parameters()).dtype, torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    wrapped = constraint.wrap(D)
    torch.set_rng_state(random)
    return wrapped.to(dtype) if isinstance(wrapped, nn.Module) else wrapped


@functools.lru_cache(maxsize=64)
def plain_shape(constraint: Any) -> tuple[int, ...]:
    """The shape of samples on which most checks run: points, or images where the constraint refuses points.

    A constraint for images only, as an augmentation, raises ValueError for points in the wrapped D or in its penalty.
    """
    x, y = points(4, POINT), torch.zeros(4, dtype=torch.long)
    with torch.random.fork_rng(devices=[]):
        try:
            D = prepared(constraint, curved(POINT))
            real, fake = (Scored(x, y, D(x, y)) for x in (x.clone().requires_grad_(), x.clone().requires_grad_()))
            constraint.penalty(D, real, fake)
        except ValueError:
            return IMAGE
        except Exception:  # the checks tell what is wrong
            return POINT
    return POINT


@contextmanager
def same_state(D: nn.Module) -> Iterator[None]:
    """D's weights and buffers are as before afterwards, so that two values can be compared."""
    before = {key: tensor.detach().clone() for key, tensor in D.state_dict(keep_vars=True).items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for key, tensor in D.state_dict(keep_vars=True).items():
                if key in before:
                    tensor.copy_(before[key])


def penalty_of(
    name: str, constraint: Any, D: nn.Module, real: Tensor, fake: Tensor, y: Tensor | None = None
) -> tuple[Tensor, Scored, Scored]:
    """Returns the penalty, called as the engine calls it, and both sides that were passed to it.

    A lazy penalty returns None in most steps, so it is called until it returns a value.
    """
    for _ in range(64):
        value, *sides = call(name, constraint, D, real, fake, y)
        if value is not None:
            break
    require(isinstance(value, Tensor), f"{name}: penalty must be a tensor, not {type(value).__name__}")
    require(value.shape == (), f"{name}: penalty must be a scalar; its shape is {tuple(value.shape)}")
    return value, *sides


def value_of(name: str, constraint: Any, D: nn.Module, real: Tensor, fake: Tensor, y: Tensor | None = None) -> float:
    """The penalty as a number. D's state is as before afterwards: moving means do not move."""
    with same_state(D):
        return penalty_of(name, constraint, D, real, fake, y)[0].item()


def call(
    name: str, constraint: Any, D: nn.Module, real: Tensor, fake: Tensor, y: Tensor | None
) -> tuple[Any, Scored, Scored]:
    x, x_fake = (t.detach().clone().requires_grad_(constraint.input_gradients) for t in (real, fake))
    y = torch.zeros(len(real), dtype=torch.long, device=real.device) if y is None else y
    a, b = D(torch.cat([x, x_fake]), torch.cat([y, y])).split(len(real))
    sides = Scored(x, y, a), Scored(x_fake, y, b)
    given = [(side, side.x, side.y, side.scores) for side in sides]
    seen(D).clear()
    try:
        with calling(f"{name}: penalty(D, real, fake), x of shape {tuple(real.shape)}, {real.dtype},"):
            value = constraint.penalty(D, *sides)
    except AssertionError as raised:
        text = str(raised.__cause__).partition("\n")[0]
        found = remedy(text, called=bool(seen(D)))
        if not found:
            raise
        raise AssertionError(f"{name}: {found}") from raised
    untouched = all(side.x is x and side.y is y and side.scores is scores for side, x, y, scores in given)
    require(untouched, f"{name}: penalty replaces the tensors of real or fake; other constraints read them")
    kept = real.device.type == "meta" or (torch.equal(x, real) and torch.equal(x_fake, fake))
    require(kept, f"{name}: penalty changes samples in place; other constraints read them")
    return value, *sides


def differentiates_by_samples(constraint: Any, D: nn.Module) -> bool:
    """Whether the last penalty differentiated D with respect to real.x, fake.x or other points."""
    return constraint.input_gradients or any(x.requires_grad for x in seen(D))


def reads_scores_only(constraint: Any, D: nn.Module) -> bool:
    """Whether the last penalty neither called D nor differentiates its scores by samples."""
    return not constraint.input_gradients and not seen(D)


def same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
