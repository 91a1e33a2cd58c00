"""Imports in ganframe/ point only down one list; built-in components use only what a third party may use."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import ganframe

ROOT = Path(ganframe.__file__).parent
MODULES = sorted(path.stem for path in ROOT.glob("*.py") if path.stem != "__init__")
BUILTIN = sorted((ROOT / "builtin").rglob("*.py"))
PLUGINS = sorted(path for path in (ROOT.parent / "plugins").rglob("*.py") if "tests" not in path.parts)
TESTING = sorted((ROOT / "testing").rglob("*.py"))

# From the top to the bottom: a module may import only modules further down.
ORDER = [
    "__main__",
    "cli",
    "scaffold",
    "session",
    "divergence",
    "lipschitz",
    "latent",
    "sampling",
    "provenance",
    "build",
    "trial",
    "callbacks",
    "health",
    "pictures",
    "feed",
    "runfolder",
    "engine",
    "recipe",
    "optimizers",
    "testing",
    "exact",
    "bounds",
    "strict",
    "plugins",
    "loader",
    "discovery",
    "builtin",
    "hookspecs",
    "components",
    "errors",
]


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
    """The modules directly under ganframe that hold these names; a lazy name of ganframe counts as its home."""
    found = set()
    for name in names:
        package, _, rest = name.partition(".")
        if package == "ganframe" and rest not in ("", "__version__"):
            first = rest.partition(".")[0]
            found.add(first if first in ORDER or first in MODULES else ganframe._HOME.get(first, first))
        elif name == "ganframe":
            found.add("ganframe itself, which hides what is used")
    return found


def everywhere(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def at_import(path: Path) -> Iterator[ast.AST]:
    """The statements that run when the module is imported: none under TYPE_CHECKING or in functions."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


def test_the_list_names_every_module_once():
    assert sorted([*MODULES, "builtin", "testing"]) == sorted(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    path = ROOT / f"{module}.py"
    names = imported(at_import(path) if module == "cli" else everywhere(path), "ganframe")
    below = set(ORDER[ORDER.index(module) + 1 :])
    assert homes(names) <= below


@pytest.mark.parametrize("path", TESTING, ids=lambda path: path.stem)
def test_the_conformance_kits_imports_point_down(path):
    names = imported(everywhere(path), "ganframe.testing")
    below = {"testing", *ORDER[ORDER.index("testing") + 1 :]} - {"builtin"}
    assert homes(names) <= below


def test_the_engine_imports_nothing_but_components():
    assert homes(imported(everywhere(ROOT / "engine.py"), "ganframe")) == {"components"}


def test_nothing_imports_the_builtin_components():
    for module in MODULES:
        assert "builtin" not in homes(imported(everywhere(ROOT / f"{module}.py"), "ganframe")), module


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_packaged_plugins_use_only_what_a_third_party_may(path):
    names = {name for name in imported(everywhere(path), path.parent.name) if name.partition(".")[0] == "ganframe"}
    assert names <= {f"ganframe.{name}" for name in ganframe.__all__}


@pytest.mark.parametrize("path", BUILTIN, ids=lambda path: path.stem)
def test_builtin_components_use_only_what_a_third_party_may(path):
    names = {name for name in imported(everywhere(path), "ganframe.builtin") if name.partition(".")[0] == "ganframe"}
    strangers = {name for name in names if not name.startswith("ganframe.builtin.")}
    assert strangers <= {f"ganframe.{name}" for name in ganframe.__all__}


def test_the_package_itself_imports_nothing_heavy():
    for module in ("__init__", "cli", "errors"):
        names = imported(at_import(ROOT / f"{module}.py"), "ganframe")
        heavy = {name.partition(".")[0] for name in names} & {"torch", "numpy", "rich", "accelerate", "attrs", "pluggy"}
        assert not heavy, module
    assert homes(imported(at_import(ROOT / "__init__.py"), "ganframe")) == set()


def test_the_packages_names_are_one_list():
    """What type checkers see, what is imported when first used, and what `import *` gives."""
    checked = imported(everywhere(ROOT / "__init__.py"), "ganframe")
    seen = {name.rpartition(".")[2]: name.split(".")[1] for name in checked if name.startswith("ganframe.")}
    assert seen == ganframe._HOME
    assert sorted(ganframe.__all__) == sorted(ganframe._HOME)
    for name, home in ganframe._HOME.items():
        assert getattr(ganframe, name) is vars(importlib.import_module(f"ganframe.{home}"))[name]
        assert name in dir(ganframe)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ganframe.nothing


def test_the_walk_sees_imports_wherever_they_stand(tmp_path):
    source = """
from . import recipe
from .errors import RequestError
from ganframe import run
import ganframe.plugins
if TYPE_CHECKING:
    from ganframe.engine import State
def f():
    from ganframe import session
"""
    file = tmp_path / "x.py"
    file.write_text(source)
    assert homes(imported(everywhere(file), "ganframe")) == {"recipe", "errors", "session", "plugins", "engine"}
    assert homes(imported(at_import(file), "ganframe")) == {"recipe", "errors", "session", "plugins"}
    assert imported(everywhere(file), "ganframe.builtin") >= {"ganframe.builtin.recipe"}
