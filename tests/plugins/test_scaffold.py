"""`ganframe new-plugin` writes a plugin that passes its own tests. Names that cannot be used are refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ganframe
from ganframe import components
from ganframe.cli.common import KINDS
from ganframe.plugins import registry

ROOT = Path(__file__).parents[2]
HINGE = ROOT / "plugins" / "ganframe-hinge"


@pytest.fixture
def new_plugin(call):
    """new_plugin("name", "--kind", "dataset", code=0): runs the command in an empty folder; returns what it printed."""
    return lambda *arguments, code=0: call("new-plugin", *arguments, code=code).output


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def test_command_line_offers_every_kind():
    assert components.KINDS == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_new_plugin_loads_and_its_recipe_uses_its_component(new_plugin, install_package, tmp_path, kind):
    printed = new_plugin("ganframe-brand-new", "--kind", kind)
    folder = tmp_path / "ganframe-brand-new"
    assert files(folder) == {
        "README.md", "pyproject.toml", "brand_new.toml", "ganframe_brand_new.py", "tests/test_brand_new.py",
    }  # fmt: skip
    assert all(f"{Path('ganframe-brand-new') / name}\n" in printed for name in files(folder))
    for name in files(folder):
        assert "example" not in (folder / name).read_text().lower()
    assert "TO CHANGE" in (folder / "ganframe_brand_new.py").read_text()
    marked = (folder / "tests" / "test_brand_new.py").read_text().split("# TO CHANGE")
    assert len(marked) == (1 if kind in ("generator", "discriminator") else 2)  # their tests hold no numbers
    assert all(part.splitlines()[1].startswith("def test_") for part in marked[1:])
    install_package(folder)
    (listed,) = (p for p in registry.load().plugins if p.distribution == "ganframe-brand-new")
    assert (listed.name, listed.status, listed.target) == ("brand_new", "loaded", "ganframe_brand_new")
    assert {kind: list(table) for kind, table in listed.components.items()} == {kind: ["brand_new"]}
    cls = ganframe.component(kind, "brand_new")
    assert cls.__name__ == "BrandNew"
    recipe = ganframe.load_recipe("brand_new")  # its recipe is found by its name
    assert cls in {type(component) for _, component in recipe.components()}


@pytest.mark.slow
def test_tests_of_new_plugins_pass(new_plugin, install_package, tmp_path):
    """In a process, as their authors run them."""
    for kind in KINDS:
        new_plugin(f"my-{kind}", "--kind", kind)
        site = install_package(tmp_path / f"my-{kind}")
    folders = [f"my-{kind}" for kind in KINDS]
    path = os.pathsep.join([str(site), *(str(tmp_path / folder) for folder in folders)])
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", *folders]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "19 passed" in done.stdout


def test_hinge_package_equals_a_new_plugin(new_plugin, tmp_path):
    """plugins/ganframe-hinge is the example of the README. Its module is the one that the command writes, but for the
    comment that says what to change."""
    new_plugin("ganframe-hinge")
    folder = tmp_path / "ganframe-hinge"
    module = re.sub(r" +# TO CHANGE.*\n(?: +#.*\n)*", "", (folder / "ganframe_hinge.py").read_text())
    assert module == (HINGE / "ganframe_hinge.py").read_text()
    written, kept = (tomllib.loads((f / "pyproject.toml").read_text()) for f in (folder, HINGE))
    for project in (written, kept):  # each names its own recipes
        assert project["tool"]["hatch"]["build"]["targets"]["wheel"].pop("force-include")
    for table in ("build-system", "tool"):
        assert written[table] == kept[table]
    assert written["project"].keys() <= kept["project"].keys()
    for key in ("name", "dependencies", "optional-dependencies", "entry-points", "requires-python"):
        assert written["project"][key] == kept["project"][key]


def test_version_range_of_new_plugin_contains_this_ganframe(new_plugin, install_package, tmp_path):
    new_plugin("my-loss")
    site = install_package(tmp_path / "my-loss")
    with next(site.glob("my_loss-*.dist-info")).joinpath("METADATA").open("a") as metadata:
        (requirement,) = tomllib.loads((tmp_path / "my-loss" / "pyproject.toml").read_text())["project"]["dependencies"]
        metadata.write(f"Requires-Dist: {requirement}\n")
    assert next(p for p in registry.load().plugins if p.name == "my_loss").status == "loaded"


def test_names_are_converted_to_python_identifiers(new_plugin, tmp_path):
    new_plugin("Soft.Hinge-2", "--out", "elsewhere/deep")
    folder = tmp_path / "elsewhere" / "deep"
    assert {"soft_hinge_2.py", "soft_hinge_2.toml"} <= files(folder)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "Soft.Hinge-2"
    assert project["entry-points"] == {"ganframe": {"soft_hinge_2": "soft_hinge_2"}}
    assert "class SoftHinge2(Objective)" in (folder / "soft_hinge_2.py").read_text()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("wgan", "objective", "'wgan' is the name of an installed plugin or objective already"),
        ("ganframe-wgan", "objective", "'wgan' is the name of an installed plugin or objective already"),
        ("builtin", "dataset", "'builtin' is the name of an installed plugin or dataset already"),
        ("random", "objective", "a module 'random' is installed already"),
        ("torch", "objective", "a module 'torch' is installed already"),
        ("class", "objective", "'class' cannot be the name of a Python module"),
        ("ganframe-3d", "dataset", "'3d' cannot be the name of a Python module"),
        ("objective", "objective", "the class Objective would hide an imported name"),
        ("network", "generator", "the class Network would hide an imported name"),
        ("none", "objective", "the class None would hide an imported name"),
        ("a b", "objective", "a package's name must consist of letters, digits and single -"),
        ("../up", "objective", "a package's name must consist of letters, digits and single -"),
        ("", "objective", "a package's name must consist of letters, digits and single -"),
        ("3d-points", "dataset", "and begin with a letter"),
        ("-x", "objective", "No such option"),
        ("my-loss", "loss", "Invalid value for '--kind': 'loss' is not one of"),
    ],
)
def test_invalid_names_are_refused_before_anything_is_written(new_plugin, tmp_path, name, kind, message):
    assert message in new_plugin(name, "--kind", kind, code=2)
    assert not list(tmp_path.iterdir())


def test_name_of_a_component_of_another_kind_is_allowed(new_plugin, tmp_path):
    new_plugin("ring", "--kind", "objective")
    assert (tmp_path / "ring" / "ring.py").exists()


def test_new_plugin_refuses_a_folder_that_is_not_empty(new_plugin, tmp_path):
    (tmp_path / "my-loss").mkdir()
    new_plugin("my-loss")  # an empty folder may be used
    before = {name: (tmp_path / "my-loss" / name).read_text() for name in files(tmp_path / "my-loss")}
    assert "is not empty; choose another folder" in new_plugin("my-loss", "--kind", "dataset", code=2)
    assert {name: (tmp_path / "my-loss" / name).read_text() for name in files(tmp_path / "my-loss")} == before
    (tmp_path / "file").write_text("kept")
    assert "is not empty; choose another folder" in new_plugin("other", "--out", "file", code=2)
    assert "cannot be written" in new_plugin("other", "--out", "file/below", code=2)


def test_new_plugin_imports_no_template(new_plugin):
    new_plugin("my-loss")
    assert "ganframe_example" not in sys.modules
