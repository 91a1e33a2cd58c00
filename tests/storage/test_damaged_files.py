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
from ganframe import DataSpec, RequestError, RunError
from ganframe.cli import main
from ganframe.storage import checkpoints, weights
from ganframe.storage.run_folder import RunFolder

STRESS = Path(__file__).parents[1] / "measure" / "stress.py"
DAMAGE = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut in half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "last byte missing": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "garbage": lambda file: file.write_bytes(b"garbage" * 100),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of four steps with checkpoints at 2 and 4."""
    where = tmp_path_factory.mktemp("finished")
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
def run(finished, tmp_path):
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "finished"))


@pytest.mark.slow
def test_sixty_damaged_files_give_a_message_or_a_right_result(tmp_path):
    """The short form of `python tests/measure/stress.py --mutations 400`."""
    spec = importlib.util.spec_from_file_location("stress", STRESS)
    stress = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stress)
    _, faults = stress.mutations(60, 7, tmp_path)
    assert faults == []


# -------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["generator.safetensors", "training.pt"])
def test_damaged_checkpoint_is_refused_in_one_line_that_names_the_file(folder, network, name, damage):
    training = {"step": 3, "rng": torch.get_rng_state()}
    checkpoints.save_checkpoint(folder, 3, {"generator": network()}, training, keep=3)
    DAMAGE[damage](folder.checkpoint(3) / name)
    with pytest.raises(RequestError, match=name) as caught:
        checkpoints.load_checkpoint(folder.checkpoint(3), {"generator": network(1)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["generator.safetensors", "training.pt"])
def test_checkpoint_with_one_flipped_bit_is_skipped_though_it_could_be_loaded(folder, network, name):
    for step in (3, 4):
        training = {"step": step, "noise": torch.randn(1000)}
        checkpoints.save_checkpoint(folder, step, {"generator": network()}, training, keep=3)
    file = folder.checkpoint(4) / name
    data = bytearray(file.read_bytes())
    data[-5 if name == "generator.safetensors" else data.index(training["noise"].numpy().tobytes()) + 7] ^= 1
    file.write_bytes(data)
    if name == "generator.safetensors":  # only the checksum shows it; a zip archive has checksums of its own
        checkpoints.load_checkpoint(folder.checkpoint(4), {"generator": network(1)})
    newest, damages = checkpoints.newest_intact(folder)
    assert newest == folder.checkpoint(3)
    assert damages == [f"{folder.checkpoint(4)}: {name} is not what was written"]


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "missing"])
def test_damaged_generator_is_refused(folder, network, damage):
    weights.save_generator(folder.generator, network(), DataSpec((2,)))
    DAMAGE[damage](folder.generator)
    with pytest.raises(RequestError, match=r"generator\.safetensors"):
        weights.generator_spec(folder.generator)


def test_generator_with_a_flipped_bit_is_refused(run):
    file = run / "generator.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(RequestError, match="is damaged: its weights are not those that were saved"):
        ganframe.load_generator(run)


def test_resume_leaves_out_damaged_lines_of_the_log_and_reports_them(run, capsys):
    file = run / "log.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], lines[1][:30] + "\n", lines[2], lines[2], *lines[3:]]))
    ganframe.resume(run, ["train.steps=6"])
    assert [r["step"] for r in map(json.loads, file.read_text().splitlines())] == [1, 3, 4, 5, 6]
    said = capsys.readouterr().err
    assert f"{file}: line 2 is damaged and is left out" in said
    assert f"{file}: line 4 is damaged and is left out" in said


def test_checkpoint_under_the_name_of_another_step_is_damaged(run):
    saved = run / "checkpoints"
    shutil.rmtree(saved / "step-000004")
    (saved / "step-000002").rename(saved / "step-000004")
    with pytest.raises(RequestError, match=r"step-000004: it is of step 2\n.*no checkpoint is intact"):
        ganframe.resume(run, ["train.steps=6"])


def test_checkpoint_whose_manifest_names_no_files_is_damaged(run, capsys):
    file = run / "checkpoints" / "step-000004" / "checkpoint.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "files": {}}))
    ganframe.resume(run, ["train.steps=6"])
    said = capsys.readouterr().err
    assert "step-000004: checkpoint.json does not name training.pt\n" in said
    assert f"resuming from {run}/checkpoints/step-000002\n" in said


def test_file_with_the_name_of_a_checkpoint_is_set_aside(run):
    (run / "checkpoints" / "step-000006").write_text("no folder")
    ganframe.resume(run, ["train.steps=6"])
    assert checkpoints.newest_intact(RunFolder(run))[0].name == "step-000006"
    assert (run / "checkpoints" / "damaged-step-000006").read_text() == "no folder"


@pytest.mark.parametrize("name", ["samples", "checkpoints", "environment.json", ".lock", "log.jsonl"])
def test_file_in_place_of_a_folder_or_the_reverse_is_one_message(run, name):
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


# --------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize(
    "place", [".lock", ".log.jsonl.partial", ".recipe.toml.partial", ".generator.safetensors.partial"]
)
def test_link_out_of_the_folder_is_not_written_through(run, tmp_path, place):
    outside = tmp_path / "kept"
    outside.write_text("years of work")
    (run / place).unlink(missing_ok=True)
    (run / place).symlink_to(outside)
    try:
        ganframe.resume(run, ["train.steps=6"])
    except (RequestError, RunError) as error:
        assert "\n" not in str(error)  # noqa: PT017
    assert outside.read_text() == "years of work"


# -------------------------------------------------------------------------------------------------------------- poison

PLACES = [
    "recipe.toml",
    "environment.json",
    "log.jsonl",
    "generator.safetensors",
    ".lock",
    ".log.jsonl.partial",
    "samples/step-000004.png",
    "samples/seed-0.png",
    "checkpoints/step-000004/checkpoint.json",
    "checkpoints/step-000004/generator.safetensors",
    "checkpoints/step-000004/discriminator.safetensors",
    "checkpoints/step-000004/training.pt",
    "checkpoints/step-000004/extra.pkl",
]


def sign(checkpoint):
    """Writes the checksums of a checkpoint's files into it, so that a file which was put there is read."""
    file = checkpoint / "checkpoint.json"
    try:
        manifest = json.loads(file.read_text())
    except ValueError:
        return
    found = [p for p in checkpoint.iterdir() if p != file]
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in found}
    file.write_text(json.dumps({**manifest, "files": sums}))


def test_the_exploit_of_these_tests_works(poisoned, executed):
    torch.load(io.BytesIO(poisoned("torch")), weights_only=False)
    assert executed.exists()
    executed.unlink()
    pickle.loads(poisoned("pickle"))
    assert executed.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["torch", "legacy torch", "pickle", "zip"])
@pytest.mark.parametrize("name", ["training.pt", "generator.safetensors"])
def test_file_with_code_is_refused_and_not_executed(folder, network, poisoned, executed, name, form):
    checkpoints.save_checkpoint(folder, 1, {"generator": network()}, {}, keep=1)
    (folder.checkpoint(1) / name).write_bytes(poisoned(form))
    with pytest.raises(RequestError, match=name):
        checkpoints.load_checkpoint(folder.checkpoint(1), {"generator": network()})
    folder.generator.write_bytes(poisoned(form))
    with pytest.raises(RequestError, match="not a generator's weights"):
        weights.generator_spec(folder.generator)
    with pytest.raises(RequestError, match="cannot be loaded"):
        weights.load_weights(folder.generator, network())
    assert not executed.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("place", PLACES)
def test_pickle_anywhere_in_a_run_folder_is_not_executed(run, tmp_path, poisoned, executed, place):
    for form in ("torch", "pickle"):
        file = run / place
        file.unlink(missing_ok=True)
        file.write_bytes(poisoned(form))
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
