"""Imports between the packages of ganframe point down one list, and no two modules import each other."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ganframe
from ganframe import layers

ROOT = Path(ganframe.__file__).parent

# From the top to the bottom: a module may import from its own package and from what is below.
ORDER = [
    "__main__",  # python -m ganframe
    "cli",  # the commands
    "testing",  # the conformance kit
    "studies",  # a recipe over axes and seeds
    "analysis",  # divergences, Lipschitz diagnostics, latent space, a trained generator
    "training",  # recipe -> state, callbacks, health, run and resume
    "report",  # pictures, pages
    "judging",  # metrics fitted to data, scores with their protocol
    "storage",  # run folder, atomic files, checkpoints, provenance
    "data",  # feeds for training, real samples for judging, latents
    "recipes",  # tables, strict reading, optimisers and schedules
    "plugins",  # discovery, isolated loading, registry
    "engine",  # Algorithm 1, scoring, state
    "layers",  # layers that networks of several papers share
    "hookspecs",
    "components",
    "batches",  # the whole batch of several processes
    "declarations",  # what networks declare about themselves
    "errors",
]
APART = {"builtin", "templates"}  # loaded as plugins, copied as files: nothing imports them

SOURCES = sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in APART)
BUILTIN = sorted((ROOT / "builtin").rglob("*.py"))
PUBLIC = {f"ganframe.{name}" for name in ganframe.__all__} | {f"ganframe.layers.{name}" for name in layers.__all__}
PACKAGED = sorted(path for path in (ROOT.parent / "plugins").rglob("*.py") if "tests" not in path.parts)


def module_of(path: Path, root: Path = ROOT.parent) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def everywhere(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def at_import(path: Path) -> Iterator[ast.AST]:
    """The statements that run when the module is imported: not those under TYPE_CHECKING or in functions."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


def imported(nodes: Iterator[ast.AST], package: str) -> set[str]:
    """The full names that `nodes` import: `a.b` for `import a.b`, `a.b.c` for `from a.b import c`."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def homes(names: set[str]) -> set[str]:
    """The packages and modules directly under ganframe that hold these names; a lazy name counts as its home."""
    found = set()
    for name in names:
        package, _, rest = name.partition(".")
        if package == "ganframe" and rest not in ("", "__version__"):
            first = rest.partition(".")[0]
            found.add(first if first in {*ORDER, *APART} else ganframe._HOME.get(first, first).partition(".")[0])
        elif name == "ganframe":
            found.add("ganframe itself, which hides what is used")
    return found


def package_of(path: Path) -> str:
    name = module_of(path)
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def test_the_list_names_every_package_and_module_once():
    there = {p.stem for p in ROOT.glob("*.py")} | {p.parent.name for p in ROOT.glob("*/__init__.py")}
    assert sorted([*ORDER, *APART]) == sorted(there - {"__init__"} | {"templates"})


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent != ROOT or p.stem != "__init__"], ids=module_of)
def test_imports_point_down(path):
    """Commands import what they need when they run; of them only what runs at import is held to the list."""
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    names = imported(at_import(path) if own == "cli" else everywhere(path), package_of(path))
    below = {own, *ORDER[ORDER.index(own) + 1 :]}
    assert homes(names) <= below


def test_no_modules_import_each_other():
    graph = {}
    for name, path in MODULES.items():
        uses = set()
        for used in imported(at_import(path), package_of(path)):
            uses.add(used if used in MODULES else used.rpartition(".")[0])
        graph[name] = (uses & MODULES.keys()) - {name, "ganframe"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circular imports: {' -> '.join(error.args[1])}")


def test_the_engine_imports_only_components():
    for path in (ROOT / "engine").glob("*.py"):
        assert homes(imported(everywhere(path), "ganframe.engine")) <= {"engine", "components", "declarations"}, (
            path.name
        )


def test_nothing_imports_the_builtin_components():
    for path in SOURCES:
        assert not homes(imported(everywhere(path), package_of(path))) & APART, path


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.stem)
def test_packaged_plugins_use_only_public_names(path):
    names = {name for name in imported(everywhere(path), path.parent.name) if name.partition(".")[0] == "ganframe"}
    assert names <= PUBLIC


@pytest.mark.parametrize("path", BUILTIN, ids=lambda path: path.stem)
def test_builtin_components_use_only_public_names(path):
    names = {name for name in imported(everywhere(path), "ganframe.builtin") if name.partition(".")[0] == "ganframe"}
    assert {n for n in names if not n.startswith("ganframe.builtin.")} <= PUBLIC


def test_importing_ganframe_or_its_command_line_imports_nothing_heavy():
    heavy = {"torch", "numpy", "rich", "accelerate", "attrs", "pluggy"}
    for path in [ROOT / "__init__.py", ROOT / "errors.py", *(ROOT / "cli").glob("*.py")]:
        names = imported(at_import(path), package_of(path))
        assert not {name.partition(".")[0] for name in names} & heavy, path
        assert homes(names) <= {"cli", "errors"}, path


def test_public_names_are_one_list():
    """What type checkers see, what is imported on first use, and what `import *` imports."""
    checked = imported(everywhere(ROOT / "__init__.py"), "ganframe")
    seen = {
        name.rpartition(".")[2]: name[len("ganframe.") :].rpartition(".")[0]
        for name in checked
        if name.startswith("ganframe.")
    }
    assert seen == ganframe._HOME
    assert sorted(ganframe.__all__) == sorted(ganframe._HOME)
    for name, home in ganframe._HOME.items():
        assert getattr(ganframe, name) is vars(importlib.import_module(f"ganframe.{home}"))[name]
        assert name in dir(ganframe)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ganframe.nothing


def test_the_walk_sees_imports_wherever_they_are(tmp_path):
    source = """
from . import recipes
from .errors import RequestError
from ganframe import run
import ganframe.plugins
if TYPE_CHECKING:
    from ganframe.engine.state import State
def f():
    from ganframe import report
"""
    file = tmp_path / "x.py"
    file.write_text(source)
    assert homes(imported(everywhere(file), "ganframe")) == {
        *("recipes", "errors", "training", "plugins", "engine", "report"),
    }
    assert homes(imported(at_import(file), "ganframe")) == {"recipes", "errors", "training", "plugins"}
    assert imported(everywhere(file), "ganframe.builtin") >= {"ganframe.builtin.recipes"}
