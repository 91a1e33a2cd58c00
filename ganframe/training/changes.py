"""What a resumed run may change: its recipe and its data are compared with those of its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli

from ganframe.data.fingerprint import OF_ANY_DATA, VALUES, comparable
from ganframe.errors import RecipeError, RequestError, warn
from ganframe.recipes.reading import load_generator_recipe, load_recipe
from ganframe.recipes.tables import GeneratorRecipe, Recipe
from ganframe.recipes.writing import to_table, to_toml
from ganframe.storage import checkpoints, provenance
from ganframe.storage.run_folder import RunFolder

PATHS = ("root", "path", "file", "folder", "directory")  # usual names of options that are paths
FREE = ("train.steps", "train.workers", "train.on_nonfinite", "name")
MAY_CHANGE = "only train.steps, train.workers, train.on_nonfinite, [log], [[metrics]] and paths in [dataset] may change"


@attrs.frozen
class Resumed:
    """The recipe of a resumed run. `moved` are the options of its dataset that name another place than in training."""

    recipe: Recipe
    moved: tuple[str, ...]


def resumed_recipe(folder: RunFolder, overrides: Iterable[str]) -> Resumed:
    """The recipe in a run's folder with `overrides`, if it is the one that the run was trained with.

    It is compared with the one in the newest checkpoint, so that an edit by hand is found too. How long to train, what
    to log, and where the data lies may differ. Raises RequestError with each other difference.
    """
    with provenance.naming_missing_plugins(folder):
        kept = load_recipe(folder.recipe)
        asked = load_recipe(folder.recipe, overrides, kept.registry)
    now, file, then = (_options(recipe) for recipe in (asked, kept, _trained(folder, kept)))
    changed = [place for place in {**now, **then} if now.get(place) != then.get(place)]
    moved = tuple(place for place in changed if _is_path(place, then.get(place), now.get(place)))
    fixed = [place for place in changed if place not in (*FREE, *moved) and not place.startswith(("log.", "metrics"))]
    if fixed:
        edits = [
            f"{place} was {_shown(then.get(place))} and is {_shown(now.get(place))} "
            f"({'recipe.toml' if now.get(place) == file.get(place) else '--set'})"
            for place in fixed
        ]
        raise RequestError(
            f"{folder.path}: a resumed run keeps its recipe: {_few(edits)}; undo that, or start a new run from these "
            f"weights with train.from = {_shown(str(folder.path))}; {MAY_CHANGE}"
        )
    return Resumed(asked, moved)


def refuse_edits(folder: RunFolder, recipe: Recipe | GeneratorRecipe) -> None:
    """Raises RequestError where a run's recipe.toml says other networks than its newest checkpoint was trained with.

    Without it an activation that was edited by hand would be used with the weights of another. `recipe` is that of
    the folder.
    """
    file = checkpoints.newest_recipe(folder)
    read = load_recipe if isinstance(recipe, Recipe) else load_generator_recipe
    try:
        trained = None if file is None else read(file, registry=recipe.registry)
    except RequestError:
        return
    if trained is None:
        return
    now, then = (_networks(found) for found in (recipe, trained))
    edits = [
        f"{place} was {_shown(then.get(place))} and is {_shown(now.get(place))}"
        for place in {**now, **then}
        if now.get(place) != then.get(place)
    ]
    if edits:
        raise RequestError(f"{folder.recipe}: its weights were trained with another recipe: {_few(edits)}; undo that")


def missing_paths(recipe: Recipe) -> Iterator[str]:
    """A line for each relative path in [dataset] where nothing is: it may be relative to another folder."""
    for place, value in _relative_paths(recipe):
        if not Path(value).exists():
            yield (
                f"{recipe.title}: {place}: {_shown(value)} is looked for in {Path.cwd()}; resume from the folder where "
                f"the run was started, or say where the data lies with --set {place}=…"
            )


def other_data(folder: RunFolder, checkpoint: Path, resumed: Resumed, now: Mapping[str, Any]) -> str | None:
    """What is wrong with the data of a resumed run with the fingerprint `now`; None where it is the checkpoint's.

    Other values alone give a warning: another version of a library may read the same files a little differently. They
    are refused where the data lies elsewhere and nothing else identifies it.
    """
    then = checkpoints.read_manifest(checkpoint).get("data")
    then = then if isinstance(then, dict) else {}
    common = [name for name in then if name in now and comparable(then[name], now[name])]
    if resumed.moved and not {*common} - {*OF_ANY_DATA}:
        named = ", ".join(resumed.moved)
        warn(
            f"{checkpoint}: it has no fingerprint that tells its data from others; {named} is taken to be the same data"
        )
    differing = [name for name in common if then[name] != now[name]]
    if not differing:
        return None
    if differing == [VALUES] and not (resumed.moved and {*common} <= {*OF_ANY_DATA, VALUES}):
        warn(
            f"{folder.path}: values of the data are not those that the run was trained on (files that changed, another "
            "version of a library?); it goes on with them, and is not the run that it would be without a break"
        )
        return None
    edits = [
        f"{name} differ"
        if isinstance(now[name], str)
        else f"{name} was {_shown(then[name])} and is {_shown(now[name])}"
        for name in differing
    ]
    at = [
        f"{place} = {_shown(value)} is looked for in {Path.cwd()}" for place, value in _relative_paths(resumed.recipe)
    ]
    where = f" ({', '.join(at)})" if at else ""
    return (
        f"{folder.path}: the data is not that of the run: {_few(edits)}{where}; bring it back, say where it lies with "
        f"--set, or start a new run from these weights with train.from = {_shown(str(folder.path))}"
    )


def _trained(folder: RunFolder, kept: Recipe) -> Recipe:
    """The recipe of the newest checkpoint; `kept`, that of the folder, where no checkpoint has one."""
    file = checkpoints.newest_recipe(folder)
    if file is None:
        return kept
    try:
        return load_recipe(file, registry=kept.registry)
    except RecipeError as error:  # as with a plugin of another version
        warn(f"{error.problems[0]}; recipe.toml is not compared with it")
        return kept


def _networks(recipe: Recipe | GeneratorRecipe) -> dict[str, Any]:
    """The options of the networks and the prior, by place."""
    tables = [name for name in ("generator", "latent", "discriminator", "constraints") if hasattr(recipe, name)]
    return dict(_leaves({name: to_table(getattr(recipe, name), recipe.registry) for name in tables}))


def _options(recipe: Recipe) -> dict[str, Any]:
    """Every option by its place, as in {"constraints[0].weight": 10.0}."""
    return dict(_leaves(tomli.loads(to_toml(recipe))))


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{index}]")
    else:
        yield place, value


def _is_path(place: str, *values: Any) -> bool:
    """Whether an option is where the dataset lies: by its name, or as a text with a slash or the name of a file."""
    if not place.startswith("dataset.") or place.endswith(".use") or not all(isinstance(v, str) for v in values):
        return False
    return place.rpartition(".")[2] in PATHS or any(
        "/" in v or "\\" in v or v in (".", "..", "~") or ("." in v and _exists(v)) for v in values
    )


def _exists(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # too long for a name, a null character
        return False


def _relative_paths(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(place, value) of the options in [dataset] that seem to be relative paths."""
    for place, value in _options(recipe).items():
        if _is_path(place, value) and not (value.startswith("~") or "://" in value or Path(value).is_absolute()):
            yield place, value


def _shown(value: Any) -> str:
    return "not there" if value is None else json.dumps(value, ensure_ascii=False)


def _few(texts: list[str]) -> str:
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
