from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import ganframe
from ganframe.cli.common import Command, in_toml, make_table, print_table, say, say_text
from ganframe.errors import RecipeError, RequestError, RunError


def test_help_imports_neither_torch_nor_other_heavy_packages(python):
    source = """
import sys
from ganframe.cli import main
for arguments in (["--help"], *([name, "--help"] for name in main.commands), ["run", "-h"], ["--version"]):
    main(arguments, standalone_mode=False)
heavy = {"torch", "numpy", "accelerate", "matplotlib", "rich", "attrs", "pluggy"} & sys.modules.keys()
assert not heavy, heavy
"""
    done = python("-c", source)
    assert done.returncode == 0, done.stderr
    for command in ("run", "check", "plugins", "describe", "sample"):
        assert re.search(rf"^  {command}  +\w", done.stdout, re.MULTILINE)
    assert f"ganframe, version {ganframe.__version__}" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "x.toml", "--resume", "run"],
        ["run", "--resume", "run", "--out", "other"],
        ["run", "x.toml", "--steps", "3"],
        ["sample"],
        ["sample", "run", "-n", "0"],
        ["sample", "run", "-n", "many"],
        ["sample", "run", "--seed", "-1"],
        ["check"],
        ["trian"],
    ],
)
def test_wrong_flags_exit_with_2(call, tiny, arguments):
    tiny(name="x.toml")
    assert call(*arguments, code=2).stderr.strip().splitlines()[-1].startswith("Error: ")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (RequestError("no such run"), 2, "no such run\n"),
        (RecipeError(["a: wrong", "b: missing"]), 2, "a: wrong\nb: missing\n"),
        (RunError("the disk is full"), 1, "the disk is full\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (KeyboardInterrupt("saved at step 3"), 130, "saved at step 3\n"),
    ],
)
def test_errors_become_messages_and_exit_codes(monkeypatch, error, code, printed):
    @click.command(cls=Command)
    def fail():
        raise error

    result = CliRunner().invoke(fail)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", printed)
    monkeypatch.setenv("LOCAL_RANK", "1")
    result = CliRunner().invoke(fail)
    assert (result.exit_code, result.stderr) == (code, "" if code == 2 else printed)


def test_unexpected_errors_keep_their_traceback():
    @click.command(cls=Command)
    def fail():
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        CliRunner().invoke(fail, catch_exceptions=False)


@pytest.mark.parametrize("command", ["run", "check", "divergence"])
def test_value_that_a_shell_cut_at_its_spaces_is_shown_in_quotes(call, tiny, command):
    tiny(name="x.toml")
    for before, after in ((["x.toml"], []), ([], ["x.toml"])):
        cut = ["--set", "train.steps=3", "--set", "dataset.root=~/my", "images"]
        line = call(command, *before, *cut, *after, code=2).stderr.strip().splitlines()[-1]
        assert line.startswith("Error: Got unexpected extra argument")
        assert line.endswith("; a value with spaces needs quotes: --set 'dataset.root=~/my images'")
    line = call(command, "x.toml", "y.toml", code=2).stderr.strip().splitlines()[-1]
    assert "quotes" not in line


def test_home_folder_is_expanded_where_shells_do_not(call, tiny, tmp_path, monkeypatch):
    """A shell expands `--out ~/x`, and not `--out=~/x`."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    tiny(name="x.toml")
    call("run", "~/x.toml", "--out=~/a/run", "--set", "train.steps=1")
    call("run", "x.toml", "--out=b", "--set", "train.steps=1", "--set", "train.from='~/a/run'")
    call("sample", "~/a/run", "--out=~/a/x.npy")
    assert (tmp_path / "a" / "x.npy").exists()
    assert not Path("~").exists()


# --------------------------------------------------------------------------------------------------------------- block


def test_block_refuses_an_unknown_plugin(call, install):
    install("odd-things", "raise SystemExit", plugin="odd")
    for misspelt, near in (("bultin", "builtin"), ("odd-thing", "odd-things")):
        result = call("plugins", "--block", misspelt, code=2)
        assert f"no plugin '{misspelt}' is installed; did you mean '{near}'?" in result.stderr


def test_block_adds_to_the_environment_variable(call, install, monkeypatch):
    for name in ("first", "second"):
        install(name, "raise SystemExit")
    monkeypatch.setenv("GANFRAME_BLOCK", "first")
    rows = json.loads(call("plugins", "--json", "--block", "builtin", "--block", "second").stdout)
    status = {row["name"]: row["status"] for row in rows}
    assert (status["builtin"], status["first"], status["second"]) == ("blocked", "blocked", "blocked")


MARKER = """
import attrs
from ganframe import Objective, hookimpl

@attrs.frozen
class Marker(Objective):
    pass

loads = []

@hookimpl
def ganframe_objectives():
    loads.append(1)
    return {"marker": Marker}
"""


@pytest.mark.parametrize(
    "arguments",
    [
        "run x.toml --out new",
        "run --resume a --set train.steps=14",
        "check x.toml",
        "sample a --out x.png",
        "sample a --out x.npy --seed 1",
        "interpolate a --between 0 1 --out x.npy",
        "arithmetic a class=0+1 -n 200 --out x.npy",
        "lipschitz a b -n 20",
        "divergence x.toml --against a --set train.steps=2 --set log.every=1 --out new",
        "plugins",
        "describe objective marker",
        "new-plugin my-loss",
    ],
)
@pytest.mark.usefixtures("recipe")
def test_plugins_are_loaded_once_a_command(call, install, finished, arguments):
    """The class of the samples in an unconditional generator's arithmetic comes from the run's dataset."""
    install("marker", MARKER)
    for copy in ("a", "b"):
        shutil.copytree(finished, copy)
    call(*arguments.split())
    assert len(sys.modules["marker"].loads) == 1


# -------------------------------------------------------------------------------------------------------------- output


TEXT = "A penalty on the norm of gradients, of many words, as in Gulrajani et al. 2017, section 3. "
ROWS = [("gradient_penalty", "builtin", TEXT), ("[bold]", "a-plugin-of-some-length", TEXT * 3), ("q", "", "")]
WORDS = [word for row in ROWS for cell in row for word in cell.split()]


@pytest.mark.parametrize("columns", [None, 20, 33, 40, 60, 80, 100, 101, 250])
@pytest.mark.parametrize("terminal", [False, True])
def test_tables_and_texts_break_between_words_within_the_terminal_and_100_columns(
    capsys, monkeypatch, columns, terminal
):
    """Without a terminal or COLUMNS, as in a pipe, it is 100 columns."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    table = make_table("name", "plugin", "what it is")
    for row in ROWS:
        table.add_row(*row)
    print_table(table)
    printed = click.unstyle(capsys.readouterr().out)  # headings are bold on a terminal
    assert max(map(len, printed.splitlines())) <= max(len("a-plugin-of-some-length") + 12, min(columns or 100, 100))
    assert sorted(printed.split()).count("gradient_penalty") == 1
    assert {*WORDS} <= {*printed.split()}
    for print_text in (say, say_text):
        print_text(" ".join(WORDS))
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= max(len("a-plugin-of-some-length"), min(columns or 100, 100))
        assert printed.split() == WORDS


@pytest.mark.parametrize("columns", [20, 60, 100])
def test_word_that_is_wider_than_the_terminal_is_whole(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    table = make_table("name", "text")
    table.add_row("name", "x" * 150)
    print_table(table)
    say("a path: " + "y" * 150)
    printed = capsys.readouterr().out
    assert re.search("x{150}", printed)
    assert re.search("y{150}", printed)


def test_text_of_several_lines_is_filled_by_paragraphs(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    say_text("One line of a docstring that is long\nand goes on.\n\n    x = 3\n    y = 4\n\n- one\n- two\n\n-L_D is 0.")
    assert capsys.readouterr().out == (
        "One line of a docstring that is long and\ngoes on.\n\n    x = 3\n    y = 4\n\n- one\n- two\n\n-L_D is 0.\n\n"
    )


def test_items_of_a_list_are_filled_with_their_lines_joined(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    say_text("- one item that has more words than\n  fit\n- two\n  lines\n\n    code\n      indented")
    assert capsys.readouterr().out == (
        "- one item that has more words than fit\n- two lines\n\n    code\n      indented\n\n"
    )
    say_text("1. a first item of which there are many\n   words\n2. two")
    assert capsys.readouterr().out == "1. a first item of which there are many\n  words\n2. two\n\n"


def test_line_continues_where_the_text_after_its_heading_begins(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    say("memory         0.25 GiB at most so far, on a processor")
    assert capsys.readouterr().out == "memory         0.25 GiB at most so far,\n" + " " * 15 + "on a processor\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (None, "none"), (2.0, "2.0"), ('a"b', r'"a\"b"'), ((1, (False, "a")), '[1, [false, "a"]]')],
)
def test_in_toml(value, text):
    assert in_toml(value) == text
