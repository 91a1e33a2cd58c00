"""Checks of datasets: what `spec` says is what `build` gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset, default_collate

from ganframe.components import Dataset, DataSpec, Distribution
from ganframe.testing.common import asking, checked, configured, elsewhere, require

LOOKED_AT = 64
"""Items that are looked at: evenly spaced, the first and the last among them."""


@checked
def check_dataset(dataset: Dataset | type[Dataset]) -> None:
    """A dataset's `spec`, and the samples that it builds.

    Samples x are finite float tensors of spec.shape, images within [-1, 1] or in uint8; labels y are integers in
    0..classes - 1, and 0 where spec.classes is None. Built twice from one seed it gives the same samples. A
    `Distribution` draws with the generator that it is given and no other, on that generator's device.

    Raises AssertionError for the first of these that does not hold.
    """
    config = configured(dataset, Dataset)
    name = type(config).__qualname__
    spec = _spec(name, config)
    require(type(config).build is not Dataset.build, f"{name} has no build")
    data, again = (_build(name, config) for _ in range(2))
    if isinstance(data, Distribution):
        _check_distribution(name, spec, data)
        return
    require(hasattr(data, "__len__") and len(data) > 0, f"{name}: the data must have a length, and more than nothing")
    if isinstance(data, TensorDataset):
        require(
            len(data.tensors) == 2, f"{name}: a TensorDataset must hold x and y, and holds {len(data.tensors)} tensors"
        )
    indices = sorted({round(i * (len(data) - 1) / (LOOKED_AT - 1)) for i in range(LOOKED_AT)})
    x, y = _items(name, spec, data, indices)
    _check_samples(name, spec, x, y)
    if isinstance(data, TensorDataset):
        _check_samples(name, spec, *data.tensors)  # all that there is
    torch.default_generator.manual_seed(2)
    first = _items(name, spec, data, indices[:4])
    torch.default_generator.manual_seed(2)
    second = _items(name, spec, again, indices[:4])
    same = torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    require(same, f"{name}: built twice from one seed it must give the same samples, or no run could be repeated")


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
    """The items as one batch, x (N, *shape) and y (N,)."""
    items = []
    for index in indices:
        with asking(f"{name}: item {index} of {len(data)}"):
            item = data[index]
        pair = isinstance(item, (tuple, list)) and len(item) == 2
        require(pair, f"{name}: item {index} must be a pair (x, y), y = 0 without labels, not {_shown(item)}")
        x, y = item
        require(isinstance(x, Tensor), f"{name}: x of item {index} must be a tensor, not {type(x).__name__}")
        right = tuple(x.shape) == spec.shape
        require(right, f"{name}: item {index} has the shape {tuple(x.shape)}, and spec.shape is {spec.shape}")
        number = isinstance(y, (int, Tensor)) or hasattr(y, "dtype")
        label = torch.as_tensor(y) if number else torch.zeros(1)
        whole = label.shape == () and not label.is_floating_point() and label.dtype != torch.bool
        require(whole, f"{name}: y of item {index} must be one integer, not {_shown(y)}")
        items.append((x, y))
    x, y = default_collate(items)
    require(
        y.dtype == torch.long,
        f"{name}: labels must be long (int64), as one_hot and embeddings take them, not {y.dtype}",
    )
    return x, y


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]}"


def _check_samples(name: str, spec: DataSpec, x: Tensor, y: Tensor) -> None:
    image = spec.is_image and x.dtype == torch.uint8
    require(
        image or x.is_floating_point(), f"{name}: x must be floats, or uint8 where samples are images, not {x.dtype}"
    )
    require(bool(x.isfinite().all()), f"{name}: there are samples that are not finite")
    if spec.is_image and not image:
        low, high = x.min().item(), x.max().item()
        within = low >= -1.001 and high <= 1.001
        require(within, f"{name}: images lie in [-1, 1], and these in [{low:.3g}, {high:.3g}]")
    low, high = int(y.min()), int(y.max())
    if spec.classes is None:
        require(low == high == 0, f"{name}: without classes every y is 0, and there is {low if low else high}")
    else:
        within = low >= 0 and high < spec.classes
        require(
            within, f"{name}: with {spec.classes} classes y is 0 to {spec.classes - 1}, and there is {low} to {high}"
        )


def _check_distribution(name: str, spec: DataSpec, data: Distribution) -> None:
    def draw(seed: int, n: int = LOOKED_AT, elsewhere_seed: int = 0) -> tuple[Tensor, Tensor]:
        torch.default_generator.manual_seed(elsewhere_seed)
        drawn = data.draw(n, torch.Generator().manual_seed(seed))
        require(isinstance(drawn, tuple) and len(drawn) == 2, f"{name}: draw must return a pair x, y")
        return drawn

    for n in (1, LOOKED_AT):
        x, y = draw(0, n)
        right = tuple(x.shape) == (n, *spec.shape)
        require(right, f"{name}: draw({n}, …) must give x of shape {(n, *spec.shape)}, and gives {tuple(x.shape)}")
        require(isinstance(y, Tensor), f"{name}: draw must give labels y, 0 without classes, not {type(y).__name__}")
        whole = y.shape == (n,) and y.dtype == torch.long
        require(whole, f"{name}: draw({n}, …) must give y of shape ({n},), long, and gives {tuple(y.shape)}, {y.dtype}")
        require(x.is_floating_point(), f"{name}: draw must give floats, and gives {x.dtype}")
        _check_samples(name, spec, x, y)
    x, y = draw(0)
    same = draw(0, elsewhere_seed=1)
    require(
        torch.equal(x, same[0]) and torch.equal(y, same[1]),
        f"{name}: draw must use the generator it is given and no other chance: from one seed it gives other samples",
    )
    point = bool((x == x[:1]).all())  # a distribution of one point
    require(point or not torch.equal(x, draw(1)[0]), f"{name}: draw gives the same samples from every seed")
    generator = torch.Generator().manual_seed(0)
    (x, _), (next_x, _) = (data.draw(LOOKED_AT, generator) for _ in range(2))
    require(
        point or not torch.equal(x, next_x), f"{name}: draw gives the same samples again from a generator that went on"
    )
    before = torch.get_rng_state()
    data.draw(1, generator)
    require(
        torch.equal(before, torch.get_rng_state()),
        f"{name}: draw must use the generator it is given, and moves torch's own",
    )
    _items(name, spec, data, [0, len(data) - 1])
    # Under another default device whatever is made without `device=` lands elsewhere than the generator's own.
    with elsewhere(f"{name}: draw"), torch.device("meta"):
        x, y = data.draw(4, torch.Generator("cpu"))
        require(x.device.type == y.device.type == "cpu", f"{name}: draw must stay on the generator's device")
