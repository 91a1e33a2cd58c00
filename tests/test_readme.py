"""The README, held to the code."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import attrs
import pytest

import ganframe
from ganframe import plugins, recipe, testing
from ganframe.cli import KINDS, _toml, main
from ganframe.hookspecs import HOOKS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


PACKAGES = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def rows(heading: str, text: str = TEXT) -> dict[str, str]:
    """The table whose first heading is `heading`: first column, without its code marks -> last column."""
    lines = text[text.index(f"\n| {heading} |") + 1 :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[-1] for row in cells}


def block(language: str, containing: str) -> str:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    return next(text for its_language, text in blocks if its_language == language and containing in text)


def offered(distribution: str, kind: str) -> dict[str, str]:
    """What a component table must say: name -> options with their defaults."""
    expected = {}
    for plugin, its_kind, name, component in plugins.load():
        if plugin.distribution == distribution and its_kind == kind:
            written = [
                f"`{f.name}`" + ("" if f.default is attrs.NOTHING else f" {_toml(f.default)}")
                for f in attrs.fields(component)
            ]
            expected[name] = ", ".join(written) or "none"
    return expected


@pytest.mark.parametrize("kind", KINDS)
def test_component_tables_name_every_built_in_with_every_option_and_default(kind):
    assert rows(kind) == offered("ganframe", kind)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_component_tables_of_a_package_name_what_it_offers(package, install_package):
    install_package(package)
    text = (package / "README.md").read_text(encoding="utf-8")
    tables = {kind: offered(package.name, kind) for kind in KINDS}
    assert any(tables.values())
    for kind, table in tables.items():
        assert (rows(kind, text) if table else {}) == table
        assert bool(table) == (f"\n| {kind} |" in text)


def test_the_package_table_names_every_package():
    assert rows("package").keys() == {path.name for path in PACKAGES}


def test_the_check_table_names_every_check():
    named = {name for first in rows("check") for name in re.findall(r"check_\w+", first)}
    assert named == {*testing.__all__} == {f"check_{kind}" for kind in KINDS}


def test_hook_table_names_every_hook():
    assert rows("hook").keys() == HOOKS.keys()


def test_command_table_names_every_command_and_option():
    table = TEXT[TEXT.index("| command |") : TEXT.index("Each takes `--block")]
    assert re.findall(r"^\| `ganframe ([\w-]+)", table, re.MULTILINE) == [
        *("run", "check", "divergence", "lipschitz", "plugins", "describe", "new-plugin"),
        *("sample", "interpolate", "arithmetic"),
    ]
    assert {*re.findall(r"^\| `ganframe ([\w-]+)", table, re.MULTILINE)} == {*main.commands}
    for name, command in main.commands.items():
        for parameter in command.params:
            flag = parameter.opts[0]
            shared = flag in ("--block",) or (name in ("check", "divergence") and flag == "--set")
            assert shared or not flag.startswith("-") or flag in table or parameter.opts[-1] in table, (name, flag)


@pytest.mark.parametrize(
    ("table", "cls"), [("`[latent]`", recipe.Latent), ("`[train]`", recipe.Train), ("`[log]`", recipe.Log)]
)
def test_recipe_tables_name_every_option(table, cls):
    line = next(line for line in TEXT.splitlines() if line.startswith(f"| {table}"))
    for field in attrs.fields(cls):
        default = field.default
        shown = "" if default in (attrs.NOTHING, None) else " " + _toml(default)
        assert f"`{field.name}`{shown}" in line


def test_every_recipe_is_listed():
    assert {*re.findall(r"`(\w+\.toml)`", TEXT[TEXT.index("| recipe |") : TEXT.index("Fashion-MNIST is found")])} == {
        path.name for path in (ROOT / "recipes").glob("*.toml")
    }


def test_the_recipe_shown_is_complete(tmp_path):
    file = tmp_path / "shown.toml"
    file.write_text(block("toml", 'use = "ring"'))
    assert ganframe.load_recipe(file).train.critic_steps == 5


def test_the_comparison_shown_is_complete(tmp_path):
    file = tmp_path / "shown.toml"
    file.write_text(block("toml", "[against]"))
    comparison = recipe.load_comparison(file)
    assert (comparison.dataset.root, comparison.against.root) == ("photographs", "paintings")


def test_the_mistakes_shown_are_reported_as_shown(tmp_path):
    recipe = block("toml", 'use = "ring"').replace("hidden = [128, 128]", "", 1).replace("steps = 2000 ", "steps = 0 ")
    recipe = recipe.replace('use = "mlp"', 'use = "dcgan"\nwidht = 3', 1).replace("weight = 0.1", "weight = '10'")
    file = tmp_path / "mine.toml"
    file.write_text(recipe)
    with pytest.raises(ganframe.RecipeError) as caught:
        ganframe.load_recipe(file)
    shown = block("", "recipes/mine.toml").replace("recipes/mine.toml", str(file)).strip().splitlines()
    assert sorted(caught.value.problems) == sorted(shown)


def test_the_objective_shown_is_a_whole_plugin(install):
    project = tomllib.loads(block("toml", "ganframe-hinge"))["project"]
    ((name, target),) = project["entry-points"]["ganframe"].items()
    source = block("python", "class Hinge")
    install(project["name"], source, module=target, plugin=name)
    Hinge = ganframe.component("objective", "hinge")
    import torch

    loss = Hinge(margin=1.0).discriminator_loss(torch.tensor([0.5, 2.0]), torch.tensor([-2.0, 0.0]))
    assert loss.item() == pytest.approx(0.25 + 0.5)
    assert source == (ROOT / "plugins" / "ganframe-hinge" / "ganframe_hinge.py").read_text()


def test_the_python_calls_shown_exist():
    shown = block("python", "ganframe.run(")
    for name in re.findall(r"ganframe\.(\w+)\(", shown):
        assert callable(getattr(ganframe, name))
    assert inspect.signature(ganframe.load_recipe).parameters.keys() >= {"path", "overrides"}


def test_modules_shown_are_those_there_are():
    tree = block("", "hookspecs.py")
    named = {*re.findall(r"(\w+)\.py", tree)}
    assert named == {p.stem for p in (ROOT / "ganframe").glob("*.py")} - {"__init__", "__main__"}
    folders = {*re.findall(r"^  (\w+)/", tree, re.MULTILINE)}
    assert folders == {p.parent.name for p in (ROOT / "ganframe").glob("*/__init__.py")}
