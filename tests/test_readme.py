"""README.md and the README files of recipes/, plugins/ and ganframe/, held to the code."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import attrs
import pytest
import torch

import ganframe
from ganframe import layers, testing
from ganframe.cli import main
from ganframe.cli.common import KINDS, in_toml
from ganframe.hookspecs import FEATURES, HOOKS, OPTIMIZERS
from ganframe.plugins.registry import load
from ganframe.recipes.reading import load_comparison
from ganframe.recipes.strict import toml_name
from ganframe.recipes.tables import Log, Prior, Train
from ganframe.studies.plan import load_study

ROOT = Path(__file__).parent.parent
MAIN, RECIPES, PLUGINS, BUILT = (
    (ROOT / name / "README.md").read_text(encoding="utf-8") for name in (".", "recipes", "plugins", "ganframe")
)
PACKAGES = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def rows(heading: str, text: str) -> dict[str, str]:
    """The table whose first heading is `heading`: first column, without its code marks -> last column."""
    lines = text[text.index(f"\n| {heading} |") + 1 :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[-1] for row in cells}


def block(language: str, containing: str, text: str = MAIN) -> str:
    """The fenced block of a language that contains a text."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return next(code for its_language, code in blocks if its_language == language and containing in code)


def offered(distribution: str, kind: str) -> dict[str, str]:
    """What a component table must say: name -> options with their defaults."""
    expected = {}
    for plugin, its_kind, name, component in load():
        if plugin.distribution == distribution and its_kind == kind:
            written = [
                f"`{toml_name(f.name)}`" + ("" if f.default is attrs.NOTHING else f" {in_toml(f.default)}")
                for f in attrs.fields(component)
            ]
            expected[name] = ", ".join(written) or "none"
    return expected


@pytest.mark.parametrize("kind", KINDS)
def test_component_tables_list_every_builtin_with_options_and_defaults(kind):
    table = offered("ganframe", kind)
    assert (rows(kind, RECIPES) if table else {}) == table
    assert bool(table) == (f"\n| {kind} |" in RECIPES)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_component_tables_of_a_package_list_what_it_offers(package, install_package):
    install_package(package)
    text = (package / "README.md").read_text(encoding="utf-8")
    tables = {kind: offered(package.name, kind) for kind in KINDS}
    optimizers = {name for p in load().plugins if p.distribution == package.name for name in p.optimizers}
    assert any(tables.values()) or optimizers
    assert not optimizers or rows("optimizer", text).keys() == optimizers
    for kind, table in tables.items():
        assert (rows(kind, text) if table else {}) == table
        assert bool(table) == (f"\n| {kind} |" in text)


def test_package_table_lists_every_package():
    assert rows("package", PLUGINS).keys() == {path.name for path in PACKAGES}


def test_check_table_lists_every_check_of_the_kit():
    listed = {name for first in rows("check", PLUGINS) for name in re.findall(r"check_\w+", first)}
    assert listed == {*testing.__all__} == {f"check_{kind}" for kind in KINDS}


def test_layer_table_lists_every_public_layer():
    part = PLUGINS[PLUGINS.index("| layer or function |") :].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in part.splitlines()]
    assert {name for cell in cells for name in re.findall(r"`(\w+)", cell)} == {*layers.__all__}


def test_hook_table_lists_every_hook():
    assert rows("hook", PLUGINS).keys() == {*HOOKS, OPTIMIZERS, FEATURES}


def test_command_table_lists_every_command_and_option():
    table = MAIN[MAIN.index("| command |") : MAIN.index("Each takes `--block")]
    assert re.findall(r"^\| `ganframe ([\w-]+)", table, re.MULTILINE) == [
        *("run", "check", "bench", "evaluate", "compare", "study", "report", "divergence", "lipschitz", "certify"),
        *("recipes", "plugins", "describe", "new-plugin"),
        *("sample", "interpolate", "arithmetic", "invert", "export", "publish"),
    ]
    assert {*re.findall(r"^\| `ganframe ([\w-]+)", table, re.MULTILINE)} == {*main.commands}
    for name, command in main.commands.items():
        for parameter in command.params:
            flag = parameter.opts[0]
            shared = (
                flag == "--block"
                or getattr(parameter, "hidden", False)
                or (name in ("check", "divergence") and flag == "--set")
            )
            assert shared or not flag.startswith("-") or flag in table or parameter.opts[-1] in table, (name, flag)


@pytest.mark.parametrize(("table", "cls"), [("`[latent]`", Prior), ("`[train]`", Train), ("`[log]`", Log)])
def test_recipe_tables_list_every_option_and_default(table, cls):
    line = next(line for line in RECIPES.splitlines() if line.startswith(f"| {table}"))
    for field in attrs.fields(cls):
        shown = "" if field.default in (attrs.NOTHING, None) else " " + in_toml(field.default)
        assert f"`{toml_name(field.name)}`{shown}" in line


def test_recipe_list_has_every_recipe():
    listed = RECIPES[RECIPES.index("| recipe |") : RECIPES.index("Fashion-MNIST is found")]
    assert {*re.findall(r"`(\w+\.toml)`", listed)} == {path.name for path in (ROOT / "recipes").glob("*.toml")}


def test_shown_recipe_is_complete(tmp_path):
    file = tmp_path / "shown.toml"
    file.write_text(block("toml", 'use = "ring"', RECIPES))
    assert ganframe.load_recipe(file).train.critic_steps == 5


def test_shown_timing_is_complete(tmp_path):
    shown, complete = (block("toml", text, RECIPES) for text in ("start = 500", 'use = "ring"'))
    file = tmp_path / "shown.toml"
    tables = ("dataset", "generator", "discriminator")
    file.write_text(shown + "".join(f"[{name}]\nuse = {tomllib.loads(complete)[name]['use']!r}\n" for name in tables))
    recipe = ganframe.load_recipe(file)
    assert recipe.timing.keys() == {"objective", "constraints[0]"}
    assert recipe.optimizer.generator.ramps.keys() == {"lr", "betas[1]"}


def test_tutorial_recipe_trains_on_a_folder_of_images(tmp_path, monkeypatch):
    from PIL import Image

    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(6):
        pixels = torch.randint(256, (40 + i, 50, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    Path("photographs.toml").write_text(block("toml", 'norm = "none"                  # the gradient'))
    few = ["train.steps=2", "train.batch_size=4", "generator.width=4", "discriminator.width=4"]
    run = ganframe.run(ganframe.load_recipe("photographs.toml", few))
    assert run.folder == Path("runs/photographs/1")  # as the tutorial's commands say
    assert ganframe.load_generator(run.folder).sample(3).shape == (3, 3, 32, 32)


def test_shown_study_is_complete(tmp_path):
    text = (ROOT / "recipes" / "studies" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "recipes" / "studies").mkdir(parents=True)
    recipe = (ROOT / "recipes" / "wgan_gp_grid.toml").read_text(encoding="utf-8")
    (tmp_path / "recipes" / "wgan_gp_grid.toml").write_text(recipe, encoding="utf-8")
    file = tmp_path / "recipes" / "studies" / "rates.toml"
    file.write_text(block("toml", "[[axes.objective]]", text), encoding="utf-8")
    study = load_study(file)
    assert len(study.runs) == 4 * 5
    assert {run.recipe.train.steps for run in study.runs} == {2000}
    listed = {name for first in rows("option", text) for name in re.findall(r"\w+", first.split("`")[0] or first)}
    assert {"base", "set", "metrics", "axes", "seeds", "baseline", "threads", "name"} <= listed


def test_shown_comparison_is_complete(tmp_path):
    file = tmp_path / "shown.toml"
    file.write_text(block("toml", "[against]"))
    comparison = load_comparison(file)
    assert (comparison.dataset.root, comparison.against.root) == ("photographs", "paintings")


def test_shown_mistakes_are_reported_as_shown(tmp_path):
    recipe = block("toml", 'use = "ring"', RECIPES).replace("hidden = [128, 128]", "", 1)
    recipe = recipe.replace("steps = 2000 ", "steps = 0 ").replace("weight = 0.1", "weight = '10'")
    file = tmp_path / "mine.toml"
    file.write_text(recipe.replace('use = "mlp"', 'use = "dcgan"\nwidht = 3', 1))
    with pytest.raises(ganframe.RecipeError) as caught:
        ganframe.load_recipe(file)
    shown = block("", "recipes/mine.toml", RECIPES).replace("recipes/mine.toml", str(file)).strip().splitlines()
    assert sorted(caught.value.problems) == sorted(shown)


def test_shown_objective_is_a_complete_plugin(install):
    project = tomllib.loads(block("toml", "ganframe-hinge"))["project"]
    ((name, target),) = project["entry-points"]["ganframe"].items()
    source = block("python", "class Hinge")
    install(project["name"], source, module=target, plugin=name)
    Hinge = ganframe.component("objective", "hinge")
    loss = Hinge(margin=1.0).discriminator_loss(torch.tensor([0.5, 2.0]), torch.tensor([-2.0, 0.0]))
    assert loss.item() == pytest.approx(0.25 + 0.5)
    assert source == (ROOT / "plugins" / "ganframe-hinge" / "ganframe_hinge.py").read_text()


def test_shown_python_calls_exist():
    shown = block("python", "ganframe.run(")
    for name in re.findall(r"ganframe\.(\w+)\(", shown):
        assert callable(getattr(ganframe, name))
    assert inspect.signature(ganframe.load_recipe).parameters.keys() >= {"path", "overrides"}


def test_shown_recipes_and_links_exist():
    for text, folder in ((MAIN, ROOT), (RECIPES, ROOT / "recipes"), (PLUGINS, ROOT / "plugins"), (BUILT, ROOT)):
        for link in re.findall(r"\]\(([\w./-]+)\)", text):
            assert (folder / link).exists(), link
        for file in re.findall(r"\b(?:recipes|plugins|ganframe|tests)/[\w./-]+\.\w+", text):
            assert (ROOT / file).exists() or file == "recipes/mine.toml", file


def test_shown_packages_are_those_there_are():
    tree = block("", "hookspecs.py", BUILT)
    folders = {*re.findall(r"^  (\w+)/", tree, re.MULTILINE)}
    assert folders == {p.parent.name for p in (ROOT / "ganframe").glob("*/__init__.py")} | {"templates"}
    modules = {*re.findall(r"^  (\w+)\.py", tree, re.MULTILINE)}
    assert modules == {p.stem for p in (ROOT / "ganframe").glob("*.py")} - {"__init__", "__main__"}


# -------------------------------------------------------------------------------------------------- published methods

METHODS = re.split(
    r",\s+",
    """Minimax, NS, WGAN, clipping, GP, SN, LSGAN, hinge, f-GAN, RaGAN, R3GAN, LP, DRAGAN, CT,
    orthonormal layers, AOL, SLL, CPL, TTUR, WGAN-div, EBGAN,
    BEGAN, LeCam, Fisher, Sobolev, DiffAugment, ADA, bCR, zCR, PacGAN, minibatch deviation, projection, SAGAN, WaveGAN,
    AC-GAN, ReACGAN/ContraGAN, SSGAN, InfoGAN, feature matching, K+1, MMD-GAN, Cramér, optimistic Adam, BigGAN,
    Progressive GAN, StyleGAN2, projected GAN, pix2pix, CycleGAN, SRGAN, video prediction, text-conditioned, HiFi-GAN,
    CTGAN, VAE-GAN, ALI/BiGAN, AAE, ADD, DMD, DP-GAN, Unrolled, consensus, LOGAN, extragradient, CGD, TimeGAN""",
)


def methods() -> list[list[str]]:
    """The rows of the page: method, shown, believed, out of scope."""
    lines = PLUGINS[PLUGINS.index("\n| method | shown") + 1 :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_methods_page_has_each_method_in_one_column():
    assert [row[0] for row in methods()] == METHODS
    for row in methods():
        assert len(row) == 4, row
        assert sum(map(bool, row[1:])) == 1, row


def test_methods_page_shows_what_the_registry_has(install_package):
    for package in PACKAGES:
        install_package(package)
    registry = load()
    there = {(plugin.distribution, kind, name) for plugin, kind, name, _ in registry}
    there |= {(plugin.distribution, "optimizer", name) for plugin in registry.plugins for name in plugin.optimizers}
    for method, shown, *_ in methods():
        package, named = "ganframe", re.search(r"`(ganframe-\w+)`", shown)
        if named:
            package = named[1]
        words = re.findall(r"(\w+)s? (`\w+`(?: and `\w+`)*)", shown)
        parts = [(kind, name) for kind, names in words for name in re.findall(r"`(\w+)`", names)]
        for kind, name in parts:
            kind = kind.removesuffix("s")
            if kind in (*KINDS, "optimizer"):
                assert (package, kind, name) in there, (method, kind, name)
        files = re.findall(r"recipe `([\w./-]+\.toml)`", shown)
        assert all((ROOT / "recipes" / f).exists() or (ROOT / "plugins" / f).exists() for f in files), method
        assert not shown or files or any(kind.removesuffix("s") in (*KINDS, "optimizer") for kind, _ in parts), method


def test_sketches_that_the_methods_page_names_are_trained():
    for method, _, believed, _ in methods():
        if "tests/sketches.py" in believed:
            sketch = method.lower().replace(" ", "_").replace("-", "_")
            assert f'"{sketch}": {{' in (ROOT / "tests" / "test_protocol.py").read_text(encoding="utf-8"), method
