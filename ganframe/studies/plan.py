"""From a study to its runs: each cell and seed with its recipe, and the folder that the recipe's hash names."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ganframe.errors import RecipeError, RequestError, counted
from ganframe.plugins.registry import Registry, load
from ganframe.recipes.reading import structure, structure_comparison
from ganframe.recipes.tables import Comparison, FromRun, Log, Recipe
from ganframe.recipes.writing import to_toml
from ganframe.storage import checkpoints, provenance, run_folder
from ganframe.studies.reading import Choice, StudyFile, choose, read_study


@attrs.frozen
class Planned:
    """A run to be made: its cell, as {axis: name of the choice}, its seed, its recipe, and the name of its folder."""

    cell: Mapping[str, str]
    seed: int
    recipe: Recipe | Comparison
    name: str

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{cell_title(self.cell)}, seed {self.seed}"


@attrs.frozen
class Study:
    """A study whose recipes are sound. `runs` are in the order in which they are begun: the first seed of all cells,
    then the next.
    """

    file: StudyFile
    runs: tuple[Planned, ...]

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def baseline(self) -> Mapping[str, str]:
        """The cell that others are compared with."""
        return self.file.baseline

    def cells(self) -> list[Mapping[str, str]]:
        """All cells; the last axis varies fastest."""
        return [run.cell for run in self.runs if run.seed == self.file.seeds[0]]


def load_study(path: str | Path, overrides: Iterable[str] = (), registry: Registry | None = None) -> Study:
    """Reads a study and the recipe of each cell.

    Raises RecipeError with every mistake, at the choice that it comes from; RequestError where a file cannot be read.
    """
    return plan(read_study(path, overrides), registry or load())


def plan(file: StudyFile, registry: Registry) -> Study:
    """The runs of a study. Raises RecipeError where a recipe has mistakes, or two cells have the same."""
    named = ([choice.name for choice in choices] for choices in file.axes.values())
    cells = [dict(zip(file.axes, names, strict=True)) for names in itertools.product(*named)]
    recipes: list[tuple[dict[str, str], Recipe | Comparison]] = []
    found: list[tuple[dict[str, str], str]] = []
    for cell in cells:
        document, mistakes = choose(file.base, dict(_choices(file, cell)))
        if mistakes:
            found += [(cell, f"{place}: {text}") for place, text in mistakes]
            continue
        try:
            recipes.append((cell, _structured(document, file, registry)))
        except RecipeError as error:
            found += [(cell, problem.removeprefix(": ")) for problem in error.problems]
    if found:
        raise RecipeError(at_fault(file, found))
    runs = []
    for seed, (cell, recipe) in itertools.product(file.seeds, recipes):
        seeded = attrs.evolve(recipe, seed=seed, source=f"{file.title}: {cell_title(cell)}, seed {seed}")
        runs.append(Planned(cell, seed, seeded, folder_name(seeded)))
    _refuse_same(file, runs)
    return Study(file, tuple(runs))


def _structured(document: Mapping[str, Any], file: StudyFile, registry: Registry) -> Recipe | Comparison:
    """The recipe of a cell, or its comparison where it has a table [against]."""
    if "against" not in document:
        return structure(document, "", registry)
    if "metrics" in document:
        raise RecipeError(["metrics: a comparison is judged by its critic alone; remove [[metrics]]"])
    if file.search is not None:
        raise RecipeError(["search: a search needs a generator that [[metrics]] judge; a comparison has none"])
    return structure_comparison(document, "", registry)


def cell_title(cell: Mapping[str, str]) -> str:
    """What messages and tables call a cell: "objective = hinge, rate = slow"."""
    return ", ".join(f"{axis} = {name}" for axis, name in cell.items()) or "the base recipe"


def folder_name(recipe: Recipe | Comparison) -> str:
    """12 hexadecimal digits: a hash of all that decides which weights a run ends with.

    That is the recipe without its name, [[metrics]] and [log], the versions of its plugins, and the weights that
    `train.from` or [against] name. Where the best checkpoint is kept, or a run rolls back to one, [log] and [[metrics]]
    count too.
    """
    train = attrs.evolve(recipe.train, from_=_content(recipe.train.from_), workers=0)
    bare: Recipe | Comparison
    if isinstance(recipe, Comparison):
        against = recipe.against
        side = FromRun(_generator(against.run)) if isinstance(against, FromRun) else against
        bare = attrs.evolve(recipe, name="recipe", train=train, log=Log(), against=side)
    else:
        plain = recipe.log.keep_best is None and recipe.train.on_nonfinite == "stop"
        bare = attrs.evolve(
            recipe,
            name="recipe",
            train=train,
            log=Log() if plain else recipe.log,
            metrics=() if plain else recipe.metrics,
        )
    versions = provenance.versions(bare.components(), bare.registry, bare.optimizer.of_plugins())["plugins"]
    return hashlib.sha256(json.dumps([to_toml(bare), versions], sort_keys=True).encode()).hexdigest()[:12]


def _content(path: str | None) -> str | None:
    """The checksums of the weights that `train.from` would take; the path itself where there are none."""
    if path is None:
        return None
    try:
        newest, _ = checkpoints.newest_intact(run_folder.existing(path))
        files = checkpoints.read_manifest(newest)["files"] if newest is not None else {}
    except RequestError:
        return path
    return json.dumps({name: files[name] for name in sorted(files) if name.endswith(".safetensors")}) if files else path


def _generator(run: str) -> str:
    """The checksum of the generator of a run; the path itself where there is none."""
    try:
        return hashlib.sha256(run_folder.existing(run).generator.read_bytes()).hexdigest()
    except (RequestError, OSError):
        return run


def at_fault(file: StudyFile, found: Iterable[tuple[Mapping[str, str], str]]) -> list[str]:
    """Problems of cells, each with the place that it comes from: the base recipe, a choice, or else the cell.

    `found` are cells with "place: text", where the place is one of the cell's recipe, or of the study: axes.…
    """
    where: dict[str, list[Mapping[str, str]]] = {}
    for cell, problem in found:
        where.setdefault(problem, []).append(cell)
    places = ((place, problem) for problem, cells in where.items() for place in _places(file, problem, cells))
    return list(dict.fromkeys(f"{place}: {problem}" for place, problem in places))


def _places(file: StudyFile, problem: str, cells: list[Mapping[str, str]]) -> list[str]:
    """Where a problem of these cells comes from."""
    if problem.startswith("axes."):
        return [file.title]
    total = math.prod(len(choices) for choices in file.axes.values())
    shared: list[str] = []
    for axis, choices in file.axes.items():
        names = {cell[axis] for cell in cells}
        if len(cells) < total * len(names) // len(choices):  # other cells with these choices do not have it
            continue
        chosen = [pair for name in sorted(names) for pair in _choices(file, {axis: name})]
        if all(_sets(choice, problem) for _, choice in chosen):
            return [f"{file.title}: {place}{_set_at_fault(choice, problem)}" for place, choice in chosen]
        if len(names) == 1 and len(choices) > 1:
            shared = [f"{file.title}: {place}" for place, _ in chosen]
    if shared or len(cells) == total:
        return shared or [_place_in_base(file, problem)]
    others = f" and {counted(len(cells) - 1, 'other cell')}" if len(cells) > 1 else ""
    return [f"{file.title}: {cell_title(cells[0])}{others}"]


def _choices(file: StudyFile, cell: Mapping[str, str]) -> Iterator[tuple[str, Choice]]:
    """The choices of a cell, each with its place in the study."""
    for axis, name in cell.items():
        for choice in file.axes[axis]:
            if choice.name == name:
                yield choice.place, choice


def _place_in_base(file: StudyFile, problem: str) -> str:
    """The place in the study that sets what a problem of all cells is about; else the base recipe."""
    for place, text in reversed(file.sets):
        if _is_about(problem, text):
            return f"{file.title}: {place}"
    return file.title if file.own_metrics and problem.startswith("metrics") else file.base_title


def _set_at_fault(choice: Choice, problem: str) -> str:
    """`.set[1]`, the text of a choice that set what a problem is about; empty where none did."""
    found = [index for index, text in enumerate(choice.sets) if _is_about(problem, text)]
    return f".set[{found[-1]}]" if found else ""


def _sets(choice: Choice, problem: str) -> bool:
    """Whether a choice sets what a problem is about."""
    return bool(_set_at_fault(choice, problem)) or next(iter(_parts(problem.partition(": ")[0])), "") in choice.tables


def _is_about(problem: str, text: str) -> bool:
    """Whether a problem, "place: …", is about what a text set, or about what is around it."""
    about, key = _parts(problem.partition(": ")[0]), _parts(text.partition("=")[0])
    return about[: len(key)] == key or key[: len(about)] == about


def _parts(place: str) -> list[str]:
    return re.findall(r"[^.\[\]\s]+", place)


def _refuse_same(file: StudyFile, runs: Iterable[Planned]) -> None:
    """Raises RecipeError where two cells would make the same runs: what a choice sets has no effect."""
    first: dict[str, Planned] = {}
    problems = []
    for run in runs:
        other = first.setdefault(run.name, run)
        if other is not run and run.seed == file.seeds[0]:
            problems.append(f"{file.title}: {cell_title(run.cell)}: the same recipe as {cell_title(other.cell)}")
    if problems:
        raise RecipeError(problems)
