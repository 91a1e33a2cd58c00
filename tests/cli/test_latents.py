from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganframe


def test_sample_writes_the_same_array_for_the_same_seed(call, finished):
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


def test_sample_writes_a_picture(call, finished):
    call("sample", finished, "-n", 50, "--out", "x.png")
    call("sample", finished, "-n", 50, "--out", "again.png")
    call("sample", finished, "-n", 50, "--out", "other.png", "--seed", 1)
    with Image.open("x.png") as picture:
        assert min(picture.size) > 100
    assert Path("x.png").read_bytes() == Path("again.png").read_bytes()
    assert Path("x.png").read_bytes() != Path("other.png").read_bytes()


def test_sample_writes_into_the_run_by_default(call, tiny):
    call("run", tiny(), "--out", "run", "--set", "train.steps=1")
    result = call("sample", "run", "--seed", 9)
    assert result.stdout == "64 samples: run/samples/seed-9.png\n"
    assert Path("run/samples/seed-9.png").exists()


def test_sample_in_bf16_is_named_and_near(call, tiny):
    call("run", tiny(), "--out", "run", "--set", "train.steps=1")
    result = call("sample", "run", "--precision", "bf16")
    assert result.stdout == "64 samples: run/samples/seed-0-precision-bf16.png\n"
    call("sample", "run", "--precision", "bf16", "--out", "half.npy")
    call("sample", "run", "--out", "plain.npy")
    half, plain = np.load("half.npy"), np.load("plain.npy")
    assert half.dtype == np.float32
    assert (half != plain).any()
    np.testing.assert_allclose(half, plain, atol=0.05, rtol=0.05)


@pytest.fixture
def three(call, tiny):
    """three(*changes): a run with the checkpoints of steps 2, 4 and 6."""

    def run(*changes):
        settings = [word for change in ("log.checkpoint_every=2", *changes) for word in ("--set", change)]
        call("run", tiny(), "--out", "three", *settings)
        return Path("three")

    return run


@pytest.mark.parametrize("changes", [(), ("train.ema=0.5",)], ids=["plain", "average"])
def test_samples_of_an_earlier_step_are_those_of_a_run_that_ended_there(call, three, changes):
    """The moving average if there is one. Without a step it is the newest checkpoint."""
    run = three(*changes)
    settings = [word for change in changes for word in ("--set", change)]
    call("run", "tiny.toml", "--out", "two", "--set", "train.steps=2", *settings)
    for name, arguments in {"newest": ["three"], "six": ["three", "--step", 6], "two": ["two"]}.items():
        call("sample", *arguments, "--out", f"{name}.npy")
    assert call("sample", run, "--step", 2, "--out", "of two.npy").stdout == "64 samples: of two.npy\n"
    newest, six, two, of_two = (np.load(f"{name}.npy") for name in ("newest", "six", "two", "of two"))
    assert (newest == six).all()
    assert (two == of_two).all()
    assert (newest != two).any()
    G = ganframe.load_generator(run, step=2)
    assert torch.equal(G.sample(64), torch.from_numpy(two))
    assert not G.training


def test_paths_and_sums_of_an_earlier_step(call, three):
    run = three()
    for step in (2, 6):
        call("interpolate", run, "--between", 0, 1, "--step", step, "--out", f"path-{step}.npy")
        call("arithmetic", run, "0+1", "--step", step, "--out", f"sum-{step}.npy")
    for name in ("path", "sum"):
        assert (np.load(f"{name}-2.npy") != np.load(f"{name}-6.npy")).any()
    assert len(ganframe.arithmetic(run, "0+1", step=2).groups) == 2


def test_pictures_of_an_earlier_step_have_it_in_their_names(call, three):
    assert call("sample", three(), "--step", 4).stdout == "64 samples: three/samples/seed-0-step-4.png\n"


@pytest.mark.parametrize("command", [["sample"], ["interpolate"], ["arithmetic", "0+1"]])
def test_step_without_a_checkpoint_is_refused_with_those_there_are(call, three, command):
    run, (name, *more) = three("log.keep=2"), command
    line = "three: no checkpoint of step 2; there are those of 4, 6 (log.keep says how many stay)\n"
    assert call(name, run, *more, "--step", 2, code=2).stderr == line
    with pytest.raises(ganframe.RequestError, match="no checkpoint of step 3; there are those of 4, 6"):
        ganframe.load_generator(run, step=3)


def test_damaged_checkpoint_of_a_step_is_refused(call, three):
    run = three()
    with (run / "checkpoints/step-000004/generator.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    line = "three/checkpoints/step-000004: generator.safetensors is not what was written\n"
    assert call("sample", run, "--step", 4, code=2).stderr == line


def test_one_step_of_a_path_and_one_sample_are_counted_in_the_singular(call, finished):
    assert call("sample", finished, "-n", 1, "--out", "x.npy").stdout == "1 sample: x.npy\n"
    arguments = ["--between", 0, 1, "--steps", 2, "--out", "y.npy"]
    assert call("interpolate", finished, *arguments).stdout == "1 path of 2 samples: y.npy\n"


def test_folder_gets_a_file_of_each_sample(call, tiny):
    images = ["dataset={use='digits'}", "generator={use='mlp', hidden=[4], condition='concat'}", "train.steps=1"]
    settings = [word for change in [*images, "discriminator.condition='concat'"] for word in ("--set", change)]
    call("run", tiny(), "--out", "run", *settings)
    Path("there").mkdir()
    for out, shown in (("new/each/", "new/each"), ("there", "there")):
        result = call("sample", "run", "-n", 300, "--out", out)
        assert result.stdout == f"300 samples: {shown}/\n"
        assert sorted(p.name for p in Path(out).iterdir()) == [f"{i:03}.png" for i in range(300)]
    samples = ganframe.load_generator("run").sample(300)
    for place in (0, 299):
        with Image.open(f"there/{place:03}.png") as image:
            assert image.mode == "L"
            assert np.abs(np.asarray(image) / 127.5 - 1 - samples[place, 0].numpy()).max() <= 0.51 / 127.5
    call("sample", "run", "-n", 2, "--label", 3, "--out", "three/")
    assert sorted(p.name for p in Path("three").iterdir()) == ["000-label-3.png", "001-label-3.png"]


def test_folder_gets_an_array_of_each_sample_that_is_no_image(call, finished):
    call("sample", finished, "-n", 2, "--out", "points/")
    assert sorted(p.name for p in Path("points").iterdir()) == ["000.npy", "001.npy"]
    second = ganframe.load_generator(finished).sample(2)[1]
    assert torch.equal(torch.from_numpy(np.load("points/001.npy")), second)


def test_folder_that_is_not_empty_is_refused(call, finished, files):
    """A smaller number of samples would leave some of an earlier call beside the new ones."""
    Path("mine").mkdir()
    Path("mine/000.npy").write_text("a sample of yesterday")
    for out in ("mine", "mine/"):
        assert call("sample", finished, "--out", out, code=2).stderr.startswith(f"--out {out}: the folder is not empty")
    assert files(Path("mine")) == {"000.npy": b"a sample of yesterday"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--out", "x.jpg"], "--out x.jpg: the name must end in .png or .npy"),
        (["RUN", "--out", "x"], "--out x: the name must end in .png or .npy"),
        (["RUN", "--out", "x.npy", "--label", "8"], "y = 8: the data has classes 0 to 7"),
        (["RUN", "--out", "x.npy", "--label", "-1"], "y = -1: the data has classes 0 to 7"),
        (["none", "--out", "x.npy"], "none: not the folder of a run"),
        (["file", "--out", "x.npy"], "file: not the folder of a run"),
        (["RUN", "--out", "file/x.npy"], "[Errno"),
    ],
)
def test_sample_refuses_wrong_requests(call, finished, arguments, message):
    Path("file").write_text("")
    result = call("sample", *(str(finished) if a == "RUN" else a for a in arguments), code=2)
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1
    assert sorted(p.name for p in Path().iterdir()) == ["file"]


def test_sample_refuses_a_label_of_data_without_classes(call, tiny):
    call("run", tiny(), "--out", "run", "--set", "dataset={use='swiss_roll'}", "--set", "train.steps=1")
    assert call("sample", "run", "--label", 0, code=2).stderr == "y = 0: the data has no classes\n"
    call("sample", "run")


def test_sample_needs_the_generator_file_of_the_run(call, tiny):
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


def test_sample_needs_neither_the_data_nor_its_plugin(call, install, tiny):
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
