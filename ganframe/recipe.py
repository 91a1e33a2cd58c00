"""Recipes: TOML read strictly into attrs classes, and written back with every option resolved.

All mistakes of a recipe are reported at once, each with its place. This module knows the tables of a recipe and asks
the registry for components; it builds nothing and trains nothing.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
import tomli
import tomli_w
from attrs.validators import and_, ge, gt, lt, matches_re, optional

from ganframe import plugins
from ganframe.components import BASES, Constraint, Dataset, Discriminator, Generator, Objective, option
from ganframe.errors import RecipeError, RequestError
from ganframe.optimizers import Optimizer, Schedule, default_optimizer, structure_optimizer
from ganframe.plugins import Registry
from ganframe.strict import as_table, make_converter, problems

Read = TypeVar("Read")

# ---------------------------------------------------------------------------------------------- the tables of a recipe


@attrs.frozen
class Latent:
    """The distribution of z."""

    dim: int = option(64, help="dimensions of z", validator=ge(1))
    distribution: Literal["normal", "uniform"] = option(
        "normal", help="N(0, 1), or U(-√3, √3), each with unit variance in every dimension"
    )


@attrs.frozen
class Optimizers:
    """One optimiser for each player."""

    generator: Optimizer = attrs.field(factory=default_optimizer)
    discriminator: Optimizer = attrs.field(factory=default_optimizer)


@attrs.frozen
class Train:
    """How long and in what portions to train."""

    steps: int = option(help="generator steps", validator=ge(1))
    critic_steps: int = option(1, help="critic steps before each generator step: k of Algorithm 1", validator=ge(1))
    batch_size: int = option(64, help="samples of each side in a critic step, over all processes", validator=ge(1))
    generator_batch_size: int | None = option(
        None, help="fakes in a generator step, over all processes; batch_size by default", validator=optional(ge(1))
    )
    precision: Literal["no", "bf16", "fp16"] = option("no", help="mixed precision; penalties stay in float32")
    ema: float | None = option(
        None,
        help="decay of the generator's moving average, which is then sampled",
        validator=optional(and_(gt(0), lt(1))),
    )
    on_nonfinite: Literal["stop", "rollback"] = option(
        "stop",
        help="where a loss or weight is not finite: stop, or go back to the last checkpoint, three times at most",
    )
    workers: int = option(0, help="processes that read data which does not fit in memory", validator=ge(0))


@attrs.frozen
class Log:
    """What a run leaves behind, and how often, in generator steps."""

    every: int = option(50, help="steps between two lines of metrics.jsonl", validator=ge(1))
    samples_every: int = option(500, help="steps between two pictures", validator=ge(1))
    checkpoint_every: int = option(500, help="steps between two checkpoints", validator=ge(1))
    keep: int = option(3, help="checkpoints that are kept, the newest", validator=ge(1))
    trackers: tuple[str, ...] = option((), help="Accelerate's trackers by name: tensorboard, wandb, …")


@attrs.frozen
class Recipe:
    """Everything that decides a run. On one machine's CPU two runs of it give the same weights."""

    dataset: Dataset
    generator: Generator
    discriminator: Discriminator
    objective: Objective
    train: Train
    constraints: tuple[Constraint, ...] = ()
    latent: Latent = attrs.field(factory=Latent)
    optimizer: Optimizers = attrs.field(factory=Optimizers)
    log: Log = attrs.field(factory=Log)
    seed: int = option(0, help="of every random number", validator=and_(ge(0), lt(2**63)))
    name: str = option(
        "recipe", help="of the folder under runs/; the file's name by default", validator=matches_re(r"\w[\w .+-]*")
    )

    def components(self) -> Iterator[tuple[str, Any]]:
        """(kind, component) for every component of the recipe."""
        yield "dataset", self.dataset
        yield "generator", self.generator
        yield "discriminator", self.discriminator
        yield "objective", self.objective
        for constraint in self.constraints:
            yield "constraint", constraint


@attrs.frozen
class Sampler:
    """What of a recipe decides its samples, once the weights are there."""

    generator: Generator
    latent: Latent = attrs.field(factory=Latent)


@attrs.frozen
class FromRun:
    """The other side of a comparison: what a run's generator makes."""

    run: str = option(help="the run's folder")


@attrs.frozen
class Comparison:
    """What decides a measurement by `ganframe divergence`: a recipe with a second side in the place of a generator."""

    dataset: Dataset
    against: Dataset | FromRun
    discriminator: Discriminator
    objective: Objective
    train: Train
    constraints: tuple[Constraint, ...] = ()
    optimizer: Optimizers = attrs.field(factory=Optimizers)
    log: Log = attrs.field(factory=Log)
    seed: int = option(0, help="of every random number", validator=and_(ge(0), lt(2**63)))
    name: str = option("comparison", help="of the folder under runs/", validator=matches_re(r"\w[\w .+-]*"))


# ------------------------------------------------------------------------------------------------- reading and writing


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe.

    `overrides` are texts such as "train.steps=10" or "constraints[0].weight=1.0", parsed as TOML. Raises RecipeError
    with every mistake, RequestError where the file cannot be read.
    """
    return structure(_document(Path(path), overrides), str(path), plugins.load())


def load_sampler(path: str | Path) -> Sampler:
    """Reads a recipe's generator and latents and nothing else, so that no other plugin is needed. Raises likewise."""
    document = {k: v for k, v in _document(Path(path), ()).items() if k in ("generator", "latent")}
    return _structure(document, str(path), plugins.load(), Sampler)


def load_comparison(path: str | Path, overrides: Iterable[str] = (), run: str | None = None) -> Comparison:
    """Reads a recipe as a comparison: with a table [against], or against the generator of the run in the folder `run`.

    Its generator and latents, where it has them, are left aside. Raises as `load_recipe` does.
    """
    document = {k: v for k, v in _document(Path(path), overrides).items() if k not in ("generator", "latent")}
    if run is not None:
        document["against"] = {"run": run}
    registry = plugins.load()
    return _structure(document, str(path), registry, Comparison)


def _document(path: Path, overrides: Iterable[str]) -> dict[str, Any]:
    try:
        document = tomli.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:  # not TOML, an integer too long for Python, tables nested too deep
        raise RecipeError([f"{path}: not valid TOML: {error}"]) from None
    for text in overrides:
        _override(document, text)
    document.setdefault("name", re.sub(r"^\W+|[^\w .+-]", "", path.stem) or "recipe")
    return document


def structure(document: Mapping[str, Any], source: str, registry: Registry) -> Recipe:
    """The recipe of a parsed document; `source` stands before each problem. Raises RecipeError."""
    return _structure(document, source, registry, Recipe)


def _structure(document: Mapping[str, Any], source: str, registry: Registry, cls: type[Read]) -> Read:
    converter = make_converter(registry)
    converter.register_structure_hook(Optimizer, structure_optimizer)
    converter.register_structure_hook_func(
        functools.partial(operator.eq, Dataset | FromRun),
        lambda value, _: converter.structure(value, FromRun if "run" in as_table(value) else Dataset),
    )
    try:
        return converter.structure(document, cls)
    except Exception as error:
        raise RecipeError([f"{source}: {place or 'recipe'}: {text}" for place, text in problems(error)]) from None


def to_toml(recipe: Recipe | Comparison, registry: Registry) -> str:
    """The recipe with every option written out and every component by its full name, plugin:name."""

    def plain(value: Any) -> Any:
        if isinstance(value, (Optimizer, Schedule)):
            table = {"use": value.use, **plain(value.options)}
            if isinstance(value, Optimizer) and value.schedule is not None:
                table["schedule"] = plain(value.schedule)
            return table
        if attrs.has(type(value)):
            table = {a.name: plain(getattr(value, a.name)) for a in attrs.fields(type(value))}
            if isinstance(value, tuple(BASES.values())):
                table = {"use": registry.full_name(type(value)), **table}
            return {key: item for key, item in table.items() if item is not None}  # TOML has no None
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        return {key: plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value

    return tomli_w.dumps(plain(recipe))


def _override(document: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    path = re.findall(r"[^.\[\]\s]+", key)
    if not equals or not path:
        raise RequestError(f"--set {text}: write it as table.option=value")
    try:
        (parsed,) = tomli.loads(f"value = {value}").values()
    except (ValueError, RecursionError):  # not TOML, or more than one value
        if not re.fullmatch(r"[\w:./-]+", value.strip()):
            raise RequestError(f"--set {text}: {value!r} is no TOML value") from None
        parsed = value.strip()  # a bare word: shells take the quotes away
    table: Any = document
    for name, after in zip(path, [*path[1:], None], strict=True):
        if isinstance(table, list):
            if not name.isdecimal() or int(name) >= len(table):
                raise RequestError(f"--set {text}: no element {name} in a list of {len(table)}")
            index: Any = int(name)
        elif isinstance(table, dict):
            index = name
        else:
            raise RequestError(f"--set {text}: {name} lies in something that is no table")
        if after is None:
            table[index] = parsed
        else:
            table = table.setdefault(index, {}) if isinstance(table, dict) else table[index]
