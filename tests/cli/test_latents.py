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
