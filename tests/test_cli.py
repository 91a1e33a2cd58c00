from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

import ganframe
from ganframe.cli import main

LEARNS = """
seed = 5
[latent]
dim = 4
[objective]
use = "non_saturating"
[train]
steps = 12
critic_steps = 2
batch_size = 16
ema = 0.9
[log]
every = 1
checkpoint_every = 4
"""
RING = """
[dataset]
use = "ring"
[generator]
use = "mlp"
hidden = [16]
[discriminator]
use = "mlp"
hidden = [16]
dropout = 0.3
[optimizer.generator]
use = "Adam"
lr = 1e-2
schedule = { use = "LinearLR", start_factor = 1.0, end_factor = 0.1, total_iters = 12 }
[optimizer.discriminator]
use = "SGD"
lr = 1e-2
momentum = 0.9
"""
DIGITS = """
[dataset]
use = "digits"
[generator]
use = "dcgan"
width = 8
[discriminator]
use = "dcgan"
width = 8
norm = "none"
[[constraints]]
use = "spectral_norm"
"""
FIVE_MISTAKES = """
[dataset]
use = "ring"
nodes = 3
[generator]
use = "mpl"
[discriminator]
use = "mlp"
dropout = "half"
[objective]
use = "wgan"
[[constraints]]
use = "gradient_penalty"
weigth = 1
[train]
steps = 1.5
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in a folder of its own; what --block adds to the environment ends with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANFRAME_BLOCK", "")
    monkeypatch.delenv("GANFRAME_STRICT", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def call():
    """call(*arguments, code=0): the command line's result, whose exit code must be `code`."""

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, list(map(str, arguments)))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on the ring, to sample from; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "x.toml").write_text(LEARNS + RING)
    return ganframe.run(ganframe.load_recipe(folder / "x.toml"), folder / "run").folder


def files(folder):
    """Every file below a folder, with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def lines_of(table):
    """A table's lines without the blanks around them."""
    return "\n".join(line.strip() for line in table.splitlines())


def assert_same_weights(folder, other):
    """Equal tensors, and files of the same bytes."""
    a, b = (Path(f, "generator.safetensors") for f in (folder, other))
    ours, theirs = load_file(a), load_file(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert a.read_bytes() == b.read_bytes()


def python(*arguments, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=100, env=environment, **options
    )


# ------------------------------------------------------------------------------------------------- help, flags, codes


def test_help_imports_nothing_heavy():
    source = """
import sys
from ganframe.cli import main
for arguments in (["--help"], ["run", "-h"], ["plugins", "--help"], ["describe", "--help"], ["--version"]):
    main(arguments, standalone_mode=False)
heavy = {"torch", "numpy", "accelerate", "matplotlib", "rich", "attrs", "pluggy"} & sys.modules.keys()
assert not heavy, heavy
"""
    done = python("-c", source)
    assert done.returncode == 0, done.stderr
    for command in ("run", "check", "plugins", "describe", "sample"):
        assert re.search(rf"^  {command}  +\w", done.stdout, re.MULTILINE)
    assert f"ganframe, version {ganframe.__version__}" in done.stdout


def test_plugins_and_describe_read_no_data_and_no_pictures():
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


def test_the_program_exits_with_2_and_one_line_for_each_of_five_mistakes(tmp_path, install, monkeypatch):
    """A real process: python -m ganframe, with a broken plugin installed beside."""
    Path("x.toml").write_text(FIVE_MISTAKES)
    site = install("broken", "import no_such_module_anywhere")
    monkeypatch.setenv("PYTHONPATH", str(site))
    done = python("-m", "ganframe", "run", "x.toml")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("x.toml: ") for line in lines)
    assert "x.toml: constraints[0].weigth: unknown option; did you mean 'weight'?" in lines
    (unknown,) = (line for line in lines if "'mpl'" in line)
    assert "plugin broken (broken 1.0) failed: ModuleNotFoundError: No module named 'no_such_module_any" in unknown
    assert not Path("runs").exists()


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


# ----------------------------------------------------------------------------------------------------------------- run


def test_run_makes_numbered_folders(call, tiny):
    tiny(name="my.toml")
    first, second = (call("run", "my.toml", "--set", "log.every=2") for _ in range(2))
    assert sorted(p.name for p in Path("runs/my").iterdir()) == ["1", "2"]
    for number, result in ((1, first), (2, second)):
        folder = Path(f"runs/my/{number}")
        assert result.stdout == f"done: {folder}/ holds generator.safetensors, samples/step-000006.png, metrics.jsonl\n"
        assert set(files(folder)) >= {"recipe.toml", "environment.json", "metrics.jsonl", "generator.safetensors"}
        assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-000006"]
        steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert steps == [2, 4, 6]
    assert_same_weights("runs/my/1", "runs/my/2")  # one recipe, one machine


def test_run_in_a_folder_of_ones_own(call, tiny):
    call("run", tiny(), "--out", "a/b", "--set", "train.steps=2", "--set", "seed=7")
    assert not Path("runs").exists()
    resolved = ganframe.load_recipe("a/b/recipe.toml")
    assert (resolved.train.steps, resolved.seed) == (2, 7)


def test_an_empty_folder_may_be_the_runs(call, tiny):
    Path("empty").mkdir()
    call("run", tiny(), "--out", "empty", "--set", "train.steps=1")
    assert Path("empty/generator.safetensors").exists()


def test_a_folder_that_holds_something_is_refused_and_left_alone(call, tiny):
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("years of work")
    result = call("run", tiny(), "--out", "full", code=2)
    assert result.stderr.startswith("full exists and is not empty; ")
    assert files(Path("full")) == {"thesis.txt": b"years of work"}
    result = call("run", tiny(), "--out", "full/thesis.txt", code=2)
    assert "full/thesis.txt" in result.stderr
    assert files(Path("full")) == {"thesis.txt": b"years of work"}


def test_a_finished_run_is_not_overwritten(call, tiny, finished):
    before = files(finished)
    result = call("run", tiny(), "--out", finished, code=2)
    assert f"--resume {finished}" in result.stderr
    assert files(finished) == before


def test_output_that_cannot_be_written(call, tiny):
    Path("file").write_text("not a folder")
    result = call("run", tiny(), "--out", "file/run", code=2)
    assert len(result.stderr.splitlines()) == 1
    assert "cannot be made" in result.stderr
    assert "file" in result.stderr
    Path("runs").write_text("not a folder either")
    result = call("run", tiny(), code=2)
    assert len(result.stderr.splitlines()) == 1
    assert "runs" in result.stderr


def test_a_recipe_whose_parts_do_not_fit_makes_no_folder(call, tiny):
    more = "[[constraints]]\nuse = 'gradient_penalty'\n"
    changes = ["discriminator.norm='batch'", "generator.condition='batch_norm'"]
    result = call("run", tiny(more), *(text for change in changes for text in ("--set", change)), code=2)
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["generator", "constraints[0]"]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.toml"], "none.toml: no such file"),
        (["check", "none.toml"], "none.toml: no such file"),
        (["run", "."], ".: cannot be read: "),
        (["run", "tiny.toml", "--set", "train.steps"], "--set train.steps: write it as"),
        (["run", "tiny.toml", "--block", "builtin"], "tiny.toml: dataset.use: unknown dataset 'ring'"),
        (["run", "tiny.toml", "--set", "log.trackers=['tensorbord']"], "tiny: log.trackers: 'tensorbord' is not"),
        (["run", "--resume", "none"], "none: no run there"),
        (["run", "--resume", "."], ".: no run there"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_met(call, tiny, arguments, message):
    tiny()
    assert call(*arguments, code=2).stderr.startswith(message)
    assert not Path("runs").exists()


# -------------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("text", [RING, DIGITS], ids=["ring", "digits"])
def test_a_resumed_run_equals_one_that_was_never_interrupted(call, text):
    Path("x.toml").write_text(LEARNS + text)
    call("run", "x.toml", "--out", "straight")
    call("run", "x.toml", "--out", "halves", "--set", "train.steps=6")
    half = load_file("halves/generator.safetensors")
    call("run", "--resume", "halves", "--set", "train.steps=12")
    whole = load_file("straight/generator.safetensors")
    assert any((half[name] != whole[name]).any() for name in half)
    assert_same_weights("halves", "straight")

    def records(folder):
        lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]

    assert records("halves") == records("straight")
    assert [record["step"] for record in records("halves")] == list(range(1, 13))
    checkpoints = [Path(folder, "checkpoints/step-000012") for folder in ("straight", "halves")]
    for network in ("generator", "discriminator", "average"):
        assert len({(c / f"{network}.safetensors").read_bytes() for c in checkpoints}) == 1
    assert ganframe.load_recipe("halves/recipe.toml").train.steps == 12


def test_a_run_goes_on_from_its_newest_whole_checkpoint(call):
    """As after a power cut at step 11: metrics beyond the checkpoint, one of them torn, and a checkpoint half there."""
    Path("x.toml").write_text(LEARNS + RING)
    call("run", "x.toml", "--out", "straight")
    call("run", "x.toml", "--out", "cut")
    cut = Path("cut")
    (cut / "checkpoints/step-000012").rename(cut / "checkpoints/.step-000012.partial")
    (cut / "checkpoints/.step-000012.partial/training.pt").unlink()
    (cut / "generator.safetensors").unlink()
    lines = (cut / "metrics.jsonl").read_text().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_text("".join(lines[:10]) + lines[10][:20])
    call("run", "--resume", "cut")
    assert_same_weights("cut", "straight")
    steps = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13))


def test_resuming_a_finished_run_says_so(call, finished):
    before = files(finished)
    result = call("run", "--resume", finished, code=2)
    assert result.stderr.startswith(f"{finished}: this run has finished")
    assert "--set train.steps=" in result.stderr
    assert files(finished) == before


def test_resuming_a_damaged_checkpoint_says_so(call):
    Path("x.toml").write_text(LEARNS + RING)
    call("run", "x.toml", "--out", "run", "--set", "train.steps=2")
    Path("run/checkpoints/step-000002/training.pt").write_bytes(b"no checkpoint")
    result = call("run", "--resume", "run", "--set", "train.steps=4", code=2)
    assert "step-000002: training.pt is not what was written" in result.stderr
    assert "no checkpoint is whole" in result.stderr


@pytest.mark.parametrize(
    "change",
    [
        "generator.hidden=[4]",
        "optimizer.generator.use=SGD",
        "optimizer.generator.schedule={use='ExponentialLR', gamma=0.9}",
        "train.ema=0.5",
        "seed=9",
        "dataset.use=digits",
    ],
)
def test_a_change_that_the_checkpoint_cannot_follow_is_refused_and_nothing_touched(call, tiny, change):
    call("run", tiny(), "--out", "run", "--set", "train.steps=1")
    before = files(Path("run"))
    result = call("run", "--resume", "run", "--set", "train.steps=2", "--set", change, code=2)
    assert result.stderr.strip()
    assert files(Path("run")) == before


@pytest.mark.parametrize("option", ["lr", "weight_decay"])
def test_an_optimizers_option_changed_at_resume_takes_effect_or_is_refused(tiny, option):
    """The resolved recipe of the resumed run would otherwise tell of a run that never was."""
    ganframe.run(ganframe.load_recipe(tiny(), ["train.steps=1"]), "run")
    changes = ["train.steps=2", f"optimizer.generator.{option}=0.5"]
    result = CliRunner().invoke(main, ["run", "--resume", "run", "--set", changes[0], "--set", changes[1]])
    if result.exit_code != 2:
        training = torch.load("run/checkpoints/step-000002/training.pt", weights_only=True)
        (group,) = training["optimizers"]["generator"]["param_groups"]
        assert group[option] == 0.5


def test_an_interrupted_run_saves_itself_and_goes_on_as_if_nothing_had_been():
    Path("x.toml").write_text(LEARNS + RING)
    endless = ["--set", "train.steps=1_000_000", "--set", "log.checkpoint_every=1_000_000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ganframe", "run", "x.toml", "--out", "run", *endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        metrics = Path("run/metrics.jsonl")
        deadline = time.monotonic() + 60
        while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert output == ""
    message = re.search(r"saved at step (\d+); go on with: ganframe run --resume run$", errors, re.MULTILINE)
    step = int(message[1])
    assert [p.name for p in Path("run/checkpoints").iterdir()] == [f"step-{step:06d}"]

    # Here and now, in another process than the one that was interrupted.
    ganframe.resume("run", [f"train.steps={step + 5}"])
    straight = ganframe.run(ganframe.load_recipe("x.toml", [f"train.steps={step + 5}"]), "straight")
    assert_same_weights("run", "straight")
    assert straight.metrics[-1]["step"] == step + 5


# --------------------------------------------------------------------------------------------------------------- check


def test_check_counts_parameters_and_keeps_nothing(call, tiny):
    output = call("check", tiny()).stdout
    sound, data, generator, discriminator, seconds, memory = output.splitlines()
    assert sound == f"{tiny()}: sound"
    assert re.fullmatch(r"data +shape \(2,\), 8 classes", data)
    assert re.fullmatch(r"generator +42 parameters", generator)  # 2·8 + 8, 8·2 + 2
    assert re.fullmatch(r"discriminator +33 parameters", discriminator)  # 2·8 + 8, 8 + 1
    assert re.fullmatch(r"time +[\d.e-]+ s a step, about \d+ s in all", seconds)
    assert re.fullmatch(r"memory +\d+\.\d\d GiB at the most so far, on \w+.*", memory)
    assert sorted(p.name for p in Path().iterdir()) == ["tiny.toml"]


def test_check_reports_what_run_would(call):
    Path("x.toml").write_text(FIVE_MISTAKES)
    checked, run = (call(command, "x.toml", code=2).stderr for command in ("check", "run"))
    assert checked == run
    assert len(checked.splitlines()) == 5


# ------------------------------------------------------------------------------------------------ plugins and describe


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
def three_plugins(install, monkeypatch):
    """One that works, one that fails and one that is blocked."""
    install("odd-things", GOOD, plugin="odd", version="4.2")
    install("failing", "import no_such_module_anywhere")
    install("unwanted", GOOD)
    monkeypatch.setenv("GANFRAME_BLOCK", "unwanted")


@pytest.mark.usefixtures("three_plugins")
def test_plugins_as_json(call):
    rows = json.loads(call("plugins", "--json").stdout)
    keys = {"name", "distribution", "version", "entry_point", "status", "cause", "seconds", "components"}
    assert all(set(row) == keys for row in rows)
    named = {row["name"]: row for row in rows}
    assert named["builtin"]["entry_point"] == "ganframe.builtin"
    assert named["builtin"]["version"] == ganframe.__version__
    assert set(named["builtin"]["components"]) == {"generator", "discriminator", "objective", "constraint", "dataset"}
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
    }
    assert named["failing"]["status"] == "failed"
    assert named["failing"]["cause"] == (
        "ModuleNotFoundError: No module named 'no_such_module_anywhere' (failing.py, line 1)"
    )
    assert named["unwanted"]["status"] == "blocked"
    assert named["unwanted"]["components"] == {}


@pytest.mark.usefixtures("three_plugins")
def test_plugins_as_a_table(call):
    lines = lines_of(call("plugins").stdout).splitlines()

    def row(name):
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        return line

    assert re.search(r"odd-things 4\.2 +odd_things +loaded +\d+\.\d\d s +objectives: odd", row("odd"))
    assert "failed" in row("failing")
    assert "ModuleNotFoundError: No module named 'no_such_module_anywhere'" in row("failing")
    assert "blocked" in row("unwanted")
    assert "GANFRAME_BLOCK" in row("unwanted")
    assert "ganframe.builtin" in row("builtin")


def test_blocking_a_plugin_that_is_not_there_is_a_mistake(call, install):
    install("odd-things", "raise SystemExit", plugin="odd")
    for misspelt, near in (("bultin", "builtin"), ("odd-thing", "odd-things")):
        result = call("plugins", "--block", misspelt, code=2)
        assert f"no plugin '{misspelt}' is installed; did you mean '{near}'?" in result.stderr


def test_a_failure_comes_with_the_way_to_its_traceback(call, install):
    assert "GANFRAME_STRICT" not in call("plugins").stderr
    install("failing", "1 / 0")
    result = call("plugins")
    assert "GANFRAME_STRICT=1 ganframe plugins shows where" in result.stderr
    assert "GANFRAME_STRICT" not in result.stdout


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


def test_broken_plugins_leave_a_run_as_it_was_to_the_byte(call, tiny, install):
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


def test_plugins_blocked_on_the_command_line(call, monkeypatch):
    monkeypatch.setenv("GANFRAME_BLOCK", "other")
    rows = json.loads(call("plugins", "--json", "--block", "builtin").stdout)
    assert [row["status"] for row in rows if row["name"] == "builtin"] == ["blocked"]


@pytest.mark.usefixtures("three_plugins")
def test_describe_lists_every_component(call):
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
def test_describe_a_component(call):
    output = call("describe", "objective", "odd").stdout
    assert output.startswith("objective odd:odd, from odd-things 4.2\n\nAn odd objective.\n\nWith more to say.\n")
    rows = [re.split(r" {2,}", line.strip()) for line in output.splitlines()]
    assert ["margin", "number", "required", "how far"] in rows
    assert ["names", "list of texts", '["a", "b"]', "of nothing"] in rows
    assert ["loud", "true or false", "false", "or not"] in rows
    assert ["limit", "integer | none", "none", "[bold] if any"] in rows
    assert ["shape", '"round" | "square"', '"round"', "of it"] in rows
    assert output == call("describe", "objectives", "odd:odd").stdout


def test_describe_every_builtin_component(call):
    for plugin, kind, name, cls in ganframe.plugins.load():
        if plugin.name == "builtin":
            output = call("describe", kind, f"builtin:{name}").stdout
            assert cls.__doc__.splitlines()[0] in output
            for field in cls.__attrs_attrs__:
                assert re.search(rf"^{field.name} ", lines_of(output), re.MULTILINE)


@pytest.mark.parametrize("declared", ["limit", "limit: NoSuchName"])
def test_an_option_whose_type_is_not_known_is_no_crash(install, declared):
    """The plugin may be refused, or the option shown without its type."""
    source = "from __future__ import annotations\nimport attrs\nfrom ganframe import Objective, hookimpl, option\n"
    component = f"@attrs.frozen\nclass Odd(Objective):\n    {declared} = option(1.0, help='unknown')\n"
    install("odd", f"{source}{component}@hookimpl\ndef ganframe_objectives(): return {{'odd': Odd}}")
    result = CliRunner().invoke(main, ["describe", "objective", "odd"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "limit" in result.output or "plugin odd (odd 1.0) failed: " in result.output


def test_describe_a_component_without_options(call):
    assert call("describe", "objective", "wgan").stdout.endswith("It has no options.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["objektive"], "unknown kind 'objektive'; did you mean 'objective'?\n"),
        (["loss"], "unknown kind 'loss'; known: constraint, dataset, discriminator, generator, objective\n"),
        (["objective", "wgn"], "unknown objective 'wgn'; did you mean 'wgan'?\n"),
        (["objective", "mlp"], "unknown objective 'mlp'; "),
    ],
)
def test_describe_the_unknown(call, arguments, message):
    assert call("describe", *arguments, code=2).stderr.startswith(message)


# -------------------------------------------------------------------------------------------------------------- sample


def test_sample_an_array_the_same_for_the_same_seed(call, finished):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        result = call("sample", finished, "-n", 300, "--seed", seed, "--out", f"new/{name}.npy")
        assert result.stdout == f"300 samples: new/{name}.npy\n"
    a, b, c = (np.load(f"new/{name}.npy") for name in "abc")
    assert a.shape == (300, 2)
    assert a.dtype == np.float32
    assert np.isfinite(a).all()
    assert (a == b).all()
    assert (a != c).any()
    assert torch.equal(torch.from_numpy(a), ganframe.load_generator(finished).sample(300, seed=3))


def test_sample_a_picture(call, finished):
    call("sample", finished, "-n", 50, "--out", "x.png")
    call("sample", finished, "-n", 50, "--out", "again.png")
    call("sample", finished, "-n", 50, "--out", "other.png", "--seed", 1)
    with Image.open("x.png") as picture:
        assert min(picture.size) > 100
    assert Path("x.png").read_bytes() == Path("again.png").read_bytes()
    assert Path("x.png").read_bytes() != Path("other.png").read_bytes()


def test_sample_goes_into_the_run_by_default(call, tiny):
    call("run", tiny(), "--out", "run", "--set", "train.steps=1")
    result = call("sample", "run", "--seed", 9)
    assert result.stdout == "64 samples: run/samples/seed-9.png\n"
    assert Path("run/samples/seed-9.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--out", "x.jpg"], "--out x.jpg: the name must end in .png or .npy"),
        (["RUN", "--out", "x"], "--out x: the name must end in .png or .npy"),
        (["RUN", "--out", "x.npy", "--label", "8"], "y = 8: the data has classes 0 to 7"),
        (["RUN", "--out", "x.npy", "--label", "-1"], "y = -1: the data has classes 0 to 7"),
        (["none", "--out", "x.npy"], "none: no run there"),
        (["file", "--out", "x.npy"], "file: no run there"),
        (["RUN", "--out", "file/x.npy"], "[Errno"),
    ],
)
def test_samples_that_cannot_be_had(call, finished, arguments, message):
    Path("file").write_text("")
    result = call("sample", *(str(finished) if a == "RUN" else a for a in arguments), code=2)
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1
    assert sorted(p.name for p in Path().iterdir()) == ["file"]


def test_a_label_where_the_data_has_none(call, tiny):
    call("run", tiny(), "--out", "run", "--set", "dataset={use='swiss_roll'}", "--set", "train.steps=1")
    assert call("sample", "run", "--label", 0, code=2).stderr == "y = 0: the data has no classes\n"
    call("sample", "run")


def test_a_run_without_a_generator_yet(call, tiny):
    call("run", tiny(), "--out", "run", "--set", "train.steps=1")
    Path("run/generator.safetensors").unlink()
    assert "has not saved a generator yet" in call("sample", "run", code=2).stderr
    Path("run/generator.safetensors").write_bytes(b"no weights")
    assert "not a generator's weights" in call("sample", "run", code=2).stderr


DATA = """
from pathlib import Path

import attrs
import torch
from ganframe import Dataset, DataSpec, hookimpl
from torch.utils.data import TensorDataset

@attrs.frozen
class Odd(Dataset):
    spec = DataSpec((2,))

    def build(self):
        assert not Path("gone").exists()
        return TensorDataset(torch.zeros(20, 2), torch.zeros(20, dtype=torch.long))

@hookimpl
def ganframe_datasets():
    return {"odd": Odd}
"""


def test_sampling_needs_neither_the_data_nor_its_plugin(call, install, tiny):
    install("odd-things", DATA, plugin="odd")
    call("run", tiny(), "--out", "run", "--set", "dataset={use='odd'}", "--set", "train.steps=1")
    environment = json.loads(Path("run/environment.json").read_text())
    assert environment["plugins"]["odd"] == {"distribution": "odd-things", "version": "1.0"}
    Path("gone").touch()
    call("sample", "run", "--out", "x.npy")
    assert np.load("x.npy").shape == (64, 2)
    call("sample", "run", "--out", "y.npy", "--block", "odd")
    assert np.array_equal(np.load("x.npy"), np.load("y.npy"))
    result = call("sample", "run", "--out", "x.npy", "--block", "builtin", code=2)
    assert "unknown generator 'builtin:mlp'" in result.stderr
    assert f"plugin builtin (ganframe {ganframe.__version__}) blocked" in result.stderr
