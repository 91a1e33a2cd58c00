"""Recipes that installed packages bring: ganframe's own and those of plugins. No plugin is imported.

A plugin whose module is `my_plugin` has its recipes in a folder `my_plugin_recipes` beside that module. Where the
module lies in a project (a folder with a pyproject.toml, or src/ in it), as `pip install -e` leaves it, they are also
the TOML files of the project and those of its folder `recipes`.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import tomli

from ganframe.errors import RequestError, did_you_mean
from ganframe.plugins.discovery import installed

# Not after "et al.", "e.g." and the initials of a name, but after G and D.
SENTENCE_END = re.compile(r"(?<!\bal)(?<!\be\.g)(?<!\b[A-CEFH-Z])[.:]\s+(?=[^a-z\d\s])|(?<=\?)\s")


@attrs.frozen
class InstalledRecipe:
    """A recipe of a distribution. `name` is its path in the folder of recipes, without the suffix."""

    name: str
    distribution: str
    file: Path

    @property
    def full_name(self) -> str:
        """The name that no other distribution has."""
        return f"{self.distribution}:{self.name}"

    @property
    def command(self) -> str:
        """The command that takes it: run, study or divergence."""
        document = _parsed(self.file) or {}
        return "study" if "base" in document else "divergence" if "against" in document else "run"

    @property
    def summary(self) -> str:
        """The first sentence of the comment at its top, or the components that it names."""
        try:
            lines = self.file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            return f"cannot be read: {error}"
        end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
        comment = " ".join(line.lstrip("# ") for line in lines[:end])
        if comment.strip():
            return SENTENCE_END.split(comment.strip())[0].removesuffix(".")
        document = _parsed(self.file)
        if document is None:
            return "not valid TOML"
        tables = (document.get(kind) for kind in ("generator", "objective", "dataset"))
        return ", ".join(str(table["use"]) for table in tables if isinstance(table, dict) and "use" in table)


def installed_recipes() -> list[InstalledRecipe]:
    """The recipes of ganframe and of every plugin that can be loaded, ordered by distribution and name."""
    found: dict[Path, InstalledRecipe] = {}
    for plugin in installed():
        if plugin.entry_point is None or plugin.obstacle:
            continue
        for folder, file in _files(plugin.entry_point.module.partition(".")[0]):
            name = file.relative_to(folder).with_suffix("").as_posix()
            found.setdefault(file, InstalledRecipe(name, plugin.distribution, file))
    return sorted(
        found.values(), key=lambda recipe: (recipe.distribution != "ganframe", recipe.distribution, recipe.name)
    )


def find_recipe(name: str) -> InstalledRecipe:
    """The installed recipe of a name, or of a full name. Raises RequestError where none or several have it."""
    recipes = installed_recipes()
    fitting = [recipe for recipe in recipes if name in (recipe.name, recipe.full_name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise RequestError(f"{name}: several have this name: {', '.join(recipe.full_name for recipe in fitting)}")
    last = [recipe.name for recipe in recipes if recipe.name.rpartition("/")[2] == name]
    near = f"; did you mean '{last[0]}'?" if last else did_you_mean(name, {recipe.name for recipe in recipes})
    hint = near if "did you mean" in near else "; `ganframe recipes` lists them"
    raise RequestError(f"{name}: no such file, and no installed recipe has this name{hint}")


def recipe_file(path: Path) -> Path:
    """The file of a path, or of an installed recipe's name. A file that exists comes first.

    Raises RequestError where there is neither.
    """
    if path.exists() or path.is_absolute():
        return path
    if path.suffix != ".toml":
        return find_recipe(path.as_posix()).file
    asked = f"/{path.with_suffix('').as_posix()}"
    same = [recipe.name for recipe in installed_recipes() if asked.endswith(f"/{recipe.name}")]
    hint = f"; an installed recipe is called {max(same, key=len)}" if same else ""
    raise RequestError(f"{path}: no such file{hint}")


def copied(recipe: InstalledRecipe) -> str:
    """The text of a recipe to be kept elsewhere: the base of a study, a file beside it, becomes an installed name."""
    text = recipe.file.read_text(encoding="utf-8-sig")
    base = (_parsed(recipe.file) or {}).get("base")
    if isinstance(base, str):
        file = (recipe.file.parent / base).resolve()
        names = [other.name for other in installed_recipes() if other.file.resolve() == file]
        if names:
            return re.sub(r"(?m)^base\s*=.*$", lambda _: f'base = "{names[0]}"', text, count=1)
    return text


def _files(module: str) -> Iterator[tuple[Path, Path]]:
    """(folder, file) of every recipe beside a module."""
    where = _place(module)
    if where is None:
        return
    folders = [where / f"{module}_recipes"]
    project = where.parent if where.name == "src" else where
    if (project / "pyproject.toml").is_file():
        folders.append(project / "recipes")
        for file in sorted(project.glob("*.toml")):
            if _is_recipe(file):
                yield project, file
    for folder in folders:
        for file in sorted(folder.rglob("*.toml")):
            if _is_recipe(file):
                yield folder, file


def _place(module: str) -> Path | None:
    """The folder that a top-level module or package lies in; None where there is none. Imports nothing."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # what an import hook, or a module without a spec in sys.modules, may raise
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return Path(spec.origin).parent if spec.has_location and spec.origin else None


def _is_recipe(file: Path) -> bool:
    """Whether a TOML file is a recipe or a study. One with a mistake in its syntax is taken as one, to be reported."""
    document = _parsed(file)
    return file.name != "pyproject.toml" and (
        document is None or "base" in document or ("dataset" in document and "objective" in document)
    )


def _parsed(file: Path) -> dict[str, Any] | None:
    try:
        return tomli.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
