"""Writes the package of a new plugin, with one working component of a kind.

The templates under `templates/` are complete packages called `ganframe-example`. A new package is a copy of one with
the names replaced. Nothing is imported from the templates.
"""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
from pathlib import Path

from ganframe.errors import RequestError
from ganframe.plugins.registry import Registry

TEMPLATES = Path(__file__).parents[1] / "templates"


def write_package(name: str, kind: str, folder: Path, registry: Registry) -> list[Path]:
    """Writes the package of a plugin called `name`, with one component of `kind`, into a new `folder`.

    The component and the plugin have the package's name, without "ganframe-" and with _ for -. Returns the files.
    Raises RequestError where the name cannot be used or the folder is not empty.
    """
    names = _names(name)
    component, module = names["example"], names["ganframe_example"]
    if component in registry.names(kind) or any(component == p.name for p in registry.plugins):
        raise RequestError(
            f"{name}: '{component}' is the name of an installed plugin or {kind} already; choose another"
        )
    files = [(TEMPLATES / source, p) for source in ("package", kind) for p in _templates(TEMPLATES / source)]
    taken = {word for _, file in files if file.suffix == ".py" for word in _used(file)} - {"Example"}
    if names["Example"] in taken or keyword.iskeyword(names["Example"]):
        raise RequestError(f"{name}: the class {names['Example']} would hide an imported name; choose another name")
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None:
        raise RequestError(f"{name}: a module '{module}' is installed already; choose another name")
    written = []
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RequestError(f"{folder}: is not empty; choose another folder with --out")
        for source, template in files:
            # The files common to all kinds say "objective" for the kind; in the files of one kind the word is itself.
            words = {**names, "objective": kind} if source.name == "package" else names
            file = folder / _replaced(str(template.relative_to(source)), words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_replaced(template.read_text(encoding="utf-8"), words), encoding="utf-8")
            written.append(file)
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written: {error}") from None
    return written


def _templates(source: Path) -> list[Path]:
    return sorted(p for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def _used(file: Path) -> set[str]:
    """The names that a module's code uses."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    return used | {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}


def _replaced(text: str, words: dict[str, str]) -> str:
    return re.sub("|".join(words), lambda match: words[match[0]], text)


def _names(name: str) -> dict[str, str]:
    """Words of the templates -> their replacements. Longer words come first: the first match is replaced."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*", name):
        raise RequestError(
            f"{name!r}: a package's name must consist of letters, digits and single -, and begin with a letter"
        )
    module = re.sub(r"[-.]", "_", name).lower()
    component = module.removeprefix("ganframe_")
    if not component.isidentifier() or keyword.iskeyword(component) or keyword.iskeyword(module):
        raise RequestError(f"{name}: '{component}' cannot be the name of a Python module; choose another")
    return {
        "ganframe_example": module,
        "ganframe-example": name,
        "example": component,
        "Example": "".join(part.capitalize() for part in component.split("_")),
    }
