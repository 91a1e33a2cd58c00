"""Reads recipes from TOML. Every mistake is reported at once, each with its place."""

from __future__ import annotations

import datetime
import functools
import operator
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import cattrs
import tomli

from ganframe.components import Dataset, Metric
from ganframe.errors import RecipeError, RequestError
from ganframe.plugins.registry import Registry, load
from ganframe.recipes.installed import recipe_file
from ganframe.recipes.optimizers import Optimizer, structure_optimizer
from ganframe.recipes.strict import Problem, as_table, make_converter, problems
from ganframe.recipes.tables import (
    Comparison,
    CriticRecipe,
    DatasetRecipe,
    Evaluation,
    FromRun,
    GeneratorRecipe,
    Recipe,
)
from ganframe.recipes.timing import moved_mistakes, split_timing

Read = TypeVar("Read", Recipe, GeneratorRecipe, DatasetRecipe, CriticRecipe, Comparison)


def load_recipe(path: str | Path, overrides: Iterable[str] = (), registry: Registry | None = None) -> Recipe:
    """Reads a recipe: a file, or the name of an installed one.

    `overrides` are texts such as "train.steps=10" or "constraints[0].weight=1.0", parsed as TOML; what is not TOML is a
    text, as in "dataset.root=~/my images". The plugins are those of `registry`; by default the installed ones are
    loaded. Raises RecipeError with every mistake, RequestError where the file cannot be read.
    """
    return structure(read_document(Path(path), overrides), str(path), registry or load())


def load_generator_recipe(path: str | Path, registry: Registry | None = None) -> GeneratorRecipe:
    """Reads only a recipe's generator and prior, so that no other plugin is needed. Raises as `load_recipe` does."""
    document = {k: v for k, v in read_document(Path(path), ()).items() if k in ("generator", "latent")}
    return _structure(document, str(path), registry or load(), GeneratorRecipe)


def load_comparison(
    path: str | Path, overrides: Iterable[str] = (), run: str | None = None, registry: Registry | None = None
) -> Comparison:
    """Reads a recipe as a comparison: with a table [against], or against the generator of the run in the folder `run`.

    The recipe's own generator and prior, where it has them, are ignored. Raises as `load_recipe` does.
    """
    document = read_document(Path(path), overrides)
    if run is not None:
        document["against"] = {"run": run}
    return structure_comparison(document, str(path), registry or load())


def load_dataset(path: str | Path, overrides: Iterable[str] = (), registry: Registry | None = None) -> Dataset:
    """Reads only a recipe's dataset, so that no other plugin is needed. Raises as `load_recipe` does."""
    document = read_document(Path(path), overrides)
    return structure_dataset(document.get("dataset"), registry or load(), str(path))


def structure_dataset(table: Any, registry: Registry, source: str) -> Dataset:
    """The dataset of a parsed table; `source` is the prefix of each problem. Raises RecipeError."""
    document = {} if table is None else {"dataset": table}
    return _structure(document, source, registry, DatasetRecipe).dataset


def load_critic(text: str, overrides: Iterable[str], registry: Registry, source: str) -> CriticRecipe:
    """The critic of a recipe's text (TOML), with overrides; `source` is the prefix of each problem.

    An override that names another component, as "discriminator.use=sll", takes the place of the whole table: the
    options were those of the component before. Raises as `load_recipe` does.
    """
    document, given = tomli.loads(text), tuple(overrides)
    for said in given:
        place = said.partition("=")[0].strip()
        table = re.split(r"[.\[\s]", place)[0]
        if table not in document:
            raise RequestError(f"--set {said}: a critic has no table [{table}]; known: {', '.join(document)}")
        if place.endswith(".use"):
            assign(document, place.removesuffix(".use"), {}, f"--set {said}")
    for said in given:
        override(document, said)
    return structure_critic(document, registry, source)


def structure_critic(document: Mapping[str, Any], registry: Registry, source: str) -> CriticRecipe:
    """The critic of a parsed document; `source` is the prefix of each problem. Raises RecipeError."""
    return _structure(document, source, registry, CriticRecipe)


def load_metrics(asked: Iterable[str | Mapping[str, Any]], registry: Registry) -> tuple[Evaluation, ...]:
    """Metrics by name, or by tables as of [[metrics]], in Python or as TOML: '{ use = "frechet", real = 500 }'.

    Raises RecipeError with every mistake.
    """
    converter, found, mistakes = make_converter(registry), [], []
    for given in asked:
        place = f"--metric {given}" if isinstance(given, str) else "metric"
        try:
            found.append(structure_evaluation(_metric_table(given), converter))
        except Exception as error:
            for where, text in problems(error, "metric"):
                option = where.removeprefix("metric").removeprefix(".")
                mistakes.append(f"{place}: {text}" if option in ("use", "") else f"{place}: {option}: {text}")
    if mistakes:
        raise RecipeError(mistakes)
    return tuple(found)


def _metric_table(given: str | Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(given, str):
        return given
    if not given.startswith("{"):
        return {"use": given}
    try:
        return tomli.loads(f"table = {given}")["table"]
    except (ValueError, RecursionError):
        raise ValueError("""is no table of TOML, as in '{ use = "frechet", features = "pixels" }'""") from None


def structure(document: Mapping[str, Any], source: str, registry: Registry) -> Recipe:
    """The recipe of a parsed document; `source` is the prefix of each problem. Raises RecipeError."""
    return _structure(document, source, registry, Recipe)


def structure_comparison(document: Mapping[str, Any], source: str, registry: Registry) -> Comparison:
    """The comparison of a parsed document, without its generator and prior. Raises as `structure`."""
    document = {k: v for k, v in document.items() if k not in ("generator", "latent")}
    return _structure(document, source, registry, Comparison)


def _structure(document: Mapping[str, Any], source: str, registry: Registry, cls: type[Read]) -> Read:
    converter = make_converter(registry)
    converter.register_structure_hook(Optimizer, lambda value, _: structure_optimizer(value, registry))
    converter.register_structure_hook(Registry, lambda value, _: value)  # handed through
    converter.register_structure_hook_func(
        functools.partial(operator.eq, Dataset | FromRun),
        lambda value, _: converter.structure(value, FromRun if "run" in as_table(value) else Dataset),
    )
    converter.register_structure_hook(Evaluation, lambda value, _: structure_evaluation(value, converter))
    hidden = {a.name for a in attrs.fields(cls) if not a.metadata.get("option", True)}
    split = split_timing({name: table for name, table in document.items() if name not in hidden}, registry)
    mistakes = [(name, "unknown table") for name in sorted(hidden & document.keys())]
    recipe: Read | None = None
    try:
        own = {"registry": registry, **({"source": source} if "source" in hidden else {})}
        recipe = converter.structure({**own, **split.document}, cls)
    except Exception as error:
        mistakes += [(place, text) for place, text in problems(error) if place not in split.settled]
    mistakes += split.mistakes
    if recipe is not None and not mistakes and "timing" in hidden:
        recipe = attrs.evolve(recipe, timing=split.timing)  # type: ignore[call-arg]
        mistakes = list(moved_mistakes(recipe))
    if cls is Comparison:
        hint = "missing; write a table [against], or give --against RUN"
        mistakes = [(place, hint if (place, text) == ("against", "missing") else text) for place, text in mistakes]
    if recipe is None or mistakes:
        raise RecipeError([f"{source}: {place or 'recipe'}: {text}" for place, text in mistakes])
    return recipe


def structure_evaluation(value: Any, converter: cattrs.Converter) -> Evaluation:
    """A table of [[metrics]]: `every` and `samples` are its own, the rest are the metric and its options."""
    table, own = dict(as_table(value)), {}
    mistakes: list[Exception] = []
    for attribute in attrs.fields(Evaluation):
        if attribute.name in table and attribute.name != "metric":
            try:
                own[attribute.name] = converter.structure(table.pop(attribute.name), int)
                attribute.validator(None, attribute, own[attribute.name])  # type: ignore[misc]
            except Exception as error:
                mistakes += [Problem(attribute.name, text) for _, text in problems(error, attribute.name)]
    try:
        metric = converter.structure(table, Metric)
    except Exception as error:
        mistakes.append(error)
    if mistakes:
        raise ExceptionGroup("metric", mistakes)
    return Evaluation(metric, **own)


def read_document(path: Path, overrides: Iterable[str]) -> dict[str, Any]:
    """The parsed file, or installed recipe, with the overrides applied and a name; its tables are not checked.

    Raises as `load_recipe` does.
    """
    file = recipe_file(path)
    try:
        document = tomli.loads(file.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark of UTF-8
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: cannot be read: it is not UTF-8 ({error}); save it in this encoding") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:  # not TOML, an integer too long for Python, tables nested too deep
        raise RecipeError([f"{path}: not valid TOML: {error}"]) from None
    for text in overrides:
        override(document, text)
    document.setdefault("name", re.sub(r"^\W+|[^\w .+-]", "", file.stem) or "recipe")
    return document


def override(document: dict[str, Any], text: str) -> None:
    """Applies "table.option=value" to a parsed recipe. Raises RequestError, with --set before the text."""
    key, equals, value = text.partition("=")
    path = re.findall(r"[^.\[\]\s]+", key)
    if not equals or not path:
        raise RequestError(f"--set {text}: write it as table.option=value")
    assign(document, key, _value(text, value.strip()), f"--set {text}")


def assign(document: dict[str, Any], place: str, value: Any, said: str) -> None:
    """Sets the option at a place of a parsed recipe. Raises RequestError, beginning with `said`, if there is none."""
    path = re.findall(r"[^.\[\]\s]+", place)
    table: Any = document
    for name, after in zip(path, [*path[1:], None], strict=True):
        if isinstance(table, list):
            if not name.isdecimal() or int(name) >= len(table):
                raise RequestError(f"{said}: no element {name} in a list of {len(table)}")
            index: Any = int(name)
        elif isinstance(table, dict):
            index = name
        else:
            raise RequestError(f"{said}: {name} is inside something that is not a table")
        if after is None:
            table[index] = value
        else:
            table = table.setdefault(index, {}) if isinstance(table, dict) else table[index]


def _value(override: str, text: str) -> Any:
    """The value of an option of the command line: TOML, or else a text without quotes, because shells remove them."""
    try:
        (parsed,) = tomli.loads(f"value = {text}").values()
    except (ValueError, RecursionError):  # not TOML, or more than one value
        if not text.isprintable() or not text or text[0] in "[{\"'":
            raise RequestError(
                f"--set {override}: {text!r} is not a TOML value; in lists and tables texts have quotes, and the shell "
                """keeps them inside others, as in --set 'constraints=[{use="spectral_norm"}]'"""
            ) from None
        return os.path.expanduser(text)  # as the shell does where a word begins with ~
    return text if isinstance(parsed, datetime.date | datetime.time) else parsed  # no option is a date
