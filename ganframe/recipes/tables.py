"""The tables of a recipe as attrs classes: what a recipe may set, with defaults and validators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs
from attrs.validators import and_, ge, lt, matches_re, optional

from ganframe.components import (
    Constraint,
    Dataset,
    Discriminator,
    Generator,
    Metric,
    Objective,
    Term,
    option,
    with_nested,
)
from ganframe.engine.timing import Ramp, Timing
from ganframe.plugins.registry import Registry, load
from ganframe.recipes.optimizers import Optimizer, default_optimizer


def _registry() -> Any:
    """The field for the plugins that a recipe was read with, so that they are loaded once. It is not an option."""
    return attrs.field(factory=load, eq=False, repr=False, kw_only=True, metadata={"option": False})


def _source() -> Any:
    """The field for the file that a recipe was read from, which messages name. It is not an option."""
    return attrs.field(default="", eq=False, repr=False, kw_only=True, metadata={"option": False})


def _timing() -> Any:
    """The field for what `every`, `start` and ramps say, by place: "objective", "constraints[0]", "terms[1]".

    A recipe writes them in the tables of the parts, so the field itself is not an option.
    """
    return attrs.field(factory=dict, kw_only=True, metadata={"option": False})


def _decay(_: Any, attribute: attrs.Attribute[Any], value: float | Ramp | None) -> None:
    """Requires a decay, or both ends of its ramp, in (0, 1)."""
    ends = {"": value} if not isinstance(value, Ramp) else {" from": value.from_, " to": value.to}
    for name, end in ends.items():
        if end is not None and not 0 < end < 1:
            raise ValueError(
                f"{name.strip()}{name and ' '}must be {'>' if end <= 0 else '<'} {int(end > 0)}, not {end}"
            )


@attrs.frozen
class Prior:
    """The table [latent]: the prior distribution of z."""

    dim: int = option(64, help="dimensions of z", validator=ge(1))
    distribution: Literal["normal", "uniform"] = option(
        "normal", help="N(0, 1), or U(-√3, √3), each with unit variance in every dimension"
    )


@attrs.frozen
class Optimizers:
    """The tables [optimizer.generator] and [optimizer.discriminator]."""

    generator: Optimizer = attrs.field(factory=default_optimizer)
    discriminator: Optimizer = attrs.field(factory=default_optimizer)

    def of_plugins(self) -> list[type]:
        """The classes of optimisers that plugins offer."""
        return [optimizer.cls for optimizer in (self.generator, self.discriminator) if optimizer.of_plugin]


@attrs.frozen
class Train:
    """The table [train]: how long to train, and with which batches."""

    steps: int = option(help="generator steps", validator=ge(1))
    critic_steps: int = option(
        1, help="discriminator steps before each generator step: k of Algorithm 1", validator=ge(1)
    )
    batch_size: int = option(
        64, help="samples of each side in a discriminator step, over all processes", validator=ge(1)
    )
    generator_batch_size: int | None = option(
        None, help="fakes in a generator step, over all processes; batch_size by default", validator=optional(ge(1))
    )
    precision: Literal["no", "bf16", "fp16"] = option("no", help="mixed precision; penalties stay in float32")
    ema: float | Ramp | None = option(
        None,
        help="decay of the moving average of the generator's weights, which is then used for samples",
        validator=_decay,
    )
    ema_warmup: int = option(
        10,
        help="the decay at step t is at most (1 + t) / (ema_warmup + t), so that early weights are forgotten; "
        "0 uses the full decay from the start",
        validator=ge(0),
    )
    on_nonfinite: Literal["stop", "rollback"] = option(
        "stop",
        help="where a loss or weight is not finite: stop, or return to the last checkpoint, three times at most",
    )
    workers: int = option(0, help="processes that read data which does not fit in memory", validator=ge(0))
    accumulate: int = option(
        1, help="parts of a batch whose gradients are added up, so that it needs less memory", validator=ge(1)
    )
    compile: bool | Literal["auto"] = option(
        False,
        help="one compiled graph for the whole step: true, false, or 'auto', which compiles where that repays its time",
    )
    share_fakes: bool = option(
        False,
        help="the generator's step has the batch and the fakes of the last discriminator step, which saves making new "
        "ones: one z for both, so no longer Algorithm 1",
    )
    from_: str | None = option(None, help="run folder whose weights this run starts from")
    freeze: tuple[str, ...] = option(
        (), help="modules whose weights and statistics stay as they are, as in generator.blocks.0"
    )
    one_sided_labels: bool = option(
        False, help="train even where labels or conditions reach one player alone, which is refused otherwise"
    )


@attrs.frozen
class Log:
    """The table [log]: what a run writes, and how often, in generator steps."""

    every: int = option(50, help="steps between two lines of log.jsonl", validator=ge(1))
    samples_every: int | None = option(
        None, help="steps between two pictures; by default at least 500, and at least 30 s", validator=optional(ge(1))
    )
    checkpoint_every: int | None = option(
        None,
        help="steps between two checkpoints; by default at least 500, and at least 30 s; 500 with rollbacks",
        validator=optional(ge(1)),
    )
    keep: int = option(3, help="number of newest checkpoints that are kept", validator=ge(1))
    keep_best: str | None = option(
        None,
        help="metric, or metric.number, by which the best checkpoint is kept and generator.safetensors is chosen",
    )
    report_every: int | None = option(
        None,
        help="steps between two rewritings of report.html, the page of the run; none by default",
        validator=optional(ge(1)),
    )
    trackers: tuple[str, ...] = option((), help="Accelerate's trackers by name: tensorboard, wandb, …")


@attrs.frozen
class Evaluation:
    """A table of [[metrics]]: a metric, how often the run is judged by it, and by how many samples.

    In TOML `every` and `samples` stand beside the options of the metric.
    """

    metric: Metric
    every: int | None = option(
        None, help="steps between two scores; only at the end by default", validator=optional(ge(1))
    )
    samples: int | None = option(
        None, help="generated samples that are judged; the metric's own number by default", validator=optional(ge(2))
    )


@attrs.frozen
class Recipe:
    """Everything that decides a run. Two runs of a recipe on the CPU of one machine produce the same weights."""

    dataset: Dataset
    generator: Generator
    discriminator: Discriminator
    objective: Objective
    train: Train
    constraints: tuple[Constraint, ...] = ()
    terms: tuple[Term, ...] = ()
    latent: Prior = attrs.field(factory=Prior)
    optimizer: Optimizers = attrs.field(factory=Optimizers)
    metrics: tuple[Evaluation, ...] = ()
    log: Log = attrs.field(factory=Log)
    seed: int = option(0, help="seed of all random numbers", validator=and_(ge(0), lt(2**63)))
    name: str = option(
        "recipe",
        help="name of the folder under runs/; the file's name by default",
        validator=matches_re(r"\w[\w .+-]*"),
    )
    timing: Mapping[str, Timing] = _timing()
    registry: Registry = _registry()
    source: str = _source()

    @property
    def title(self) -> str:
        """What messages call it: its file, or its name where it was made in Python."""
        return self.source or self.name

    def components(self) -> Iterator[tuple[str, Any]]:
        """(kind, component) for every component of the recipe, also for those that are options of others."""
        for part in (self.dataset, self.generator, self.discriminator, self.objective, self.constraints, self.terms):
            yield from with_nested(part)
        for evaluation in self.metrics:
            yield from with_nested(evaluation.metric)


@attrs.frozen
class GeneratorRecipe:
    """The tables of a recipe that sampling needs."""

    generator: Generator
    latent: Prior = attrs.field(factory=Prior)
    registry: Registry = _registry()


@attrs.frozen
class DatasetRecipe:
    """The table of a recipe that its data needs."""

    dataset: Dataset
    registry: Registry = _registry()


@attrs.frozen
class CriticRecipe:
    """The tables of a recipe that train a critic alone, whatever its two sides are."""

    discriminator: Discriminator
    objective: Objective
    train: Train
    constraints: tuple[Constraint, ...] = ()
    optimizer: Optimizers = attrs.field(factory=Optimizers)
    timing: Mapping[str, Timing] = _timing()
    registry: Registry = _registry()
    source: str = _source()

    def between(self, dataset: Dataset, against: Dataset, seed: int) -> Comparison:
        """The comparison of two datasets by this critic."""
        own = {a.name: getattr(self, a.name) for a in attrs.fields(CriticRecipe)}
        return Comparison(dataset=dataset, against=against, seed=seed, **own)


@attrs.frozen
class FromRun:
    """The table [against] of a comparison with the generator of a run."""

    run: str = option(help="the run's folder")


@attrs.frozen
class Comparison:
    """A recipe for `ganframe divergence`: a second side, [against], takes the place of the generator."""

    dataset: Dataset
    against: Dataset | FromRun
    discriminator: Discriminator
    objective: Objective
    train: Train
    constraints: tuple[Constraint, ...] = ()
    optimizer: Optimizers = attrs.field(factory=Optimizers)
    log: Log = attrs.field(factory=Log)
    seed: int = option(0, help="seed of all random numbers", validator=and_(ge(0), lt(2**63)))
    name: str = option("comparison", help="name of the folder under runs/", validator=matches_re(r"\w[\w .+-]*"))
    timing: Mapping[str, Timing] = _timing()
    registry: Registry = _registry()
    source: str = _source()

    @property
    def title(self) -> str:
        """What messages call it: its file, or its name where it was made in Python."""
        return self.source or self.name

    def components(self) -> Iterator[tuple[str, Any]]:
        """(kind, component) for every component of the comparison, also for those that are options of others."""
        for part in (self.dataset, self.against, self.discriminator, self.objective, self.constraints):
            yield from with_nested(part)
