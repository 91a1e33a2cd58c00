"""Images and samples to invert are read as in training, and refused where they are not of the generator's shape."""

import numpy as np
import pytest
import torch
from PIL import Image

from ganframe import DataSpec, RequestError
from ganframe.analysis.targets import read_targets

GREY, COLOUR, POINTS = DataSpec((1, 4, 6)), DataSpec((3, 4, 6)), DataSpec((2,))


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def signed(pixels):
    return torch.from_numpy(pixels.astype(np.float32)) / 127.5 - 1


def test_images_are_read_upright_on_white_and_in_the_channels_of_the_data():
    pixels = noise(4, 6)
    Image.fromarray(pixels).save("a.png")
    exif = Image.Exif()
    exif[274] = 6  # shown after a quarter turn to the right
    Image.fromarray(np.rot90(pixels)).save("turned.png", exif=exif)
    Image.fromarray(np.dstack([pixels, np.zeros_like(pixels)]), "LA").save("clear.png")
    x, names = read_targets(["a.png", "turned.png", "clear.png"], GREY)
    assert names == ["a.png", "turned.png", "clear.png"]
    torch.testing.assert_close(x[:, 0], torch.stack([signed(pixels)] * 2 + [torch.ones(4, 6)]))
    assert torch.equal(read_targets(["a.png"], COLOUR)[0], x[:1].expand(1, 3, 4, 6))


def test_folders_are_read_in_the_order_of_names_without_hidden_files(tmp_path, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, name in enumerate(("b.png", "a.jpg", ".hidden.png", "C.png")):
        Image.fromarray(np.full((4, 6), 40 * i, np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    Image.fromarray(np.full((4, 6), 250, np.uint8)).save("first.png")
    x, names = read_targets(["first.png", "folder"], GREY)
    assert names == ["first.png", "folder/C.png", "folder/a.jpg", "folder/b.png"]
    torch.testing.assert_close(x.mean((1, 2, 3)), torch.tensor([250.0, 120, 40, 0]) / 127.5 - 1, atol=0.02, rtol=0)
    assert "not read: 1 of its files" in capsys.readouterr().err


def test_arrays_are_one_sample_or_several_with_channels_first_last_or_none():
    pixels = noise(5, 3, 4, 6)
    for name, values in (("k", pixels), ("last", pixels.transpose(0, 2, 3, 1)), ("floats", pixels / 127.5 - 1)):
        np.save(f"{name}.npy", values)
        x, names = read_targets([f"{name}.npy"], COLOUR)
        torch.testing.assert_close(x, signed(pixels))
        assert names == [f"{name}.npy:{i}" for i in range(5)]
    np.save("one.npy", pixels[2])
    assert read_targets(["one.npy"], COLOUR)[1] == ["one.npy"]
    torch.testing.assert_close(read_targets(["one.npy"], COLOUR)[0], signed(pixels[2:3]))
    np.save("grey.npy", pixels[:, 0])
    torch.testing.assert_close(read_targets(["grey.npy"], GREY)[0], signed(pixels[:, :1]))
    np.save("points.npy", np.array([[9.0, -7.0]]))
    assert read_targets(["points.npy"], POINTS)[0].tolist() == [[9, -7]]


def test_a_folder_of_single_arrays_is_read(tmp_path):
    (tmp_path / "made").mkdir()
    for i in range(3):
        np.save(f"made/{i:03}.npy", np.array([i, -i], np.float32))
    assert read_targets(["made"], POINTS)[0].tolist() == [[0, 0], [1, -1], [2, -2]]


REFUSED = {
    "square.png": "square.png: has 5×5 pixels, and the run's images have 6×4",
    "other.npy": "other.npy: its samples have shape (5, 5)",
    "far.npy": "far.npy: images must have values in [-1, 1]",
    "whole.npy": "whole.npy: its values are int64: give floats, or uint8",
    "empty.npy": "empty.npy: it has no samples",
    "scalar.npy": "scalar.npy: ",
    "objects.npy": "objects.npy: ",
    "none.png": "none.png: there is no such file or folder",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(name):
    Image.fromarray(noise(5, 5)).save("square.png")
    np.save("other.npy", np.zeros((2, 5, 5)))
    np.save("far.npy", np.full((1, 1, 4, 6), 3.0))
    np.save("whole.npy", np.zeros((1, 1, 4, 6), np.int64))
    np.save("empty.npy", np.zeros((0, 1, 4, 6)))
    np.save("scalar.npy", np.float32(1))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(RequestError) as refused:
        read_targets([name], GREY)
    assert str(refused.value).startswith(REFUSED[name])
    assert len(str(refused.value).splitlines()) == 1


def test_nothing_to_read_is_refused():
    with pytest.raises(RequestError, match="nothing to invert"):
        read_targets([], GREY)
