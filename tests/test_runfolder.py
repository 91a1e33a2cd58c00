"""Run folders: numbers, refusals, checkpoints that are whole or not there, and files that are data and never code."""

import io
import json
import pickle
import zipfile

import pytest
import torch
from torch import nn

from ganframe import DataSpec, RequestError, runfolder
from ganframe.runfolder import RunFolder


@pytest.fixture
def folder(tmp_path):
    return runfolder.create("name", tmp_path / "run")


def network(seed=0, features=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, features), nn.BatchNorm1d(features), nn.Linear(features, 1))


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------------------------- folders


def test_runs_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [runfolder.create("ring", None).path for _ in range(3)]
    assert [str(path) for path in made] == ["runs/ring/1", "runs/ring/2", "runs/ring/3"]
    assert str(runfolder.create("other", None).path) == "runs/other/1"
    assert all((path / "samples").is_dir() and (path / "checkpoints").is_dir() for path in made)


def test_numbers_go_on_after_the_highest_and_past_what_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("7", "best", "9x"):
        (tmp_path / "runs" / "ring" / name).mkdir(parents=True)
    assert runfolder.create("ring", None).path.name == "8"
    (tmp_path / "runs" / "ring" / "9").write_text("a file")
    assert runfolder.create("ring", None).path.name == "10"


def test_out_is_taken_where_it_is_new_or_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "deep" / "new", str(tmp_path / "text")):
        assert str(runfolder.create("name", out).path) == str(out)


def test_out_that_holds_something_is_refused_with_the_remedies(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("no folder")
    for out in (tmp_path / "full", tmp_path / "file"):
        with pytest.raises(RequestError, match=r"is not empty; choose another --out, or .* --resume"):
            runfolder.create("name", out)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RequestError, match="the run folder cannot be made"):
        runfolder.create("name", tmp_path / "file" / "run")


def test_a_run_is_known_by_its_recipe(tmp_path):
    with pytest.raises(RequestError, match="no run there"):
        runfolder.existing(tmp_path)
    (tmp_path / "recipe.toml").write_text("")
    assert runfolder.existing(str(tmp_path)).path == tmp_path


def test_files_lie_where_the_design_says(tmp_path):
    folder = RunFolder(tmp_path)
    paths = (folder.recipe, folder.environment, folder.metrics, folder.generator, folder.samples(500))
    assert [str(path.relative_to(tmp_path)) for path in (*paths, folder.checkpoint(500))] == [
        "recipe.toml",
        "environment.json",
        "metrics.jsonl",
        "generator.safetensors",
        "samples/step-000500.png",
        "checkpoints/step-000500",
    ]


# --------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_brings_everything_back(folder):
    G, D = network(0), network(1)
    G(torch.randn(8, 2))  # moves the running statistics
    training = {"step": 5, "rng": [{"cpu": torch.get_rng_state()}], "optimizer": {"lr": 0.1, "betas": (0.0, 0.9)}}
    runfolder.save_checkpoint(folder, 5, {"generator": G, "discriminator": D}, training, keep=3)
    other = {"generator": network(2), "discriminator": network(3)}
    restored = runfolder.load_checkpoint(folder.checkpoint(5), other)
    assert equal(weights(other["generator"]), weights(G))
    assert equal(weights(other["discriminator"]), weights(D))
    assert restored["step"] == 5
    assert restored["optimizer"] == training["optimizer"]
    assert torch.equal(restored["rng"][0]["cpu"], training["rng"][0]["cpu"])


def test_weights_with_channels_last_are_stored(folder):
    conv = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    runfolder.save_checkpoint(folder, 1, {"generator": conv}, {}, keep=1)
    other = nn.Conv2d(2, 3, 3)
    runfolder.load_checkpoint(folder.checkpoint(1), {"generator": other})
    assert torch.equal(conv.weight, other.weight)


def test_the_newest_checkpoints_are_kept_by_number(folder):
    for step in (1, 999_999, 9, 1_000_000, 10):
        runfolder.save_checkpoint(folder, step, {"generator": network()}, {"step": step}, keep=3)
    assert [path.name for path in folder.checkpoints()] == ["step-000010", "step-999999", "step-1000000"]
    runfolder.save_checkpoint(folder, 2_000_000, {"generator": network()}, {}, keep=1)
    assert [path.name for path in folder.checkpoints()] == ["step-2000000"]
    assert len(list((folder.path / "checkpoints").iterdir())) == 1


def test_a_step_saved_twice_is_left_as_it_stands(folder):
    """The same step has the same state; replacing it would leave a moment with neither."""
    for seed in (0, 1):
        runfolder.save_checkpoint(folder, 4, {"generator": network(seed)}, {"seed": seed}, keep=2)
    restored = network(2)
    assert runfolder.load_checkpoint(folder.checkpoint(4), {"generator": restored}) == {"seed": 0}
    assert equal(weights(restored), weights(network(0)))


def test_what_a_crash_left_half_written_is_ignored(folder):
    runfolder.save_checkpoint(folder, 3, {"generator": network()}, {}, keep=3)
    partial = folder.path / "checkpoints" / ".step-000004.partial"
    partial.mkdir()
    (partial / "generator.safetensors").write_bytes(b"half")
    (folder.path / "checkpoints" / "step-000005").write_text("a file, not a folder")
    (folder.path / "checkpoints" / "step-copy").mkdir()
    assert [path.name for path in folder.checkpoints()] == ["step-000003"]
    runfolder.save_checkpoint(folder, 4, {"generator": network()}, {"step": 4}, keep=3)
    assert [path.name for path in folder.checkpoints()] == ["step-000003", "step-000004"]
    assert runfolder.load_checkpoint(folder.checkpoint(4), {"generator": network(1)}) == {"step": 4}
    assert not partial.exists()


def test_a_checkpoint_that_fails_to_be_written_leaves_the_older_one(folder):
    runfolder.save_checkpoint(folder, 3, {"generator": network()}, {"step": 3}, keep=1)
    with pytest.raises(Exception, match="pickle"):
        runfolder.save_checkpoint(folder, 4, {"generator": network()}, {"function": lambda: 0}, keep=1)
    assert [path.name for path in folder.checkpoints()] == ["step-000003"]
    assert runfolder.load_checkpoint(folder.checkpoint(3), {"generator": network()}) == {"step": 3}


DAMAGE = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut in half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "last byte gone": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "garbage": lambda file: file.write_bytes(b"garbage" * 100),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["generator.safetensors", "training.pt"])
def test_a_damaged_checkpoint_is_one_message_that_names_the_file(folder, name, damage):
    runfolder.save_checkpoint(folder, 3, {"generator": network()}, {"step": 3, "rng": torch.get_rng_state()}, keep=3)
    DAMAGE[damage](folder.checkpoint(3) / name)
    with pytest.raises(RequestError, match=name) as caught:
        runfolder.load_checkpoint(folder.checkpoint(3), {"generator": network(1)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["generator.safetensors", "training.pt"])
def test_a_checkpoint_with_one_bit_flipped_is_passed_by_though_it_could_be_loaded(folder, name):
    for step in (3, 4):
        training = {"step": step, "noise": torch.randn(1000)}
        runfolder.save_checkpoint(folder, step, {"generator": network()}, training, keep=3)
    file = folder.checkpoint(4) / name
    data = bytearray(file.read_bytes())
    data[-5 if name == "generator.safetensors" else data.index(training["noise"].numpy().tobytes()) + 7] ^= 1
    file.write_bytes(data)
    if name == "generator.safetensors":  # nothing but the sum knows: a zip archive has sums of its own
        runfolder.load_checkpoint(folder.checkpoint(4), {"generator": network(1)})
    newest, faults = runfolder.newest_checkpoint(folder)
    assert newest == folder.checkpoint(3)
    assert faults == [f"{folder.checkpoint(4)}: {name} is not what was written"]


def test_weights_of_another_network_are_refused(folder):
    runfolder.save_checkpoint(folder, 3, {"generator": network()}, {}, keep=3)
    for other in (network(features=4), nn.Linear(2, 3), nn.Sequential(network(), nn.Linear(1, 1))):
        with pytest.raises(RequestError, match=r"generator\.safetensors: cannot be loaded"):
            runfolder.load_checkpoint(folder.checkpoint(3), {"generator": other})


# -------------------------------------------------------------------------------------------------------- data, no code


class Exploit:
    """Unpickled, it writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (exec, (f"open({str(self.target)!r}, 'w').close()",))


def test_the_exploit_of_these_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Exploit(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def poisoned(target, form):
    buffer = io.BytesIO()
    if form == "torch":
        torch.save({"step": 1, "rng": Exploit(target)}, buffer)
    elif form == "legacy torch":
        torch.save({"step": 1, "rng": Exploit(target)}, buffer, _use_new_zipfile_serialization=False)
    elif form == "pickle":
        pickle.dump(Exploit(target), buffer)
    else:
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Exploit(target)))
            archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["torch", "legacy torch", "pickle", "zip"])
@pytest.mark.parametrize("name", ["training.pt", "generator.safetensors"])
def test_a_file_that_would_execute_code_is_refused_and_does_not(folder, tmp_path, name, form):
    runfolder.save_checkpoint(folder, 1, {"generator": network()}, {}, keep=1)
    executed = tmp_path / "executed"
    (folder.checkpoint(1) / name).write_bytes(poisoned(executed, form))
    with pytest.raises(RequestError, match=name):
        runfolder.load_checkpoint(folder.checkpoint(1), {"generator": network()})
    folder.generator.write_bytes(poisoned(executed, form))
    with pytest.raises(RequestError, match="not a generator's weights"):
        runfolder.generator_spec(folder.generator)
    with pytest.raises(RequestError, match="cannot be loaded"):
        runfolder.load_weights(folder.generator, network())
    assert not executed.exists()


# ----------------------------------------------------------------------------------------------------------- generator


@pytest.mark.parametrize("spec", [DataSpec((2,)), DataSpec((3, 32, 32), classes=10), DataSpec((1,), classes=1)])
def test_a_generators_file_knows_what_it_makes(folder, spec):
    runfolder.save_generator(folder.generator, network(), spec)
    assert runfolder.generator_spec(folder.generator) == spec
    other = network(1)
    runfolder.load_weights(folder.generator, other)
    assert equal(weights(other), weights(network()))
    assert [path.name for path in folder.path.iterdir() if path.is_file()] == ["generator.safetensors"]


def test_a_generator_that_was_not_saved_yet(folder):
    with pytest.raises(RequestError, match="the run has not saved a generator yet"):
        runfolder.generator_spec(folder.generator)


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "missing"])
def test_a_damaged_generator_is_refused(folder, damage):
    runfolder.save_generator(folder.generator, network(), DataSpec((2,)))
    DAMAGE[damage](folder.generator)
    with pytest.raises(RequestError, match=r"generator\.safetensors"):
        runfolder.generator_spec(folder.generator)


@pytest.mark.parametrize(
    "metadata", [None, {"shape": "[2]"}, {"shape": "2", "classes": "3"}, {"shape": "no", "classes": "3"}]
)
def test_weights_of_another_program_are_no_generators(folder, metadata):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, str(folder.generator), metadata)
    with pytest.raises(RequestError, match="not a generator's weights"):
        runfolder.generator_spec(folder.generator)


# ------------------------------------------------------------------------------------------------------------- metrics


def test_metrics_are_read_back_as_they_were_written(folder):
    records = [{"step": 1, "loss": 0.5, "seconds": 0.1}, {"step": 2, "loss": -3e-8, "seconds": 0.2}]
    assert runfolder.read_metrics(folder) == []
    runfolder.write_metrics(folder, records)
    assert runfolder.read_metrics(folder) == records
    assert [json.loads(line) for line in folder.metrics.read_text().splitlines()] == records
    runfolder.write_metrics(folder, records[:1])
    assert runfolder.read_metrics(folder) == records[:1]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', "{", '{"step": 3', "\x00\x00\x00"])
def test_a_torn_last_line_is_left_out(folder, torn):
    records = [{"step": 1, "loss": 0.5, "seconds": 0.1}, {"step": 2, "loss": 0.4, "seconds": 0.2}]
    runfolder.write_metrics(folder, records)
    with folder.metrics.open("a") as file:
        file.write(torn)
    assert runfolder.read_metrics(folder) == records


def test_a_text_that_fails_to_be_written_leaves_the_old_one(folder):
    runfolder.write_text(folder.recipe, "old")
    with pytest.raises(UnicodeEncodeError):
        runfolder.write_text(folder.recipe, "new \ud800")
    assert folder.recipe.read_text() == "old"
    runfolder.write_text(folder.recipe, "größer")
    assert folder.recipe.read_text(encoding="utf-8") == "größer"
