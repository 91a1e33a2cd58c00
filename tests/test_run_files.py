"""Damaged and poisoned files in a run folder: a message or a right result, nothing lost, and no code executed."""

import hashlib
import importlib.util
import io
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import ganframe
from ganframe import RequestError, RunError, runfolder
from ganframe.cli import main
from ganframe.runfolder import RunFolder

STRESS = Path(__file__).parent / "measure" / "stress.py"
PLACES = [
    "recipe.toml",
    "environment.json",
    "metrics.jsonl",
    "generator.safetensors",
    ".lock",
    ".metrics.jsonl.partial",
    "samples/step-000004.png",
    "samples/seed-0.png",
    "checkpoints/step-000004/checkpoint.json",
    "checkpoints/step-000004/generator.safetensors",
    "checkpoints/step-000004/discriminator.safetensors",
    "checkpoints/step-000004/training.pt",
    "checkpoints/step-000004/extra.pkl",
]


@pytest.fixture
def stress():
    spec = importlib.util.spec_from_file_location("stress", STRESS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of four steps with checkpoints at 2 and 4."""
    where = tmp_path_factory.mktemp("whole")
    recipe = where / "tiny.toml"
    recipe.write_text(
        """
        seed = 1
        dataset = { use = "ring" }
        latent = { dim = 2 }
        generator = { use = "mlp", hidden = [8] }
        discriminator = { use = "mlp", hidden = [8] }
        objective = { use = "vanilla" }
        train = { steps = 4, batch_size = 8 }
        log = { every = 1, samples_every = 4, checkpoint_every = 2 }
        """.replace("\n        ", "\n")
    )
    return ganframe.run(ganframe.load_recipe(recipe), where / "run").folder


@pytest.fixture
def run(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_sixty_damaged_files_give_a_message_or_a_right_result(stress, tmp_path):
    """The short form; `python tests/measure/stress.py --mutations 400` is the long one."""
    _, faults = stress.mutations(60, 7, tmp_path)
    assert faults == []


# -------------------------------------------------------------------------------------------------------------- poison


class Exploit:
    """Unpickled, it writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (exec, (f"open({str(self.target)!r}, 'w').close()",))


def poisons(target):
    buffer = io.BytesIO()
    torch.save({"step": 4, "rng": Exploit(target)}, buffer)
    return {"torch": buffer.getvalue(), "pickle": pickle.dumps(Exploit(target))}


def sign(checkpoint):
    """Writes the sums of its files into a checkpoint, so that what was put there is reached."""
    file = checkpoint / "checkpoint.json"
    try:
        about = json.loads(file.read_text())
    except ValueError:
        return
    found = [p for p in checkpoint.iterdir() if p != file]
    file.write_text(json.dumps({**about, "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in found}}))


def test_the_exploit_of_these_tests_works(tmp_path):
    for form, data in poisons(tmp_path / "executed").items():
        if form == "torch":
            torch.load(io.BytesIO(data), weights_only=False)
        else:
            pickle.loads(data)
        assert (tmp_path / "executed").exists()
        (tmp_path / "executed").unlink()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("place", PLACES)
def test_a_pickle_in_any_place_of_a_run_folder_executes_nothing(run, tmp_path, place):
    executed = tmp_path / "executed"
    for form, data in poisons(executed).items():
        file = run / place
        file.unlink(missing_ok=True)
        file.write_bytes(data)
        sign(run / "checkpoints" / "step-000004")
        for arguments in (
            ["sample", run, "-n", "4"],
            ["interpolate", run, "--out", tmp_path / "way.npy"],
            ["arithmetic", run, "0 - 1 + 2"],
            ["lipschitz", run, "-n", "8"],
            ["run", "--resume", run, "--set", "train.steps=6"],
        ):
            result = CliRunner().invoke(main, [str(a) for a in arguments])
            assert result.exit_code in (0, 1, 2), (form, arguments)
            assert result.exception is None or isinstance(result.exception, SystemExit), (form, arguments)
            assert not executed.exists(), (form, arguments)
    try:
        ganframe.load_generator(run).sample(2)
    except RequestError as error:
        assert str(error)  # noqa: PT017
    assert not executed.exists()


# --------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize(
    "place", [".lock", ".metrics.jsonl.partial", ".recipe.toml.partial", ".generator.safetensors.partial"]
)
def test_a_link_out_of_the_folder_is_not_written_through(run, tmp_path, place):
    outside = tmp_path / "kept"
    outside.write_text("years of work")
    (run / place).unlink(missing_ok=True)
    (run / place).symlink_to(outside)
    try:
        ganframe.resume(run, ["train.steps=6"])
    except (RequestError, RunError) as error:
        assert "\n" not in str(error)  # noqa: PT017
    assert outside.read_text() == "years of work"


# -------------------------------------------------------------------------------------------------------------- damage


def test_damaged_weights_of_a_generator_are_refused(run):
    file = run / "generator.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(RequestError, match="is damaged: its weights are not those that were saved"):
        ganframe.load_generator(run)


def test_a_damaged_line_of_metrics_costs_that_line_alone_and_is_told(run, capsys):
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], lines[1][:30] + "\n", lines[2], lines[2], *lines[3:]]))
    ganframe.resume(run, ["train.steps=6"])
    assert [r["step"] for r in map(json.loads, file.read_text().splitlines())] == [1, 3, 4, 5, 6]
    said = capsys.readouterr().err
    assert f"{file}: line 2 is damaged, and is left out" in said
    assert f"{file}: line 4 is damaged, and is left out" in said


@pytest.mark.parametrize("key", ["seconds", "loss_generator", "step"])
@pytest.mark.parametrize("value", ['"x"', "[1]", "NaN", "1e999", "true", "{}", "1" + "0" * 400])
def test_a_line_of_metrics_that_holds_no_numbers_is_left_out(run, key, value):
    folder = RunFolder(run)
    *_, last = runfolder.read_metrics(folder)
    text = ", ".join(f'"{k}": {value if k == key else json.dumps(v)}' for k, v in {**last, "step": 9}.items())
    with folder.metrics.open("a") as file:
        file.write(f"{{{text}}}\n")
    assert [r["step"] for r in runfolder.read_metrics(folder)] == [1, 2, 3, 4]


def test_checkpoints_that_changed_places_are_told_by_their_step(run):
    checkpoints = run / "checkpoints"
    shutil.rmtree(checkpoints / "step-000004")
    (checkpoints / "step-000002").rename(checkpoints / "step-000004")
    with pytest.raises(RequestError, match=r"step-000004: it is of step 2\n.*no checkpoint is whole"):
        ganframe.resume(run, ["train.steps=6"])


def test_a_checkpoint_that_names_no_files_is_not_whole(run, capsys):
    file = run / "checkpoints" / "step-000004" / "checkpoint.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "files": {}}))
    ganframe.resume(run, ["train.steps=6"])
    said = capsys.readouterr().err
    assert "step-000004: checkpoint.json does not name training.pt\n" in said
    assert f"going on from {run}/checkpoints/step-000002\n" in said


def test_a_file_in_the_place_of_a_checkpoint_does_not_keep_it_from_being_written(run):
    (run / "checkpoints" / "step-000006").write_text("no folder")
    ganframe.resume(run, ["train.steps=6"])
    assert runfolder.newest_checkpoint(RunFolder(run))[0].name == "step-000006"
    assert (run / "checkpoints" / "damaged-step-000006").read_text() == "no folder"


@pytest.mark.parametrize("name", ["samples", "checkpoints", "environment.json", ".lock", "metrics.jsonl"])
def test_a_file_for_a_folder_and_a_folder_for_a_file_are_one_message(run, name):
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("no folder")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
        (path / "inside").touch()
    result = CliRunner().invoke(main, ["run", "--resume", str(run), "--set", "train.steps=6"])
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert str(run) in result.stderr.splitlines()[-1]
