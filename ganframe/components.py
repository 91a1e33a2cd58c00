"""The base types that a plugin sees: the five kinds of component and the little they share.

A component is an `attrs.frozen` class. Its fields, declared with `option`, are what a recipe may set; its methods
are the behaviour. Nothing here knows of recipes, plugins, files or the training loop.

Shapes: N samples in a batch, `spec.shape` for one sample, x for samples, y for integer labels (N,), z for latents
(N, latent_dim), scores (N,) raw, before any sigmoid.
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
    """A field that a recipe may set.

    `help` is one line for `ganframe describe`; `validator` is any attrs validator (`attrs.validators.gt(0)`) and its
    complaint is reported at the option's place in the recipe. It sees one option at a time: a rule between two belongs
    in `__attrs_post_init__`, which raises ValueError. Without a default the option must be given.
    """
    return attrs.field(default=default, validator=validator, metadata={"help": help})


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if not (isinstance(shape, tuple) and shape and all(type(n) is int and n > 0 for n in shape)):
        raise ValueError(f"shape must be a tuple of sizes, as in (3,) or (1, 28, 28), not {shape!r}")
    return tuple(shape)


def _is_count(_: Any, __: Any, classes: object) -> None:
    if classes is not None and not (type(classes) is int and classes > 0):
        raise ValueError(f"classes must be a number of classes, or None for data without labels, not {classes!r}")


@attrs.frozen
class DataSpec:
    """What networks must know of the data: the shape of one sample, the number of classes, whether it is an image.

    `shape` is (C, H, W) for images, whose values lie in [-1, 1], (D,) for points of any scale, or any other.
    `classes` is None where the data has no labels. `is_image` is true of shapes with three axes unless it is given:
    DataSpec((16, 21, 3), is_image=False) has 16 frames of 21 joints in space. Raises ValueError for sizes that are no
    positive integers.
    """

    shape: tuple[int, ...] = attrs.field(converter=_shape)
    classes: int | None = attrs.field(default=None, validator=_is_count)
    is_image: bool = attrs.field(
        default=attrs.Factory(lambda self: len(self.shape) == 3, takes_self=True), kw_only=True
    )


@attrs.define  # not frozen, which would cost more to make than the rest of a step's own code
class Scored:
    """One side, real or fake, of a critic step: samples x (N, *shape), labels y (N,) and their scores (N,)."""

    x: Tensor
    y: Tensor
    scores: Tensor


class Generator:
    """The configuration of a generator; `build` returns the network.

    `build` raises ValueError where the options do not fit the data.
    """

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        """A module G with G(z, y) -> (N, *data.shape), for z (N, latent_dim) and y (N,)."""
        raise NotImplementedError


class Discriminator:
    """The configuration of a discriminator (a critic); `build` returns the network.

    `build` raises ValueError where the options do not fit the data.
    """

    def build(self, data: DataSpec) -> nn.Module:
        """A module D with D(x, y) -> raw scores (N,), for x (N, *data.shape) and y (N,)."""
        raise NotImplementedError


class Dataset:
    """The configuration of a dataset; `build` opens it.

    `spec` must be cheap: it is asked for before anything is built. Both raise ValueError, or an OSError, with a
    message for the user where the data cannot be had.
    """

    @property
    def spec(self) -> DataSpec:
        """The shape of one sample and the number of classes."""
        raise NotImplementedError

    def build(self) -> TorchDataset[Any]:
        """A torch dataset of items (x, y), with y = 0 where the data has no labels.

        x is a float tensor, or an image in uint8, which the engine scales from 0..255 to [-1, 1] on the device. A
        `torch.utils.data.TensorDataset` is kept on the device and indexed; a `Distribution` is drawn from there;
        anything else is read through a DataLoader.
        """
        raise NotImplementedError


class Distribution(TorchDataset[tuple[Tensor, Tensor]]):
    """What `Dataset.build` may return for data that is drawn rather than stored: every batch is new.

    As a torch dataset it offers one fixed sample per index, for whoever wants a finite set.
    """

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n samples x (n, *shape), float, and their labels y (n,), drawn with `generator` on `generator.device`."""
        raise NotImplementedError

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) (n,), for x (n, *shape). Optional: NotImplementedError, as here, where it is not known."""
        raise NotImplementedError

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        x, y = self.draw(1, torch.Generator().manual_seed(index))
        return x[0], y[0]


class Objective:
    """The game: a loss for each player, on raw scores. It has no weights, so the configuration is the thing itself.

    Both players minimise. Losses are means over the batch. With `compares_real = True` the generator's loss is given
    the scores of a real batch too, one for each fake.
    """

    compares_real: ClassVar[bool] = False
    """Whether the generator's loss needs the scores of real samples too (relativistic losses)."""

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """D's loss, a scalar, from the scores of real and fake samples, each (N,)."""
        raise NotImplementedError

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """G's loss, a scalar, from the scores of fake samples (N,); `real` (N,) is given where `compares_real`."""
        raise NotImplementedError

    def optimal_score(self, log_ratio: Tensor) -> Tensor:
        """The best critic's score where log p/q is `log_ratio`, element by element; p is the data's density, q G's.

        Optional: `ganframe divergence` computes exact values with it. NotImplementedError, as here, where the best
        critic is no function of the ratio, or is not known.
        """
        raise NotImplementedError


class Constraint:
    """Something that holds the critic back. Override the one moment you need; the others do nothing."""

    input_gradients: ClassVar[bool] = False
    """Whether `penalty` differentiates `real.scores` or `fake.scores` by their x, which then require grad."""

    def check(self, D: nn.Module) -> None:
        """Raises ValueError, with the reason and the remedy, for a critic this constraint cannot live with.

        By default a constraint with `input_gradients` refuses a critic that mixes samples: ∂D(x)_i/∂x_j would not be
        0 for i ≠ j, and no gradient one sample's own.
        """
        if self.input_gradients:
            refuse_mixed_samples(D)

    def wrap(self, D: nn.Module) -> nn.Module:
        """The critic to train, called once, before its optimiser is made."""
        return D

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor | None:
        """A scalar that is added to D's loss in each critic step. Called outside autocast, in float32.

        With `input_gradients` real.x and fake.x require grad, and real.scores and fake.scores can be differentiated by
        them, with create_graph=True. Without, ask D itself at points of your own: D(points.requires_grad_(), real.y).
        """
        return None

    def project(self, D: nn.Module) -> None:
        """Moves D's weights back into the allowed set, after each of D's optimiser steps."""


BASES: dict[str, type] = {
    "generator": Generator,
    "discriminator": Discriminator,
    "objective": Objective,
    "constraint": Constraint,
    "dataset": Dataset,
}


def mixes_samples(network: nn.Module) -> bool:
    """Whether one sample's output depends on the others in its batch, as under BatchNorm.

    Batch normalisation is recognised; a module of another kind that mixes samples (a minibatch statistic) says so
    with an attribute `mixes_samples = True`, on itself or on the network that it is part of.
    """
    return bool(_mixing(network))


def refuse_mixed_samples(D: nn.Module) -> None:
    """For the `check` of a constraint that differentiates D by samples: raises ValueError where D mixes them."""
    mixing = _mixing(D)
    if mixing:
        raise ValueError(
            "the gradient of one sample's score is not its own in a critic that mixes samples, as its "
            f"{mixing[0]} does; choose a discriminator without it (of the built-in ones, norm = 'layer' or 'none')"
        )


def _mixing(network: nn.Module) -> list[str]:
    """The types of the modules that mix samples."""
    batch_norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    found = [m for m in network.modules() if isinstance(m, batch_norms) or getattr(m, "mixes_samples", False)]
    return [type(module).__name__ for module in found]
