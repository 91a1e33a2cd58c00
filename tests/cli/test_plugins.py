from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import ganframe
from ganframe.plugins import registry


def test_plugins_and_describe_import_neither_data_nor_pictures(python):
    source = """
import sys
from ganframe.cli import main
main(["plugins"], standalone_mode=False)
main(["describe", "dataset", "digits"], standalone_mode=False)
heavy = {"accelerate", "matplotlib", "sklearn", "torchvision", "PIL"} & sys.modules.keys()
assert not heavy, heavy
"""
    done = python("-c", source)
    assert done.returncode == 0, done.stderr


GOOD = """
from typing import Literal

import attrs
from ganframe import Objective, hookimpl, option

@attrs.frozen
class Odd(Objective):
    \"\"\"An odd objective.

    With more to say.
    \"\"\"
    margin: float = option(help="how far")
    names: tuple[str, ...] = option(("a", "b"), help="of nothing")
    loud: bool = option(False, help="or not")
    limit: int | None = option(None, help="[bold] if any")
    shape: Literal["round", "square"] = option("round", help="of it")

@hookimpl
def ganframe_objectives():
    return {"odd": Odd}
"""


@pytest.fixture
def three_plugins(call, install, monkeypatch):
    """One loads, one fails and one is blocked."""
    install("odd-things", GOOD, plugin="odd", version="4.2")
    install("failing", "import no_such_module_anywhere")
    install("unwanted", GOOD)
    monkeypatch.setenv("GANFRAME_BLOCK", "unwanted")


@pytest.mark.usefixtures("three_plugins")
def test_plugins_prints_json(call):
    rows = json.loads(call("plugins", "--json").stdout)
    keys = {"name", "distribution", "version", "entry_point", "status", "cause", "seconds", "components", "optimizers"}
    keys |= {"features"}
    assert all(set(row) == keys for row in rows)
    named = {row["name"]: row for row in rows}
    assert named["builtin"]["entry_point"] == "ganframe.builtin"
    assert named["builtin"]["version"] == ganframe.__version__
    kinds = {"generator", "discriminator", "objective", "constraint", "dataset", "metric"}
    assert set(named["builtin"]["components"]) == kinds
    assert {"vanilla", "wgan"} <= set(named["builtin"]["components"]["objective"])
    assert all(isinstance(row["seconds"], float) for row in rows)
    odd = {key: named["odd"][key] for key in keys - {"seconds"}}
    assert odd == {
        "name": "odd",
        "distribution": "odd-things",
        "version": "4.2",
        "entry_point": "odd_things",
        "status": "loaded",
        "cause": "",
        "components": {"objective": ["odd"]},
        "optimizers": [],
        "features": [],
    }
    assert named["failing"]["status"] == "failed"
    assert named["failing"]["cause"] == (
        "ModuleNotFoundError: No module named 'no_such_module_anywhere' (failing.py, line 1)"
    )
    assert named["unwanted"]["status"] == "blocked"
    assert named["unwanted"]["components"] == {}


@pytest.mark.usefixtures("three_plugins")
def test_plugins_prints_a_table(call):
    """A cell may have several lines."""
    rows = re.split(r"\n ?(?=\S)", call("plugins").stdout)

    def row(name):
        (lines,) = (" ".join(row.split()) for row in rows if row.startswith(f"{name} "))
        return lines

    assert re.search(r"odd-things 4\.2 odd_things loaded \d+\.\d\d s objectives: odd", row("odd"))
    assert "failed" in row("failing")
    assert "ModuleNotFoundError: No module named 'no_such_module_anywhere'" in row("failing")
    assert "blocked" in row("unwanted")
    assert "GANFRAME_BLOCK" in row("unwanted")
    assert "ganframe.builtin" in row("builtin")


def test_plugins_says_how_to_see_the_traceback_of_a_failure(call, install):
    assert "GANFRAME_STRICT" not in call("plugins").stderr
    install("failing", "1 / 0")
    result = call("plugins")
    assert "GANFRAME_STRICT=1 ganframe plugins shows where" in result.stderr
    assert "GANFRAME_STRICT" not in result.stdout


def test_plugin_that_loads_slowly_is_named_while_it_loads(call, install):
    install("slow-thing", "import time\ntime.sleep(2.2)\nraise SystemExit")
    result = call("plugins")
    assert result.stderr.startswith("loading plugin slow_thing (slow-thing 1.0)\n")
    assert "loading plugin" not in result.stdout


BROKEN = {
    "broken-import": "import no_such_module_anywhere",
    "broken-syntax": "def broken(:",
    "broken-exit": "exit()",
    "broken-print": "print('noise')\nraise BaseException",
    "broken-misspelt": "from ganframe import hookimpl\n@hookimpl\ndef ganframe_objectivs(): return {}",
    "broken-argument": "from ganframe import hookimpl\n@hookimpl\ndef ganframe_objectives(registry): return {}",
    "broken-raises": "from ganframe import hookimpl\n@hookimpl\ndef ganframe_objectives(): raise OSError('no disk')",
    "broken-class": "import ganframe\nclass Bad(ganframe.Objective): pass\n"
    "@ganframe.hookimpl\ndef ganframe_objectives(): return {'vanilla': Bad}",
    "broken-builtin": "1 / 0",
}


def test_broken_plugins_do_not_change_the_bytes_of_a_run(call, tiny, install):
    tiny()
    call("run", "tiny.toml", "--out", "before")
    sound = {row["name"]: {**row, "seconds": 0} for row in json.loads(call("plugins", "--json").stdout)}
    for name, source in BROKEN.items():
        install(name, source, plugin="builtin" if name == "broken-builtin" else None)
    call("run", "tiny.toml", "--out", "after")
    for file in ("generator.safetensors", "recipe.toml"):
        assert Path("after", file).read_bytes() == Path("before", file).read_bytes()
    rows = json.loads(call("plugins", "--json").stdout)
    failed = {row["distribution"]: row["cause"] for row in rows if row["status"] == "failed"}
    assert failed.keys() == BROKEN.keys()
    assert all(failed.values())
    assert {row["name"]: {**row, "seconds": 0} for row in rows if row["status"] != "failed"} == sound


@pytest.mark.usefixtures("three_plugins")
def test_describe_lists_every_component(call, lines_of):
    everything = lines_of(call("describe").stdout)
    for kind, name in (("generator", "dcgan"), ("dataset", "ring"), ("constraint", "spectral_norm")):
        assert re.search(rf"^{kind} +{name} +\w+ +\w", everything, re.MULTILINE)
    assert re.search(r"^objective +odd +odd +An odd objective\.$", everything, re.MULTILINE)
    objectives = call("describe", "objective").stdout
    assert objectives == call("describe", "objectives").stdout
    assert "wgan" in objectives
    assert "odd" in objectives
    assert "spectral_norm" not in objectives


@pytest.mark.usefixtures("three_plugins")
def test_describe_component(call):
    output = call("describe", "objective", "odd").stdout
    assert output.startswith("objective odd:odd, from odd-things 4.2\n\nAn odd objective.\n\nWith more to say.\n")
    rows = [re.split(r" {2,}", line.strip()) for line in output.splitlines()]
    assert ["margin", "number", "required", "how far"] in rows
    assert ["names", "list of texts", '["a", "b"]', "of nothing"] in rows
    assert ["loud", "true or false", "false", "or not"] in rows
    assert ["limit", "integer | none", "none", "[bold] if any"] in rows
    assert ["shape", '"round" | "square"', '"round"', "of it"] in rows
    assert output == call("describe", "objectives", "odd:odd").stdout


def test_describe_every_builtin_component(call, lines_of):
    for plugin, kind, name, cls in registry.load():
        if plugin.name == "builtin":
            output = call("describe", kind, f"builtin:{name}").stdout
            assert cls.__doc__.splitlines()[0] in " ".join(output.split())
            for field in cls.__attrs_attrs__:
                assert re.search(rf"^{field.name} ", lines_of(output), re.MULTILINE)


@pytest.mark.parametrize(
    ("declared", "cause"),
    [("limit", "TypeError: objective 'odd': the option 'limit' has no type"), ("limit: NoSuchName", "NameError: ")],
)
def test_describe_refuses_an_option_of_unknown_type(call, install, declared, cause):
    source = "from __future__ import annotations\nimport attrs\nfrom ganframe import Objective, hookimpl, option\n"
    component = f"@attrs.frozen\nclass Odd(Objective):\n    {declared} = option(1.0, help='unknown')\n"
    install("odd", f"{source}{component}@hookimpl\ndef ganframe_objectives(): return {{'odd': Odd}}")
    assert f"plugin odd (odd 1.0) failed: {cause}" in call("describe", "objective", "odd", code=2).stderr


def test_describe_component_without_options(call):
    assert call("describe", "objective", "wgan").stdout.endswith("It has no options.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["objektive"], "unknown kind 'objektive'; did you mean 'objective'?\n"),
        (
            ["loss"],
            "unknown kind 'loss'; known: constraint, dataset, discriminator, features, generator, metric, objective, ",
        ),
        (["objective", "wgn"], "unknown objective 'wgn'; did you mean 'wgan'?\n"),
        (["objective", "mlp"], "unknown objective 'mlp'; "),
    ],
)
def test_describe_unknown_names(call, arguments, message):
    assert call("describe", *arguments, code=2).stderr.startswith(message)


def test_optimizers_of_plugins_are_listed_and_described(call, install):
    source = """
    import torch
    from ganframe import hookimpl

    class Slow(torch.optim.Optimizer):
        \"\"\"Slow descent.

        With more to say.
        \"\"\"
        def __init__(self, params, lr: float, betas: tuple[float, float] = (0.0, 0.9)) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            pass

    @hookimpl
    def ganframe_optimizers():
        return {"Slow": Slow}
    """
    install("slow", source)
    assert "optimizers: Slow" in call("plugins").output
    (row,) = (row for row in json.loads(call("plugins", "--json").stdout) if row["name"] == "slow")
    assert (row["components"], row["optimizers"]) == ({}, ["Slow"])
    assert re.search(r"optimizer +Slow +slow +Slow descent\.", call("describe").output)
    assert "Slow descent." in call("describe", "optimizers").output
    shown = call("describe", "optimizer", "slow:Slow").output
    assert shown.startswith("optimizer slow:Slow, from slow 1.0")
    assert "With more to say." in shown
    assert "Its options: lr, betas [0.0, 0.9]" in shown
    assert "unknown optimizer 'Slwo'; did you mean 'Slow'?" in call("describe", "optimizer", "Slwo", code=2).output


def test_describe_names_a_component_that_is_the_default_of_an_option(call, install):
    source = """
import attrs
from ganframe import Objective, hookimpl, option

@attrs.frozen
class Plain(Objective):
    weight: float = option(1.0, help="weight")

@attrs.frozen
class Both(Objective):
    one: Plain = option(Plain(), help="a game")

@hookimpl
def ganframe_objectives():
    return {"plain": Plain, "both": Both}
"""
    install("two-games", source, plugin="games")
    printed = call("describe", "objective", "both").output
    assert "games:plain" in printed
    assert "Plain(" not in printed
