"""Checks of datasets: the samples from `build` must match `spec`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

from ganframe.components import Dataset, DataSpec, Distribution
from ganframe.data.checks import CHECKED_ITEMS, check_data, check_drawn, read_items, spread
from ganframe.errors import RunError
from ganframe.testing.common import calling, checked, configured, require, require_same_device


@checked
def check_dataset(dataset: Dataset | type[Dataset]) -> None:
    """Checks a dataset's `spec` and the samples that `build` returns.

    Samples x are finite float tensors of spec.shape; images have values in [-1, 1], or dtype uint8. Labels y are
    integers in 0..classes - 1, and 0 if spec.classes is None; conditions are finite float tensors of spec.condition, or
    uint8 if that is the shape of an image. Blocks of spec.columns wider than 1 are one-hot. `held_out` returns None or
    data of the same form. `decode` accepts samples, and their y where the data has labels or conditions, and a `scheme`
    where there is one. Two builds from one seed return the same samples. A `Distribution` draws with the given
    generator only, on that generator's device, around its `modes`.

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
    with _refused(name):
        check_data(data, spec)
    indices = [*range(4)] if isinstance(data, IterableDataset) else spread(len(data))[:4]
    torch.default_generator.manual_seed(2)
    with _refused(name):
        first = read_items(data, spec, indices)
    _check_others(name, spec, config, first[0])
    torch.default_generator.manual_seed(2)
    with _refused(name):
        second = read_items(again, spec, indices)
    same = torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    require(same, f"{name}: two builds from one seed must return the same samples, or runs are not reproducible")


def _check_others(name: str, spec: DataSpec, config: Any, x: Tensor) -> None:
    """`held_out`, `decode` and `scheme`."""
    with calling(f"{name}: held_out()"):
        held_out = config.held_out()
    if held_out is not None:
        right = isinstance(held_out, TorchDataset)
        require(right, f"{name}: held_out must return a torch dataset or None, not {type(held_out).__name__}")
        if isinstance(held_out, Distribution):
            _check_distribution(f"{name}.held_out", spec, held_out)
        else:
            empty = hasattr(held_out, "__len__") and len(held_out) == 0
            require(not empty, f"{name}: held_out must have samples; return None if there are none")
            with _refused(f"{name}.held_out"):
                check_data(held_out, spec)
    before = x.clone()
    with calling(f"{name}: decode(x), x of shape {tuple(x.shape)},"):
        config.decode(x)
    if spec.classes is not None or spec.condition is not None:
        with calling(f"{name}: decode(x, y), x of shape {tuple(x.shape)},", "y is None, or that of samples x"):
            config.decode(x, spec.blank(len(x)))
    with calling(f"{name}: scheme()"):
        scheme = config.scheme()
    if scheme is not None:
        require(isinstance(scheme, str), f"{name}: scheme must return a text or None, not {type(scheme).__name__}")
        with calling(f"{name}: decode(x, None, scheme), x of shape {tuple(x.shape)},", "scheme is that of scheme()"):
            config.decode(x, None, scheme)
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


@contextmanager
def _refused(name: str) -> Iterator[None]:
    """Turns what a check of data raises, and what reading an item raises, into an AssertionError."""
    try:
        yield
    except (ValueError, OSError, RunError) as error:
        raise AssertionError(f"{name}: {error}") from error


def _check_distribution(name: str, spec: DataSpec, data: Distribution) -> None:
    def draw(seed: int, n: int = CHECKED_ITEMS, default_seed: int = 0) -> tuple[Tensor, Tensor]:
        torch.default_generator.manual_seed(default_seed)
        drawn = data.draw(n, torch.Generator().manual_seed(seed))
        with _refused(name):
            check_drawn(drawn, n, spec)
        return drawn

    draw(0, 1)
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
    with _refused(name):
        read_items(data, spec, [0, len(data) - 1])
    _check_modes(name, spec, data, x)
    _check_optimal_critic(name, data, x)
    # With another default device, a tensor created without `device=` is not on the generator's device.
    with require_same_device(f"{name}: draw"), torch.device("meta"):
        x, y = data.draw(4, torch.Generator("cpu"))
        require(x.device.type == y.device.type == "cpu", f"{name}: draw must return tensors on the generator's device")


def _check_optimal_critic(name: str, data: Distribution, x: Tensor) -> None:
    """An optimal critic, where the distribution knows one against itself, must be 1-Lipschitz on samples x."""
    try:
        critic = data.optimal_critic(data)
    except NotImplementedError:
        return
    x = torch.cat([x, (x + x.flip(0)) / 2]).requires_grad_()
    scores = critic(x)
    right = isinstance(scores, Tensor) and scores.shape == (len(x),) and scores.requires_grad
    require(right, f"{name}: optimal_critic must return a function from x to scores (n,) that can be differentiated")
    apart = torch.cdist(x.detach().flatten(1).double(), x.detach().flatten(1).double())
    steep = (scores[:, None] - scores).detach().double().abs() - apart
    steepest = steep.max().item() / apart.max().clamp_min(1e-30).item()
    require(
        steepest < 1e-4, f"{name}: the critic of optimal_critic must be 1-Lipschitz, and is steeper between two samples"
    )


def _check_modes(name: str, spec: DataSpec, data: Distribution, x: Tensor) -> None:
    """The modes of a mixture, where it tells them, must be those of its samples x: metrics count them."""
    try:
        modes = data.modes()
    except NotImplementedError:
        return
    right = isinstance(modes, tuple) and len(modes) == 3 and all(isinstance(side, Tensor) for side in modes)
    require(right, f"{name}: modes must return (means, standard deviations, weights), not {type(modes).__name__}")
    means, stds, weights = (side.cpu().double() for side in modes)
    k = len(weights)
    expected = ((k, *spec.shape), (k,), (k,))
    shapes = tuple(tuple(side.shape) for side in (means, stds, weights))
    require(shapes == expected, f"{name}: modes must return tensors of shapes {expected}, not {shapes}")
    require(bool((weights >= 0).all()) and bool((stds > 0).all()), f"{name}: weights must be ≥ 0, deviations > 0")
    total = weights.sum().item()
    require(abs(total - 1) < 1e-4, f"{name}: the weights of its modes must have the sum 1, not {total:g}")
    by_weight = weights.view(-1, *[1] * len(spec.shape))
    mean = (by_weight * means).sum(0)
    variance = (by_weight * ((means - mean).square() + stds.view(by_weight.shape).square())).sum(0)
    away = ((x.cpu().double().mean(0) - mean).abs() / (variance / len(x)).sqrt()).max().item()
    require(
        away < 6,
        f"{name}: the mean of {len(x)} samples is {away:.0f} standard errors away from that of the mixture whose modes "
        "it returns; they must be the modes of what `draw` returns",
    )
