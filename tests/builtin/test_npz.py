"""`npz`: arrays of numpy as a dataset."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import ganframe
from ganframe import testing
from ganframe.builtin.npz import Npz
from ganframe.errors import RecipeError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(256, size=(40, 8, 9, 3), dtype=np.uint8)
LABELS = RNG.integers(3, size=40)
POINTS = RNG.normal(size=(40, 2))


@pytest.fixture
def saved(tmp_path):
    """saved(compressed=False, **arrays): an .npz with these arrays."""

    def save(compressed=False, **arrays):
        file = tmp_path / "data.npz"
        (np.savez_compressed if compressed else np.savez)(file, **arrays)
        return str(file)

    return save


def items(dataset):
    data = dataset.build()
    pairs = [data[i] for i in range(len(data))]
    return torch.stack([x for x, _ in pairs]), torch.stack([torch.as_tensor(y) for _, y in pairs])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("memory", [2.0, 0.0])
@pytest.mark.parametrize("layout", ["nchw", "nhwc", "nhw"])
def test_values_are_those_of_the_arrays(saved, layout, memory, compressed):
    images = {"nchw": PIXELS.transpose(0, 3, 1, 2), "nhwc": PIXELS, "nhw": PIXELS[..., 0]}[layout]
    dataset = Npz(saved(compressed, x=images, y=LABELS), labels="y", memory=memory)
    expected = PIXELS.transpose(0, 3, 1, 2) if layout != "nhw" else PIXELS[:, None, :, :, 0]
    assert dataset.spec == ganframe.DataSpec(expected.shape[1:], 3)
    x, y = items(dataset)
    assert x.dtype == torch.uint8
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y, LABELS)
    assert isinstance(dataset.build(), TensorDataset) == (compressed or memory > 0)
    testing.check_dataset(dataset)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ">f4"])
@pytest.mark.parametrize("memory", [2.0, 0.0])
def test_points_of_any_float_type(tmp_path, dtype, memory):
    np.save(tmp_path / "points.npy", POINTS.astype(dtype))
    dataset = Npz(str(tmp_path / "points.npy"), memory=memory)
    assert dataset.spec == ganframe.DataSpec((2,))
    np.testing.assert_array_equal(items(dataset)[0], POINTS.astype(dtype).astype(np.float32))
    testing.check_dataset(dataset)


def test_arrays_in_fortran_order_and_numbers_without_a_second_axis(saved):
    file = saved(x=np.asfortranarray(POINTS), line=POINTS[:, 0])
    for memory in (2.0, 0.0):
        np.testing.assert_array_equal(items(Npz(file, memory=memory))[0], POINTS.astype(np.float32))
        line = Npz(file, x="line", memory=memory)
        assert line.spec.shape == (1,)
        np.testing.assert_array_equal(items(line)[0][:, 0], POINTS[:, 0].astype(np.float32))


def test_labels_may_be_texts_and_conditions_images(saved):
    names = np.array(["dog", "cat", "emu"])[LABELS]
    spec = Npz(saved(x=POINTS, kind=names), labels="kind").spec
    assert spec.class_names == ("cat", "dog", "emu")
    assert spec.classes == 3
    for memory in (2.0, 0.0):
        dataset = Npz(saved(x=PIXELS, grey=PIXELS[..., :1]), conditions="grey", memory=memory)
        assert dataset.spec == ganframe.DataSpec((3, 8, 9), condition=(1, 8, 9))
        np.testing.assert_array_equal(items(dataset)[1], PIXELS.transpose(0, 3, 1, 2)[:, :1])
        testing.check_dataset(dataset)
        vectors = Npz(saved(x=PIXELS, v=POINTS), conditions="v", layout="nhwc", memory=memory)
        assert vectors.spec == ganframe.DataSpec((3, 8, 9), condition=(2,))


def test_mapped_data_is_sent_to_workers_without_its_values(saved):
    large = np.zeros((2000, 8, 8, 3), np.uint8)
    data = Npz(saved(x=large), memory=0).build()
    data[0]
    assert len(pickle.dumps(data)) < large.nbytes / 10
    assert torch.equal(pickle.loads(pickle.dumps(data))[7][0], data[7][0])


def refused(dataset):
    """The message of a ValueError, of one line."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the caller looks at the message)
        dataset.spec, dataset.build()[0]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_refused_in_one_line(saved, tmp_path):
    assert "no array is called 'X' (x); there are 'x' (40, 2)" in refused(Npz(saved(x=POINTS), x="X"))
    assert "set x to the name" in refused(Npz(saved(a=POINTS, b=POINTS)))
    assert "no such file" in refused(Npz(str(tmp_path / "none.npz")))
    assert "39 labels for 40 samples" in refused(Npz(saved(x=POINTS, y=LABELS[1:]), labels="y"))
    assert "where are the channels" in refused(Npz(saved(x=np.zeros((9, 3, 8, 3), np.uint8))))
    assert "where are the channels" in refused(Npz(saved(x=np.zeros((9, 5, 8, 7), np.float32))))
    assert "holds int64" in refused(Npz(saved(x=np.zeros((9, 2), np.int64))))
    assert "holds Python's objects" in refused(Npz(saved(x=np.array([[1], [None]], dtype=object))))
    assert "take labels.argmax(1)" in refused(Npz(saved(x=POINTS, y=np.eye(3)[LABELS]), labels="y"))
    assert "labels are float64" in refused(Npz(saved(x=POINTS, y=LABELS + 0.5), labels="y"))
    assert "must count classes from 0" in refused(Npz(saved(x=POINTS, y=LABELS - 1), labels="y"))
    assert "is empty" in refused(Npz(saved(x=POINTS[:0])))
    assert "layout = nhwc does not fit" in refused(Npz(saved(x=POINTS), layout="nhwc"))
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    assert "cannot be read as arrays" in refused(Npz(str(tmp_path / "text.npz")))
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("a.txt", "a")
    assert "without arrays" in refused(Npz(str(tmp_path / "other.npz")))


def test_layout_none_keeps_four_axes_as_they_are(saved):
    dataset = Npz(saved(x=RNG.normal(size=(9, 3, 4, 3))), layout="none")
    assert dataset.spec == ganframe.DataSpec((3, 4, 3), is_image=False)
    testing.check_dataset(dataset)


def test_damaged_arrays_are_refused(saved, tmp_path):
    file = saved(x=POINTS)
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[content.index(POINTS[3].tobytes())] ^= 1
    (tmp_path / "data.npz").write_bytes(content)
    assert "Bad CRC-32" in refused(Npz(file))
    np.save(tmp_path / "short.npy", POINTS)
    whole = (tmp_path / "short.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-9])
    for memory in (2.0, 0.0):
        assert "is the file whole?" in refused(Npz(str(tmp_path / "short.npy"), memory=memory))


def test_images_of_floats_above_0_are_warned_about(saved, capsys):
    Npz(saved(x=RNG.random((9, 3, 8, 8)))).build()
    assert "2 * x - 1" in capsys.readouterr().err


def test_grey_images_saved_as_floats_are_warned_about(saved, capsys):
    pixels = RNG.integers(0, 256, (9, 8, 8)).astype(np.float32)
    Npz(saved(x=pixels)).build()
    assert "x.astype('uint8')" in capsys.readouterr().err
    Npz(saved(x=pixels / 255)).build()
    assert capsys.readouterr().err == ""


def test_folder_and_empty_file_in_the_place_of_arrays(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        Npz(str(tmp_path)).spec  # noqa: B018
    (tmp_path / "x.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        Npz(str(tmp_path / "x.npz")).spec  # noqa: B018


def test_fingerprint_tells_other_values(saved, tmp_path):
    first = Npz(saved(x=POINTS, y=LABELS), labels="y").fingerprint()
    assert Npz(saved(x=POINTS, y=LABELS), labels="y").fingerprint() == first
    assert Npz(saved(x=POINTS + 1, y=LABELS), labels="y").fingerprint() != first
    np.save(tmp_path / "a.npy", POINTS)
    alone = Npz(str(tmp_path / "a.npy")).fingerprint()
    np.save(tmp_path / "a.npy", POINTS + 1)
    assert Npz(str(tmp_path / "a.npy")).fingerprint() != alone


RECIPE = """
seed = 1
[dataset]
use = "npz"
file = "data.npz"
labels = "y"
memory = {memory}
[generator]
use = "mlp"
hidden = [8]
condition = "concat"
[discriminator]
use = "mlp"
hidden = [8]
condition = "concat"
[objective]
use = "non_saturating"
[train]
steps = 6
batch_size = 8
workers = {workers}
[log]
checkpoint_every = 3
"""


@pytest.mark.parametrize(("memory", "workers"), [(2.0, 0), (0.0, 0), (0.0, 2)])
def test_resumed_run_equals_the_uninterrupted_one(saved, tmp_path, monkeypatch, memory, workers):
    monkeypatch.chdir(tmp_path)
    saved(x=POINTS, y=LABELS)
    (tmp_path / "r.toml").write_text(RECIPE.format(memory=memory, workers=workers))
    ganframe.run(ganframe.load_recipe("r.toml"), "whole")
    ganframe.run(ganframe.load_recipe("r.toml", ["train.steps=3"]), "parts")
    ganframe.resume("parts", ["train.steps=6"])
    whole, parts = ((tmp_path / run / "generator.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts


def test_samples_that_are_not_numbers_end_in_one_line(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = POINTS.copy()
    points[5, 1] = np.nan
    saved(x=points, y=LABELS)
    for memory in (2.0, 0.0):
        (tmp_path / "r.toml").write_text(RECIPE.format(memory=memory, workers=0))
        with pytest.raises(RecipeError, match="item 5 has nan"):
            ganframe.run(ganframe.load_recipe("r.toml"), "nan")
