"""Recipes of installed packages: found beside a plugin's module, without importing it, and taken by their names."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

import ganframe
from ganframe.errors import RequestError
from ganframe.recipes.installed import copied, find_recipe, installed_recipes, recipe_file
from ganframe.studies.plan import load_study

ROOT = Path(__file__).parents[2]
BROKEN = "raise SystemExit('imported')\n"
COMMENT = "# First line, e.g. of J. Doe\n# et al. 2020 on 1.5 rings. Second sentence.\n"
RECIPE = f'{COMMENT}dataset = 1\nobjective = {{ use = "wgan" }}\n'


def names(distribution):
    return [recipe.name for recipe in installed_recipes() if recipe.distribution == distribution]


def write(file, text=RECIPE):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_ganframe_lists_its_own_recipes_of_the_clone():
    found = {recipe.name: recipe for recipe in installed_recipes() if recipe.distribution == "ganframe"}
    expected = {p.relative_to(ROOT / "recipes").with_suffix("").as_posix() for p in (ROOT / "recipes").rglob("*.toml")}
    assert found.keys() == expected
    assert found["wgan_sn"].command == "run"
    assert found["studies/digits"].command == "study"
    assert found["theory/approaching_clouds"].command == "divergence"
    assert all(recipe.summary for recipe in found.values())
    assert found["dcgan_digits"].summary == "DCGAN with the paper's settings (Radford et al. 2015)"


@pytest.mark.parametrize("project", ["module", "package"])
def test_recipes_of_an_installed_plugin_are_found_without_importing_it(install, project):
    """Both forms: a single module and a package. Nothing of them runs."""
    site = install("my-plugin", BROKEN)
    if project == "package":
        (site / "my_plugin.py").unlink()
        write(site / "my_plugin" / "__init__.py", BROKEN)
    write(site / "my_plugin_recipes" / "first.toml")
    write(site / "my_plugin_recipes" / "more" / "second.toml")
    write(site / "my_plugin_recipes" / "tool.toml", "[settings]\nx = 1\n")
    write(site / "other_recipes" / "third.toml")
    assert names("my-plugin") == ["first", "more/second"]
    assert find_recipe("first").summary == "First line, e.g. of J. Doe et al. 2020 on 1.5 rings"
    assert "my_plugin" not in sys.modules


@pytest.mark.parametrize("source", [".", "src"])
def test_recipes_of_an_editable_install_are_those_of_its_project(install, site, tmp_path, monkeypatch, source):
    """Not copies that the build left among the installed packages: an edit counts at once."""
    install("my-plugin", BROKEN)
    (site / "my_plugin.py").unlink()
    write(site / "my_plugin_recipes" / "stale.toml")
    project = tmp_path / "project"
    write(project / source / "my_plugin.py", BROKEN)
    write(project / "pyproject.toml", "[project]\nname = 'my-plugin'\n")
    write(project / "ruff.toml", "line-length = 100\n")
    write(project / "top.toml")
    write(project / "recipes" / "inside.toml")
    write(project / source / "my_plugin_recipes" / "beside.toml")
    monkeypatch.syspath_prepend(project / source)
    assert names("my-plugin") == ["beside", "inside", "top"]


def test_damaged_recipe_is_listed_and_reported_when_used(install):
    site = install("my-plugin", BROKEN)
    file = write(site / "my_plugin_recipes" / "broken.toml", "= 3\n")
    (recipe,) = (recipe for recipe in installed_recipes() if recipe.file == file)
    assert recipe.summary == "not valid TOML"
    with pytest.raises(RequestError, match="broken: not valid TOML"):
        ganframe.load_recipe("broken")


def test_plugin_without_its_module_or_for_another_ganframe_has_no_recipes(install):
    site = install("my-plugin", BROKEN, target="not_there")
    write(site / "not_there_recipes" / "first.toml")
    assert names("my-plugin") == []


def test_same_name_in_two_packages_needs_the_full_name(install):
    site = install("one", BROKEN)
    install("two", BROKEN)
    for module in ("one", "two"):
        write(site / f"{module}_recipes" / "same.toml")
    with pytest.raises(RequestError, match=r"same: several have this name: one:same, two:same"):
        find_recipe("same")
    assert find_recipe("two:same").file == site / "two_recipes" / "same.toml"


def test_recipe_is_loaded_by_name_and_a_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name = ganframe.load_recipe("vanilla_ring", ["train.steps=7"])
    assert (by_name.name, by_name.train.steps) == ("vanilla_ring", 7)
    assert ganframe.load_recipe("ganframe:vanilla_ring").name == "vanilla_ring"
    text = (ROOT / "recipes" / "vanilla_ring.toml").read_text(encoding="utf-8")
    Path("vanilla_ring").write_text(f"name = 'mine'\n{text}", encoding="utf-8")
    assert ganframe.load_recipe("vanilla_ring").name == "mine"


def test_study_is_loaded_by_name_and_a_copy_finds_its_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = len(load_study("studies/ring").cells())
    file = write(tmp_path / "mine.toml", copied(find_recipe("studies/ring")))
    assert tomllib.loads(file.read_text(encoding="utf-8"))["base"] == "non_saturating_ring"
    assert len(load_study(file).cells()) == cells


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("wgan_snn", "wgan_snn: no such file, and no installed recipe has this name; did you mean 'wgan_sn'?"),
        ("stacked", "stacked: no such file, and no installed recipe has this name; did you mean 'studies/stacked'?"),
        ("???", "???: no such file, and no installed recipe has this name; `ganframe recipes` lists them"),
        ("recipes/wgan_sn.toml", "recipes/wgan_sn.toml: no such file; an installed recipe is called wgan_sn"),
        ("a/studies/ring.toml", "a/studies/ring.toml: no such file; an installed recipe is called studies/ring"),
        ("nothing.toml", "nothing.toml: no such file"),
    ],
)
def test_unknown_recipes_are_refused_with_near_names(tmp_path, monkeypatch, asked, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError) as error:
        recipe_file(Path(asked))
    assert str(error.value) == said


@pytest.mark.parametrize("project", sorted((ROOT / "plugins").glob("*/pyproject.toml")), ids=lambda p: p.parent.name)
def test_wheel_of_every_package_here_has_its_recipes(project):
    """Its build copies each TOML file beside pyproject.toml to the folder that recipes are looked for in."""
    document = tomllib.loads(project.read_text(encoding="utf-8"))
    (target,) = document["project"]["entry-points"]["ganframe"].values()
    included = document["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    recipes = {p.name for p in project.parent.glob("*.toml")} - {"pyproject.toml"}
    assert included == {name: f"{target.partition('.')[0]}_recipes/{name}" for name in recipes}


def test_wheel_of_ganframe_has_its_recipes():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert wheel["wheel"]["force-include"] == {"recipes": "ganframe_recipes"}
