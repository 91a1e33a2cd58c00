"""Checks of datasets: the samples from `build` must match `spec`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset, default_collate

from ganframe.components import Dataset, DataSpec, Distribution
from ganframe.testing.common import calling, checked, configured, require, require_same_device

CHECKED_ITEMS = 64
"""Number of items to check: evenly spaced, including the first and the last."""


@checked
def check_dataset(dataset: Dataset | type[Dataset]) -> None:
    """Checks a dataset's `spec` and the samples that `build` returns.

    Samples x are finite float tensors of spec.shape; images have values in [-1, 1], or dtype uint8. Labels y are
    integers in 0..classes - 1, and 0 if spec.classes is None; conditions are finite float tensors of spec.condition, or
    uint8 if that is the shape of an image. Blocks of spec.columns wider than 1 are one-hot. `held_out` returns None or
    data of the same form, and `decode` accepts samples. Two builds from one seed return the same samples. A
    `Distribution` draws with the given generator only, on that generator's device.

    Raises AssertionError for the first property that is violated.
    """
    config = configured(dataset, Dataset)
    name = type(config).__qualname__
    spec = _spec(name, config)
    require(type(config).build is not Dataset.build, f"{name} has no build")
    data, again = (_build(name, config) for _ in range(2))
    if isinstance(data, Distribution):
        _check_distribution(name, spec, data)
        _check_others(name, spec, config, data.draw(4, torch.Generator().manual_seed(0))[0])
        return
    require(hasattr(data, "__len__") and len(data) > 0, f"{name}: the data must have a length greater than 0")
    if isinstance(data, TensorDataset):
        require(len(data.tensors) == 2, f"{name}: a TensorDataset must hold x and y, not {len(data.tensors)} tensors")
    indices = _check_stored(name, spec, data)
    _check_others(name, spec, config, _items(name, spec, data, indices[:4])[0])
    torch.default_generator.manual_seed(2)
    first = _items(name, spec, data, indices[:4])
    torch.default_generator.manual_seed(2)
    second = _items(name, spec, again, indices[:4])
    same = torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    require(same, f"{name}: two builds from one seed must return the same samples, or runs are not reproducible")


def _check_stored(name: str, spec: DataSpec, data: Any) -> list[int]:
    """Checks items of a finite dataset, and returns their indices."""
    indices = sorted({round(i * (len(data) - 1) / (CHECKED_ITEMS - 1)) for i in range(CHECKED_ITEMS)})
    _check_samples(name, spec, *_items(name, spec, data, indices))
    if isinstance(data, TensorDataset):
        _check_samples(name, spec, *data.tensors)  # all samples
    return indices


def _check_others(name: str, spec: DataSpec, config: Any, x: Tensor) -> None:
    """`held_out` and `decode`."""
    with calling(f"{name}: held_out()"):
        held_out = config.held_out()
    if held_out is not None:
        right = isinstance(held_out, TorchDataset)
        require(right, f"{name}: held_out must return a torch dataset or None, not {type(held_out).__name__}")
        if isinstance(held_out, Distribution):
            _check_distribution(f"{name}.held_out", spec, held_out)
        else:
            has_length = hasattr(held_out, "__len__") and len(held_out) > 0
            require(has_length, f"{name}: held_out must have samples; return None if there are none")
            _check_stored(f"{name}.held_out", spec, held_out)
    before = x.clone()
    with calling(f"{name}: decode(x), x of shape {tuple(x.shape)},"):
        config.decode(x)
    require(torch.equal(before, x), f"{name}: decode changes samples in place")


def _build(name: str, config: Any) -> Any:
    torch.default_generator.manual_seed(1)
    data = config.build()
    require(isinstance(data, TorchDataset), f"{name}: build must return a torch dataset, not {type(data).__name__}")
    return data


def _spec(name: str, config: Any) -> DataSpec:
    try:
        spec = config.spec
    except ValueError as error:
        raise AssertionError(f"{name}: spec: {error}") from error
    hint = "; it must be a property" if callable(spec) else ""
    require(isinstance(spec, DataSpec), f"{name}: spec must be a ganframe.DataSpec, not {type(spec).__name__}{hint}")
    return spec


def _items(name: str, spec: DataSpec, data: Any, indices: list[int]) -> tuple[Tensor, Tensor]:
    """Returns the items as one batch, x (N, *shape) and y (N,)."""
    items = []
    for index in indices:
        with calling(f"{name}: item {index} of {len(data)}"):
            item = data[index]
        pair = isinstance(item, (tuple, list)) and len(item) == 2
        require(
            pair, f"{name}: item {index} must be a pair (x, y), with y = 0 if there are no labels, not {_shown(item)}"
        )
        x, y = item
        require(isinstance(x, Tensor), f"{name}: x of item {index} must be a tensor, not {type(x).__name__}")
        right = tuple(x.shape) == spec.shape
        require(right, f"{name}: item {index} has the shape {tuple(x.shape)}, but spec.shape is {spec.shape}")
        if spec.condition is not None:
            right = isinstance(y, Tensor) and tuple(y.shape) == spec.condition
            found = tuple(y.shape) if isinstance(y, Tensor) else _shown(y)
            require(
                right, f"{name}: y of item {index} must be a tensor of spec.condition, {spec.condition}, not {found}"
            )
            items.append((x, y))
            continue
        number = isinstance(y, (int, Tensor)) or hasattr(y, "dtype")
        label = torch.as_tensor(y) if number else torch.zeros(1)
        integer = label.shape == () and not label.is_floating_point() and label.dtype != torch.bool
        require(integer, f"{name}: y of item {index} must be one integer, not {_shown(y)}")
        items.append((x, y))
    x, y = default_collate(items)
    require(
        spec.condition is not None or y.dtype == torch.long,
        f"{name}: labels must be int64 (torch.long), as one_hot and embeddings require, not {y.dtype}",
    )
    return x, y


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]}"


def _check_samples(name: str, spec: DataSpec, x: Tensor, y: Tensor) -> None:
    _check_columns(name, spec, x)
    image = spec.is_image and x.dtype == torch.uint8
    require(image or x.is_floating_point(), f"{name}: x must have a float dtype, or uint8 for images, not {x.dtype}")
    require(bool(x.isfinite().all()), f"{name}: some samples are non-finite")
    if spec.is_image and not image:
        low, high = x.min().item(), x.max().item()
        within = low >= -1.001 and high <= 1.001
        require(within, f"{name}: images must have values in [-1, 1]; these are in [{low:.3g}, {high:.3g}]")
    if spec.condition is not None:
        pixels = len(spec.condition) == 3 and y.dtype == torch.uint8
        right = pixels or y.is_floating_point()
        require(right, f"{name}: conditions must have a float dtype, or uint8 for images (C, H, W), not {y.dtype}")
        require(bool(y.isfinite().all()), f"{name}: some conditions are non-finite")
        return
    low, high = int(y.min()), int(y.max())
    if spec.classes is None:
        require(low == high == 0, f"{name}: without classes every y must be 0; found {low if low else high}")
    else:
        within = low >= 0 and high < spec.classes
        require(within, f"{name}: with {spec.classes} classes y must be 0 to {spec.classes - 1}; found {low} to {high}")


def _check_columns(name: str, spec: DataSpec, x: Tensor) -> None:
    """Blocks wider than 1 hold one 1 and else zeros."""
    for block in x.split(spec.columns or (), dim=1) if spec.columns else ():
        one_hot = bool(((block == 0) | (block == 1)).all()) and bool((block.sum(1) == 1).all())
        require(
            block.shape[1] == 1 or one_hot,
            f"{name}: a block of spec.columns wider than 1 is a category in one-hot form, but one of width "
            f"{block.shape[1]} has other values",
        )


def _check_distribution(name: str, spec: DataSpec, data: Distribution) -> None:
    def draw(seed: int, n: int = CHECKED_ITEMS, default_seed: int = 0) -> tuple[Tensor, Tensor]:
        torch.default_generator.manual_seed(default_seed)
        drawn = data.draw(n, torch.Generator().manual_seed(seed))
        require(isinstance(drawn, tuple) and len(drawn) == 2, f"{name}: draw must return a pair (x, y)")
        return drawn

    for n in (1, CHECKED_ITEMS):
        x, y = draw(0, n)
        right = tuple(x.shape) == (n, *spec.shape)
        require(right, f"{name}: draw({n}, …) must return x of shape {(n, *spec.shape)}, not {tuple(x.shape)}")
        require(isinstance(y, Tensor), f"{name}: draw must return labels y, 0 without classes, not {type(y).__name__}")
        if spec.condition is None:
            right, wanted = y.shape == (n,) and y.dtype == torch.long, f"({n},), int64"
        else:
            right, wanted = y.shape == (n, *spec.condition) and y.is_floating_point(), f"{(n, *spec.condition)}, float"
        require(right, f"{name}: draw({n}, …) must return y of shape {wanted}, not {tuple(y.shape)}, {y.dtype}")
        require(x.is_floating_point(), f"{name}: draw must return x of a float dtype, not {x.dtype}")
        _check_samples(name, spec, x, y)
    x, y = draw(0)
    same = draw(0, default_seed=1)
    require(
        torch.equal(x, same[0]) and torch.equal(y, same[1]),
        f"{name}: draw must use only the generator it is given; the same seed returns different samples",
    )
    point = bool((x == x[:1]).all())  # a distribution on one point
    require(point or not torch.equal(x, draw(1)[0]), f"{name}: draw returns the same samples for every seed")
    generator = torch.Generator().manual_seed(0)
    (x, _), (next_x, _) = (data.draw(CHECKED_ITEMS, generator) for _ in range(2))
    require(
        point or not torch.equal(x, next_x),
        f"{name}: draw returns the same samples again although the generator has advanced",
    )
    before = torch.get_rng_state()
    data.draw(1, generator)
    require(
        torch.equal(before, torch.get_rng_state()),
        f"{name}: draw must use only the generator it is given; it advances torch's default generator",
    )
    _items(name, spec, data, [0, len(data) - 1])
    # With another default device, a tensor created without `device=` is not on the generator's device.
    with require_same_device(f"{name}: draw"), torch.device("meta"):
        x, y = data.draw(4, torch.Generator("cpu"))
        require(x.device.type == y.device.type == "cpu", f"{name}: draw must return tensors on the generator's device")
