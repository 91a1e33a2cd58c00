"""The base classes of the plugin API: the seven kinds of component and the types they share.

A component is an `attrs.frozen` class. Its fields, declared with `option`, are what a recipe may set; its methods
define the behaviour. This module does not depend on recipes, plugins, files or the training loop.

Shapes: N samples in a batch, `spec.shape` for one sample, x for samples, z for latents (N, latent_dim). y is what both
networks are conditioned on: labels (N,), int64, or where the data has conditions, a float tensor (N, *spec.condition).
Scores (N,) are raw, before any sigmoid.

The file is long because the whole protocol can be read in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from ganframe.declarations import refuse_mixed_samples

KINDS = ("generator", "discriminator", "objective", "constraint", "term", "dataset", "metric")


def option(
    default: Any = attrs.NOTHING,
    *,
    help: str,
    validator: Callable[..., Any] | None = None,
    scheduled: bool = False,
) -> Any:
    """Declares a field that a recipe may set.

    `help` is one line, shown by `ganframe describe`. `validator` is any attrs validator (`attrs.validators.gt(0)`);
    its error is reported at the option's place in the recipe. A validator sees one option: check two options together
    in `__attrs_post_init__`, and raise ValueError there. An option without a default is required.

    `scheduled` is for numbers of objectives, constraints and terms that are read at each step. A recipe may then let
    them move: gamma = { from = 10.0, to = 1.0, steps = 5000, shape = "cosine" }. Do not declare it for what `wrap` or
    `prepare` reads: they are called once.
    """
    return attrs.field(default=default, validator=validator, metadata={"help": help, "scheduled": scheduled})


def _sizes(name: str, sizes: Any) -> tuple[int, ...]:
    """The sizes, if they are a tuple of positive integers; else raises ValueError."""
    if not (isinstance(sizes, tuple) and sizes and all(type(n) is int and n > 0 for n in sizes)):
        none = "" if name == "shape" else ", or None"
        raise ValueError(f"{name} must be a tuple of sizes, as in (3,) or (1, 28, 28){none}, not {sizes!r}")
    return sizes


def _shape(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return _sizes("shape", sizes)


def _condition(sizes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if sizes is None else _sizes("condition", sizes)


def _columns(sizes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if sizes is None else _sizes("columns", sizes)


def _check_classes(_: Any, __: Any, classes: object) -> None:
    if classes is not None and not (type(classes) is int and classes > 0):
        raise ValueError(f"classes must be a number of classes, or None for data without labels, not {classes!r}")


def _names(names: Any) -> tuple[str, ...] | None:
    """The names as a tuple, if they are texts and no two are the same; else raises ValueError."""
    if names is None:
        return None
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f'class_names must be a name for each class, as in ("cat", "dog"), or None, not {names!r}')
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"class_names must differ: {', '.join(twice)}")
    return tuple(names)


@attrs.frozen
class DataSpec:
    """What networks need to know about the data: the shape of one sample, and what samples are conditioned on.

    `shape` is (C, H, W) for images with values in [-1, 1], (D,) for points of any scale, or any other shape. `classes`
    is the number of classes, for data with labels y (N,). `condition` is the shape of one condition, for data with
    conditions y (N, *condition), float: an image to translate, past frames, an embedding. Conditions with three axes
    have values in [-1, 1], as images have. Data has labels or conditions, not both, and may have neither.

    `is_image` is True by default for shapes with three axes: DataSpec((16, 21, 3), is_image=False) describes 16 frames
    of 21 joints in space. `columns` are the widths of the blocks of a row of a table, whose sum is D: 1 for a number,
    K for a category of K values in one-hot form. A generator gives K probabilities there, as by softmax, whose largest
    is the category.

    `class_names` are the names of classes 0, 1, …, where they have some: a user may then ask for a class by its name.
    They are for people: specs that differ in names alone are equal.

    Raises ValueError unless all sizes are positive integers that fit together.
    """

    shape: tuple[int, ...] = attrs.field(converter=_shape)
    classes: int | None = attrs.field(default=None, validator=_check_classes)
    condition: tuple[int, ...] | None = attrs.field(default=None, converter=_condition)
    is_image: bool = attrs.field(
        default=attrs.Factory(lambda self: len(self.shape) == 3, takes_self=True), kw_only=True
    )
    columns: tuple[int, ...] | None = attrs.field(default=None, converter=_columns, kw_only=True)
    class_names: tuple[str, ...] | None = attrs.field(default=None, converter=_names, kw_only=True, eq=False)

    def __attrs_post_init__(self) -> None:
        if self.class_names is not None and len(self.class_names) != (self.classes or 0):
            raise ValueError(f"class_names has {len(self.class_names)} names, and classes is {self.classes}")
        if self.classes is not None and self.condition is not None:
            raise ValueError(f"data has classes ({self.classes}) or conditions ({self.condition}), not both")
        if self.columns is not None and self.shape != (sum(self.columns),):
            raise ValueError(
                f"columns of widths {self.columns} make samples of shape {(sum(self.columns),)}, not {self.shape}"
            )

    def blank(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """y for n samples where nothing is known: conditions of zeros (n, *condition), or labels of zeros (n,)."""
        if self.condition is None:
            return torch.zeros(n, dtype=torch.long, device=device)
        return torch.zeros(n, *self.condition, device=device)


@attrs.define  # creating a frozen instance takes longer than the rest of a step's own code
class Scored:
    """One side of a step, real or fake: samples x (N, *shape), their y, and D's scores (N,), or (N, …) if it has many.

    `z` are the latents of fakes. `extras` is what else D returned, as {"features": (N, …)}, where a term needs it.
    `scores` is None where D was not called: for real samples in a generator step if no part of the recipe needs them,
    and for both sides before the objective starts, unless a term declares that it reads scores or extras.
    """

    x: Tensor
    y: Tensor
    scores: Tensor
    z: Tensor | None = None
    extras: Mapping[str, Tensor] = {}


class Generator:
    """Configuration of a generator; `build` returns the network.

    `build` raises ValueError if the options do not fit the data. A network that computes latents w from z may offer
    them by two methods, map(z, y) -> w (N, …) and synthesize(w, y) -> x, with G(z, y) = synthesize(map(z, y), y).
    Images can then be inverted, interpolated and added in w too, and samples truncated. A network that declares
    `truncates_latent = True` has its samples truncated in z instead.
    """

    def build(self, data: DataSpec, latent_dim: int) -> nn.Module:
        """Returns a module G with G(z, y) -> (N, *data.shape), for z (N, latent_dim) and y (N,) or (N, *condition)."""
        raise NotImplementedError


class Discriminator:
    """Configuration of a discriminator; `build` returns the network.

    `build` raises ValueError if the options do not fit the data.
    """

    def build(self, data: DataSpec) -> nn.Module:
        """Returns a module D with D(x, y) -> raw scores (N,), for x (N, *data.shape) and y (N,) or (N, *condition).

        With the attribute `many_scores = True` D may return (N, …) instead: scores of patches, of several scales, or a
        vector. With `gives_extras = True` it takes a third argument, extras=None, a dict which it fills if it is given:
        {"features": (N, …)}, the last features, and others under names of its own.
        """
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
        """Returns a torch dataset of items (x, y), with y = 0 if the data has neither labels nor conditions.

        x is a float tensor, or a uint8 image, which the engine scales from 0..255 to [-1, 1] on the device; so is y if
        it is a condition. A `torch.utils.data.TensorDataset` is kept on the device and indexed there; a `Distribution`
        is sampled on the device; any other dataset is read through a DataLoader.

        An `IterableDataset` is a stream: its samples are taken in its own order, and `iter` begins it anew, also where
        it ended. It sees one reader, as processes and workers each read all of it and keep their own rows. With
        `state_dict` and `load_state_dict` (dicts, lists, texts, numbers, tensors) a resumed run goes on where it was;
        without, it is read again from the beginning of the epoch. `set_epoch(epoch)` is called before each, if there is
        one. With `iterate(wanted)` in the place of `iter` it may yield None for the i-th sample where wanted(i) is
        false, and so save the work of decoding it.

        What `__getitem__` draws at random, as augmentation does, it draws from the global generators of torch, numpy or
        Python: the recipe's seed decides those for each batch. A resumed run would not restore another generator.
        """
        raise NotImplementedError

    def held_out(self) -> TorchDataset[Any] | None:
        """Returns samples that are not in `build`, in the same form, for judging; None, as here, if there are none."""
        return None

    def fingerprint(self) -> Mapping[str, str | int]:
        """Returns what identifies the data, as {"file names": "a hash of them"}, for a run that is resumed. Optional.

        The names are shown to the user. It must be quick, and stay the same where the same data lies elsewhere. The
        shape, the number of samples, and a hash of values in memory are compared without it.
        """
        return {}

    def decode(self, x: Tensor, y: Tensor | None = None) -> Any:
        """Returns samples x (N, *shape) with their y in a form for people. By default x itself.

        For rows of a table that is a pandas DataFrame, or rows that make one, as a list of dicts:
        `ganframe sample RUN --out rows.csv` writes it. y is None where it is not known, or the data has none. Where
        there is a `scheme`, it is called as decode(x, y, scheme), and must not need the data.
        """
        return x

    def scheme(self) -> str | None:
        """Returns what `decode` needs of the data, as a text that a run keeps; None, as here, if that is nothing."""
        return None


class Distribution(TorchDataset[tuple[Tensor, Tensor]]):
    """A dataset that is sampled instead of stored: every batch is new. `Dataset.build` may return one.

    As a torch dataset it has one fixed sample per index, for code that needs a finite dataset.
    """

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns n samples x (n, *shape), float, and their y, drawn with `generator` on `generator.device`."""
        raise NotImplementedError

    def log_density(self, x: Tensor) -> Tensor:
        """Returns log p(x) (n,) for x (n, *shape). Optional: raises NotImplementedError, as here, if not known."""
        raise NotImplementedError

    def optimal_critic(self, other: Distribution) -> Callable[[Tensor], Tensor]:
        """Returns the scores of an optimal critic between this distribution and another one: x (n, *shape) -> (n,).

        It is 1-Lipschitz, and its mean here less its mean under `other` is W1. x may be differentiated. Optional:
        raises NotImplementedError, as here, if none is known. `ganframe divergence` judges Wasserstein critics by it.
        """
        raise NotImplementedError

    def modes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns means (K, *shape), standard deviations (K,) and weights (K,) of a mixture of isotropic Gaussians.

        Optional: raises NotImplementedError, as here, for other distributions. Metrics count modes with it.
        """
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

    Both players minimise their loss. Losses are means over the batch. Scores are (N,), or (N, …) as D returns them: a
    mean over all of them. An objective that needs (N,) raises ValueError for others. With `compares_real = True` the
    generator's loss also receives the scores of a real batch, one for each fake.
    """

    compares_real: ClassVar[bool] = False
    """Whether the generator's loss also needs the scores of real samples (relativistic losses)."""

    scores_are_vectors: ClassVar[bool] = False
    """Whether the losses compare vectors (N, F), one of each sample (MMD, energy distance), and refuse scores (N,)."""

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
        not be 0 for i ≠ j, so the gradient at one sample would contain the scores of others. Within declared groups it
        may mix them: `score_gradients` takes the gradient of each group.
        """
        if self.input_gradients:
            refuse_mixed_samples(D)

    def wrap(self, D: nn.Module) -> nn.Module:
        """Returns the discriminator to train. Called once, before its optimiser is created.

        What a constraint must remember is a buffer or a weight inside this network, from the start. A network around D
        passes on what it does not know: forward(self, x, *args, **kwargs).
        """
        return D

    def penalty(self, D: nn.Module, real: Scored, fake: Scored) -> Tensor | None:
        """Returns a scalar that is added to D's loss in each discriminator step. Called outside autocast, in float32.

        With `input_gradients`, real.x and fake.x require grad; differentiate real.scores and fake.scores with respect
        to them. Without it, call D at your own points: D(points.requires_grad_(), real.y). `score_gradients` returns
        the gradient of each sample.
        """
        return None

    def project(self, D: nn.Module) -> None:
        """Moves D's weights back into the allowed set, in place. Called after each of D's optimiser steps.

        Weights that require no gradient are frozen by the recipe: leave them as they are.
        """


@attrs.define
class Turn:
    """What a term sees of a step: the networks G and D, both sides, the objective, the step, and the term's own parts.

    In a discriminator step both sides have scores, and fake.x has no gradient. In a generator step fake.x and its
    scores have G's gradient; `real` is None unless the term's `needs_real` or the objective asks for it, and then
    real.y is fake.y: the fakes are made with the conditions of the real batch. Before `[objective] start` there are no
    discriminator steps, and fake.scores is None too unless a term declares needs_real = "scores" or `needs_extras`.
    """

    G: nn.Module
    D: nn.Module
    real: Scored | None
    fake: Scored
    objective: Objective
    step: int
    parts: Parts


@attrs.frozen(eq=False)
class Parts:
    """What a term remembers or trains: modules that exist before the first step.

    Weights of `generator` and `discriminator` are trained with that player's optimiser, and their buffers are memory.
    Both are saved in checkpoints, and never in generator.safetensors. `frozen` is a network that is only used, as a
    feature network: it is moved to the device, never trained and not saved, because `prepare` builds it again.
    """

    generator: nn.Module | None = None
    discriminator: nn.Module | None = None
    frozen: nn.Module | None = None

    @property
    def trained(self) -> dict[str, nn.Module]:
        """The modules that are trained and saved, by the player that they are trained with."""
        both = {"generator": self.generator, "discriminator": self.discriminator}
        return {player: module for player, module in both.items() if module is not None}


class Term:
    """Adds a term to the loss of one player or both. Override the methods you need; the others do nothing."""

    needs_real: ClassVar[Literal["x", "scores"] | None] = None
    """What `generator_term` needs of a real batch: its samples, without a call of D, or its scores and extras too."""

    needs_extras: ClassVar[tuple[str, ...]] = ()
    """Names in `extras` that this term reads. A discriminator that does not fill them is refused."""

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts | None:
        """Returns this term's parts, or None. Called once, before the optimisers are created.

        G and D are the networks to train; do not change them. Raises ValueError, with the reason and what to do, if
        the term does not suit them or the data.
        """
        return None

    def discriminator_term(self, turn: Turn) -> Tensor | None:
        """Returns a scalar that is added to D's loss, or None. Its gradient reaches D and `parts.discriminator` only.

        Called outside autocast, in float32, as is `generator_term`.
        """
        return None

    def generator_term(self, turn: Turn) -> Tensor | None:
        """Returns a scalar that is added to G's loss, or None. Its gradient reaches G and `parts.generator` only."""
        return None


@attrs.frozen(eq=False)
class Features:
    """A network that turns samples into feature vectors, and the input that it expects.

    `network` maps x (N, channels, size, size), or (N, *shape) where both are None, with values as samples have them, to
    features (N, F), in evaluation mode. Images of another size are resized before, grey images get three equal
    channels. `about` is what a reader of a score must know, as {"accuracy": 0.97}; it stands in each score beside a
    hash of the network's weights.
    """

    network: nn.Module
    channels: int | None = None
    size: int | None = None
    about: Mapping[str, Any] = {}


Measure = Callable[[Tensor, Tensor | None], Mapping[str, float]]
"""measure(x, y) -> {name: number}, for generated samples x (n, *shape) on the CPU, and the y that they were made for:
None where their generator heeds none, and for samples from a file."""


@attrs.frozen(eq=False)
class Judging:
    """What a metric judges samples by: real samples, features, a device.

    `dataset` is the data's configuration and `data` what its `build` returned. Real samples (x, y) on the CPU are drawn
    with the same seed each time: `real(n)` are those to compare with, from the split `against`; `training(n)` are from
    the training data; `held_out(n)` are samples out of it, which raises ValueError where the data holds out none. Each
    returns fewer where the set is smaller. The two sets `real(n)` of "test" and `training(n)` share no sample.

    `features(name)` returns a function x (n, *shape) -> features (n, F), float32 on the CPU, of the network that
    plugins offer by this name; "pixels" are the values themselves. Raises ValueError where the data does not suit them.
    `samples` is the number of generated samples that will be judged, `seed` is for what the metric draws itself.
    """

    dataset: Dataset
    spec: DataSpec
    data: TorchDataset[Any]
    against: Literal["test", "train"]
    samples: int
    seed: int
    device: torch.device
    real: Callable[[int], tuple[Tensor, Tensor]]
    training: Callable[[int], tuple[Tensor, Tensor]]
    held_out: Callable[[int], tuple[Tensor, Tensor]]
    features: Callable[[str], Callable[[Tensor], Tensor]]


class Metric:
    """Says how good samples are, in numbers. `build` is called once; the measure that it returns, for each generator.

    `[[metrics]]` and `ganframe evaluate --samples` may set another number of samples than `samples`.
    """

    needs: ClassVar[tuple[Literal["modes", "labels", "conditions", "images", "held_out"], ...]] = ()
    """What the data must have; other data is refused: modes that `Distribution.modes` gives, labels, …"""

    better: ClassVar[Mapping[str, Literal["lower", "higher"]]]
    """The direction of each number for which there is one. The first is the one that progress bars and tables show."""

    samples: ClassVar[int] = 10_000
    """Generated samples that are judged by default."""

    def build(self, judging: Judging) -> Measure:
        """Returns measure(x, y) -> {name: number}, fitted to the real samples; the same for the same samples.

        Raises ValueError, with the reason and what to do, if the data does not suit the metric. The measure raises
        ValueError if the samples do not, as where they are too few. A number that does not exist is left out.
        """
        raise NotImplementedError


BASES: dict[str, type] = {
    "generator": Generator,
    "discriminator": Discriminator,
    "objective": Objective,
    "constraint": Constraint,
    "term": Term,
    "dataset": Dataset,
    "metric": Metric,
}


def kind_of(component: object) -> str | None:
    """The kind of a component or of a component class; None for anything else."""
    cls = component if isinstance(component, type) else type(component)
    return next((kind for kind, base in BASES.items() if issubclass(cls, base)), None)


def with_nested(component: Any) -> Iterator[tuple[str, Any]]:
    """(kind, component) for a component and for those among its options, at any depth."""
    kind = kind_of(component)
    if kind is not None:
        yield kind, component
    if attrs.has(type(component)):
        for field in attrs.fields(type(component)):
            yield from with_nested(getattr(component, field.name))
    elif isinstance(component, (tuple, list)):
        for item in component:
            yield from with_nested(item)
