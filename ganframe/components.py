"""The base classes of the plugin API: the five kinds of component and the types they share.

A component is an `attrs.frozen` class. Its fields, declared with `option`, are what a recipe may set; its methods
define the behaviour. This module does not depend on recipes, plugins, files or the training loop.

Shapes: N samples in a batch, `spec.shape` for one sample, x for samples, y for integer labels (N,), z for latents
(N, latent_dim). Scores (N,) are raw, before any sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

KINDS = ("generator", "discriminator", "objective", "constraint", "dataset")


def option(default: Any = attrs.NOTHING, *, help: str, validator: Callable[..., Any] | None = None) -> Any:
    """Declares a field that a recipe may set.

    `help` is one line, shown by `ganframe describe`. `validator` is any attrs validator (`attrs.validators.gt(0)`);
    its error is reported at the option's place in the recipe. A validator sees one option: check two options together
    in `__attrs_post_init__`, and raise ValueError there. An option without a default is required.
    """
    return attrs.field(default=default, validator=validator, metadata={"help": help})


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if not (isinstance(shape, tuple) and shape and all(type(n) is int and n > 0 for n in shape)):
        raise ValueError(f"shape must be a tuple of sizes, as in (3,) or (1, 28, 28), not {shape!r}")
    return tuple(shape)


def _check_classes(_: Any, __: Any, classes: object) -> None:
    if classes is not None and not (type(classes) is int and classes > 0):
        raise ValueError(f"classes must be a number of classes, or None for data without labels, not {classes!r}")


@attrs.frozen
class DataSpec:
    """What networks need to know about the data: shape of one sample, number of classes, whether it is an image.

    `shape` is (C, H, W) for images with values in [-1, 1], (D,) for points of any scale, or any other shape.
    `classes` is None if the data has no labels. `is_image` is True by default for shapes with three axes:
    DataSpec((16, 21, 3), is_image=False) describes 16 frames of 21 joints in space. Raises ValueError unless all sizes
    are positive integers.
    """

    shape: tuple[int, ...] = attrs.field(converter=_shape)
    classes: int | None = attrs.field(default=None, validator=_check_classes)
    is_image: bool = attrs.field(
        default=attrs.Factory(lambda self: len(self.shape) == 3, takes_self=True), kw_only=True
    )


@attrs.define  # creating a frozen instance takes longer than the rest of a step's own code
class Scored:
    """The real or the fake side of a discriminator step: samples x (N, *shape), labels y (N,), scores (N,)."""

    x: Tensor
    y: Tensor
    scores: Tensor


class Generator:
    """Configuration of a generator; `build` returns the network.

    `build` raises ValueError if the options do not fit the data.
    """

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        """Returns a module G with G(z, y) -> (N, *data.shape), for z (N, latent_dim) and y (N,)."""
        raise NotImplementedError


class Discriminator:
    """Configuration of a discriminator; `build` returns the network.

    `build` raises ValueError if the options do not fit the data.
    """

    def build(self, data: DataSpec) -> nn.Module:
        """Returns a module D with D(x, y) -> raw scores (N,), for x (N, *data.shape) and y (N,)."""
        raise NotImplementedError


class Dataset:
    """Configuration of a dataset; `build` opens it.

    `spec` must be cheap: it is read before anything is built. Both raise ValueError or OSError, with a message for the
    user, if the data is not available.
    """

    @property
    def spec(self) -> DataSpec:
        """Shape of one sample, number of classes, whether samples are images."""
        raise NotImplementedError

    def build(self) -> TorchDataset[Any]:
        """Returns a torch dataset of items (x, y), with y = 0 if the data has no labels.

        x is a float tensor, or a uint8 image, which the engine scales from 0..255 to [-1, 1] on the device. A
        `torch.utils.data.TensorDataset` is kept on the device and indexed there; a `Distribution` is sampled on the
        device; any other dataset is read through a DataLoader.
        """
        raise NotImplementedError


class Distribution(TorchDataset[tuple[Tensor, Tensor]]):
    """A dataset that is sampled instead of stored: every batch is new. `Dataset.build` may return one.

    As a torch dataset it has one fixed sample per index, for code that needs a finite dataset.
    """

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns n samples x (n, *shape), float, and labels y (n,), drawn with `generator` on `generator.device`."""
        raise NotImplementedError

    def log_density(self, x: Tensor) -> Tensor:
        """Returns log p(x) (n,) for x (n, *shape). Optional: raises NotImplementedError, as here, if not known."""
        raise NotImplementedError

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        x, y = self.draw(1, torch.Generator().manual_seed(index))
        return x[0], y[0]


class Objective:
    """The losses of both players as functions of raw scores. It has no weights, so it has no `build`.

    Both players minimise their loss. Losses are means over the batch. With `compares_real = True` the generator's loss
    also receives the scores of a real batch, one for each fake.
    """

    compares_real: ClassVar[bool] = False
    """Whether the generator's loss also needs the scores of real samples (relativistic losses)."""

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Returns D's loss, a scalar, from the scores of real and fake samples, each (N,)."""
        raise NotImplementedError

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Returns G's loss, a scalar, from the scores of fakes (N,); `real` (N,) is passed if `compares_real`."""
        raise NotImplementedError

    def optimal_score(self, log_ratio: Tensor) -> Tensor:
        """Returns the optimal D's score where log p/q is `log_ratio`, elementwise; p is the data's density, q G's.

        Optional: `ganframe divergence` uses it to compute exact values. Raises NotImplementedError, as here, if the
        optimal score is not a function of the ratio, or is not known.
        """
        raise NotImplementedError


class Constraint:
    """Constrains or regularises the discriminator. Override the methods you need; the others do nothing."""

    input_gradients: ClassVar[bool] = False
    """Whether `penalty` differentiates `real.scores` or `fake.scores` with respect to x, which then requires grad."""

    def check(self, D: nn.Module) -> None:
        """Raises ValueError, with the reason and what to do, if this constraint does not support D.

        By default a constraint with `input_gradients` refuses a discriminator that mixes samples: ∂D(x)_i/∂x_j would
        not be 0 for i ≠ j, so the gradient at one sample would contain the scores of others.
        """
        if self.input_gradients:
            refuse_mixed_samples(D)

    def wrap(self, D: nn.Module) -> nn.Module:
        """Returns the discriminator to train. Called once, before its optimiser is created."""
        return D

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor | None:
        """Returns a scalar that is added to D's loss in each discriminator step. Called outside autocast, in float32.

        With `input_gradients`, real.x and fake.x require grad; differentiate real.scores and fake.scores with respect
        to them with create_graph=True. Without it, call D at your own points: D(points.requires_grad_(), real.y).
        """
        return None

    def project(self, D: nn.Module) -> None:
        """Moves D's weights back into the allowed set. Called after each of D's optimiser steps."""


BASES: dict[str, type] = {
    "generator": Generator,
    "discriminator": Discriminator,
    "objective": Objective,
    "constraint": Constraint,
    "dataset": Dataset,
}


def mixes_samples(network: nn.Module) -> bool:
    """Whether the output for one sample depends on other samples of the batch, as with BatchNorm.

    Batch normalisation is recognised. Any other module that mixes samples (a minibatch statistic) must have the
    attribute `mixes_samples = True`, or the network that contains it must.
    """
    return bool(_mixing_modules(network))


def refuse_mixed_samples(D: nn.Module) -> None:
    """Raises ValueError if D mixes samples; for the `check` of constraints that differentiate D by samples."""
    mixing = _mixing_modules(D)
    if mixing:
        raise ValueError(
            "gradients of single samples need a discriminator that treats samples independently, but its "
            f"{mixing[0]} mixes samples; use a discriminator without it (built-in: norm = 'layer' or 'none')"
        )


def _mixing_modules(network: nn.Module) -> list[str]:
    """The type names of the modules that mix samples."""
    batch_norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    found = [m for m in network.modules() if isinstance(m, batch_norms) or getattr(m, "mixes_samples", False)]
    return [type(module).__name__ for module in found]
