"""Checks of data against its spec, before anything trains on it. `ganframe.testing.check_dataset` asks the same.

All of them raise ValueError, with a message for the user.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset, default_collate

from ganframe.components import DataSpec, Distribution
from ganframe.data.randomness import kept_random_state
from ganframe.errors import RunError
from ganframe.plugins.registry import STRICT_VARIABLE

CHECKED_ITEMS = 64
"""Number of items to check of data that is read item by item: evenly spaced, with the first and the last."""

LARGEST = torch.finfo(torch.float32).max
ROUNDING = 1e-3  # images may lie beyond ±1 by so much


def check_data(data: Any, spec: DataSpec) -> None:
    """Raises ValueError where samples, labels or conditions are not what `spec` says.

    Of a TensorDataset all samples are checked, of other finite data CHECKED_ITEMS, of a stream as many, its first ones,
    of a distribution as many draws. The
    random states of torch, numpy and Python are not changed.
    """
    if type(spec) is not DataSpec:
        name = type(spec).__name__
        raise ValueError(f"the spec is a {name}, whose generator could not be loaded; return a plain DataSpec")
    if not isinstance(data, TorchDataset):
        raise ValueError(f"build must return a torch dataset, not {type(data).__name__}")
    with kept_random_state():
        if isinstance(data, Distribution):
            _check_draws(data, spec)
            return
        if isinstance(data, IterableDataset):
            indices = [*range(CHECKED_ITEMS)]
            check_samples(*read_items(data, spec, indices), spec, indices)
            return
        count = check_length(data)
        if is_indexed(data) and len(data.tensors) != 2:
            raise ValueError(f"a TensorDataset must hold x and y, not {_number(len(data.tensors), 'tensor')}")
        indices = spread(count)
        check_samples(*read_items(data, spec, indices), spec, indices)
        if is_indexed(data):
            x, y = data.tensors
            check_samples(x, y, spec)


def is_indexed(data: TorchDataset[Any]) -> TypeGuard[TensorDataset]:
    """Whether the items of `data` are the rows of its tensors: not where a subclass makes items of its own of them."""
    return isinstance(data, TensorDataset) and type(data).__getitem__ is TensorDataset.__getitem__


def check_length(data: Any) -> int:
    """The number of samples of finite data, which is read by index."""
    try:
        count = None if isinstance(data, IterableDataset) else len(data)
    except (TypeError, NotImplementedError):
        count = None
    if count is None:
        raise ValueError(
            f"the data must have a length and items that are read by index, and {type(data).__name__} has not; define "
            "__len__ and __getitem__, or return a ganframe.Distribution, which is sampled without end"
        )
    if count == 0:
        raise ValueError("the data must have a length greater than 0; it is empty")
    return count


def spread(count: int) -> list[int]:
    """CHECKED_ITEMS indices of `count`, or all."""
    return sorted({round(i * (count - 1) / (CHECKED_ITEMS - 1)) for i in range(CHECKED_ITEMS)})


def read_items(data: Any, spec: DataSpec, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """These items as one batch, x (N, *shape) and y (N,) or (N, *condition). Their values are not checked.

    A stream is begun anew, and may have fewer.
    """
    items = []
    found = _first(data, indices) if isinstance(data, IterableDataset) else (_item(data, index) for index in indices)
    for index, item in zip(indices, found, strict=False):
        check_item(item, spec, f"item {index}")
        items.append(item)
    if not items:
        raise ValueError("the stream must have samples; it is empty")
    x, y = default_collate(items)
    if spec.condition is None and y.dtype != torch.long:
        raise ValueError(
            f"labels must be int64 (torch.long), as one_hot and embeddings require, not {y.dtype}; write y.long()"
        )
    return x, y


def _first(data: IterableDataset[Any], indices: Sequence[int]) -> Iterator[Any]:
    """These items of a stream, in their order."""
    items, at = iter(data), 0
    for index in indices:
        rest = itertools.islice(items, index - at, index - at + 1)
        found = _called(functools.partial(list, rest), f"item {index} of the stream")
        if not found:
            return
        yield found[0]
        at = index + 1


def _item(data: Any, index: int) -> Any:
    return _called(lambda: data[index], f"item {index} of {len(data)}")


def _called(read: Callable[[], Any], name: str) -> Any:
    try:
        return read()
    except (MemoryError, torch.OutOfMemoryError, OSError, RunError):
        raise
    except Exception as error:
        if os.environ.get(STRICT_VARIABLE) == "1":
            raise
        text = str(error).partition("\n")[0]
        raise ValueError(
            f"{name} raised {type(error).__name__}{text and ': '}{text}; {STRICT_VARIABLE}=1 shows where"
        ) from error


def check_item(item: Any, spec: DataSpec, name: str) -> None:
    """An item must be a pair of a tensor x and one y. `name` is what messages call it."""
    if not (isinstance(item, (tuple, list)) and len(item) == 2):
        raise ValueError(f"{name} must be a pair (x, y), with y = 0 if there are no labels, not {_shown(item)}")
    x, y = item
    if not isinstance(x, Tensor):
        raise ValueError(
            f"x of {name} must be a tensor, not {type(x).__name__}; make one with torch.from_numpy or torchvision's "
            "transforms"
        )
    if tuple(x.shape) != spec.shape:
        raise ValueError(f"{name} has the shape {tuple(x.shape)}, but spec.shape is {spec.shape}")
    if spec.condition is not None:
        if not (isinstance(y, Tensor) and tuple(y.shape) == spec.condition):
            found = tuple(y.shape) if isinstance(y, Tensor) else _shown(y)
            raise ValueError(f"y of {name} must be a tensor of spec.condition, {spec.condition}, not {found}")
        return
    label = torch.as_tensor(y) if isinstance(y, (int, Tensor)) or hasattr(y, "dtype") else torch.zeros(0)
    if label.shape != () or label.dtype.is_floating_point or label.dtype.is_complex or label.dtype == torch.bool:
        raise ValueError(f"y of {name}, its label, must be one integer, not {_shown(y)}{_remedy(label, spec)}")


def _remedy(label: Tensor, spec: DataSpec) -> str:
    if spec.classes is not None and label.shape == (spec.classes,) and spec.classes > 1:
        return "; of one-hot labels take y.argmax(1)"
    if label.shape == (1,):
        return "; of a column of labels take y[:, 0]"
    return "; write y.long()" if label.shape == () else ""


def in_range(x: Tensor, spec: DataSpec) -> Tensor:
    """Samples x of a generator, images clipped to [-1, 1] in place: not every network ends in a tanh.

    Infinite values and NaN stay, so that a network that diverged is found out. x has no graph.
    """
    for part in x.split(256) if spec.is_image else ():  # copies of few samples at a time
        part.copy_(torch.where(part.isfinite(), part.clamp(-1, 1), part))
    return x


def check_samples(x: Tensor, y: Tensor, spec: DataSpec, rows: Sequence[int] | None = None) -> None:
    """Values of samples x (N, *shape) and their y, whose forms are right. `rows` are their numbers for messages.

    Samples are finite, images lie in [-1, 1] or are uint8, labels in 0..classes - 1, 0 without classes.
    """
    _check_columns(x, spec)
    pixels = spec.is_image and x.dtype == torch.uint8
    if not pixels and not x.is_floating_point():
        raise ValueError(f"x must have a float dtype, or uint8 for images, not {x.dtype}")
    if not pixels:
        low, high = _range(x, "samples", rows)
        if spec.is_image and not (low >= -1 - ROUNDING and high <= 1 + ROUNDING):
            raise ValueError(
                f"images must have values in [-1, 1]; these are in [{low:.3g}, {high:.3g}]; scale them, or give uint8 "
                "in 0..255, which is scaled later"
            )
    if spec.condition is not None:
        if not _is_pixels(y[0]) and not y.is_floating_point():
            raise ValueError(f"conditions must have a float dtype, or uint8 for images (C, H, W), not {y.dtype}")
        if y.is_floating_point():
            _range(y, "conditions", rows)
        return
    low, high = (int(value) for value in y.aminmax())
    if spec.classes is None and not low == high == 0:
        raise ValueError(
            f"without classes every y must be 0; found {low if low else high}; give the spec its number of classes, or "
            "return y = 0"
        )
    if spec.classes is not None and not (low >= 0 and high < spec.classes):
        raise ValueError(f"with {spec.classes} classes y must be 0 to {spec.classes - 1}; found {low} to {high}")


def _range(x: Tensor, what: str, rows: Sequence[int] | None) -> tuple[float, float]:
    """The smallest and the largest value. Raises ValueError where one is NaN, infinite, or not so in float32."""
    low, high = (value.item() for value in x.aminmax())  # one pass without a copy; NaN where any value is
    if low >= -LARGEST and high <= LARGEST:
        return low, high
    wrong = ~(x.flatten(1).abs() <= LARGEST)
    index = int(wrong.any(1).nonzero()[0])
    value = x[index].flatten()[wrong[index]][0].item()
    others = int(wrong.any(1).sum()) - 1
    item = f"item {index if rows is None else rows[index]}"
    more = f", as {others} more of {len(x)}" if others else ""
    beyond = ", too large for float32" if math.isfinite(value) else ""
    raise ValueError(
        f"some {what} are non-finite: {item} has {value:.4g}{beyond}{more}; remove these items or fill what is missing"
    )


def _check_columns(x: Tensor, spec: DataSpec) -> None:
    """Blocks wider than 1 hold one 1 and else zeros."""
    for block in x.split(spec.columns, dim=1) if spec.columns else ():
        one_hot = bool(((block == 0) | (block == 1)).all()) and bool((block.sum(1) == 1).all())
        if block.shape[1] > 1 and not one_hot:
            raise ValueError(
                "a block of spec.columns wider than 1 is a category in one-hot form, but one of width "
                f"{block.shape[1]} has other values"
            )


def _check_draws(data: Distribution, spec: DataSpec) -> None:
    """What a distribution draws, for one sample and for several."""
    for n in (1, CHECKED_ITEMS):
        check_drawn(data.draw(n, torch.Generator().manual_seed(0)), n, spec)


def check_drawn(drawn: Any, n: int, spec: DataSpec) -> None:
    """What `draw(n, generator)` returned: x (n, *shape), float, and y."""
    if not (isinstance(drawn, tuple) and len(drawn) == 2):
        raise ValueError(f"draw must return a pair (x, y), not {_shown(drawn)}")
    x, y = drawn
    if not isinstance(x, Tensor) or tuple(x.shape) != (n, *spec.shape):
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"draw({n}, …) must return x of shape {(n, *spec.shape)}, not {found}")
    if not isinstance(y, Tensor):
        raise ValueError(f"draw must return labels y, 0 without classes, not {type(y).__name__}")
    if spec.condition is None:
        right, wanted = y.shape == (n,) and y.dtype == torch.long, f"({n},), int64"
    else:
        right, wanted = y.shape == (n, *spec.condition), f"{(n, *spec.condition)}, float"
    if not right:
        raise ValueError(f"draw({n}, …) must return y of shape {wanted}, not {tuple(y.shape)}, {y.dtype}")
    check_samples(x, y, spec)


def check_condition(y: Tensor, condition: tuple[int, ...]) -> None:
    """Raises ValueError unless y is one condition of this shape: floats, or an image in uint8."""
    if tuple(y.shape) != condition:
        raise ValueError(f"conditions have shape {tuple(y.shape)}; the data's spec says {condition}")
    if not y.is_floating_point() and not _is_pixels(y):
        kind = str(y.dtype).removeprefix("torch.")
        raise ValueError(f"conditions are {kind}; make them floats, or uint8 if they are images (C, H, W)")


def _is_pixels(y: Tensor) -> bool:
    return y.dtype == torch.uint8 and y.ndim == 3


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _shown(value: Any) -> str:
    if isinstance(value, Tensor) and value.ndim:
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return " ".join(f"{type(value).__name__} {str(value)[:40]}".split())
