"""sample, interpolate and arithmetic under conditions: files that are read, and requests that are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganframe
from ganframe import DataSpec, RequestError
from ganframe.analysis.arithmetic import decode_result
from ganframe.analysis.conditions import read_conditions


@pytest.fixture
def images(conditional, call):
    call("run", conditional("images"), "--out", "images")
    return "images"


@pytest.fixture
def vectors(conditional, call):
    call("run", conditional("vectors"), "--out", "vectors")
    return "vectors"


def grey(file, value, size=(8, 8), mode="L"):
    Image.new(mode, size, value if mode == "L" else (value,) * len(mode)).save(file)
    return file


def sampled(call, run, *arguments, n=6):
    call("sample", run, "-n", n, "--out", "x.npy", *arguments)
    return torch.from_numpy(np.load("x.npy"))


def test_sample_takes_a_picture_an_array_or_a_folder(call, images):
    G = ganframe.load_generator(images)
    white = G.sample(6, y=torch.ones(1, 8, 8))
    Path("folder").mkdir()
    grey("folder/a.png", 255)
    grey("folder/b.png", 0)
    np.save("one.npy", np.full((1, 8, 8), 255, dtype=np.uint8))
    np.save("floats.npy", np.ones((1, 1, 8, 8)))
    np.save("nan.npy", np.full((1, 8, 8), np.nan))
    refusal = call("sample", images, "--condition", "nan.npy", code=2).output
    assert "it holds values that are not finite" in refusal
    for file in (grey("white.png", 255), grey("colour.png", 255, mode="RGB"), "one.npy", "floats.npy"):
        assert torch.equal(sampled(call, images, "--condition", file), white), file
    turns = sampled(call, images, "--condition", "folder")
    assert torch.equal(turns[::2], white[::2])
    assert torch.equal(turns[1::2], G.sample(6, y=-torch.ones(1, 8, 8))[1::2])
    assert torch.equal(sampled(call, images), G.sample(6))


GREY = DataSpec((3, 8, 8), condition=(1, 8, 8))


def test_picture_of_16_bits_keeps_its_levels(tmp_path):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) + 25_700
    Image.fromarray(values).save(tmp_path / "deep.png")
    y = read_conditions(tmp_path / "deep.png", GREY)
    torch.testing.assert_close((y[0, 0] + 1) / 2 * 65535, torch.from_numpy(values).float(), atol=0.01, rtol=0)


def test_condition_is_upright_and_on_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4, :, 3] = 255  # black above, transparent below
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    y = read_conditions(tmp_path / "a.png", GREY)
    assert (y[0, 0, :4] == 1).all()
    assert (y[0, 0, 4:] == -1).all()


def test_images_of_any_kind_and_arrays_in_a_folder_are_conditions(tmp_path, capsys):
    for index, name in enumerate(("0.PNG", "1.gif", "2.jfif", "3")):
        Image.new("L", (8, 8), 255 * (index % 2)).save(tmp_path / name, "PNG")
    (tmp_path / "._0.png").write_bytes(b"")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    y = read_conditions(tmp_path, GREY)
    assert y[:, 0, 0, 0].tolist() == [-1, 1, -1, 1]
    assert read_conditions(tmp_path / "3", GREY).shape == (1, 1, 8, 8)
    assert capsys.readouterr().err == ""
    (tmp_path / "notes.txt").write_text("text")
    read_conditions(tmp_path, GREY)
    assert "not read: 1 of its files, which are no images (.txt)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.npy", "b.npy"])
def test_a_folder_of_arrays_is_read(tmp_path, name):
    np.save(tmp_path / name, np.full((1, 8, 8), 0.5))
    assert (read_conditions(tmp_path, GREY) == 0.5).all()


SCALES = {
    "images of 8 bits": (torch.tensor([0.0, 128, 255]) / 127.5 - 1, True),
    "bright images of 8 bits": (torch.tensor([200.0, 255]) / 127.5 - 1, True),
    "floats of images": (torch.tensor([-0.9131, 0.3]), True),
    "floats from 0 to 1": (torch.tensor([0.0, 0.3, 1.0]), False),
    "floats from 0 to 255": (torch.tensor([0.0, 255.0]), False),
    "heights": (torch.tensor([-20.0, 8000.0]), False),
}


@pytest.mark.parametrize("kind", SCALES)
def test_an_image_is_refused_where_the_conditions_of_the_run_have_another_scale(tmp_path, kind):
    values, right = SCALES[kind]
    kept = values.view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    file = grey(tmp_path / "a.png", 255)
    if right:
        assert (read_conditions(file, GREY, kept) == 1).all()
        return
    with pytest.raises(RequestError, match=r"the conditions of the run lie between .* give a \.npy on that scale"):
        read_conditions(file, GREY, kept)


def test_sample_takes_vectors_from_an_array(call, vectors):
    y = torch.randn(2, 3)
    np.save("y.npy", y.numpy())
    got = sampled(call, vectors, "--condition", "y.npy")
    assert torch.equal(got, ganframe.load_generator(vectors).sample(6, y=y.repeat(3, 1)))
    call("sample", vectors, "--condition", "y.npy")
    assert Path("vectors/samples/seed-0-condition-y.png").exists()


def test_picture_of_samples_shows_condition_and_sample_side_by_side(call, images):
    call("sample", images, "-n", 2, "--condition", grey("white.png", 255), "--out", "x.png")
    pixels = np.asarray(Image.open("x.png").convert("RGB"))
    assert pixels.shape == (102, 102, 3)  # two rows of a condition and its sample
    for row in (2, 52):
        assert (pixels[row : row + 48, 2:50] == 255).all()
        assert not (pixels[row : row + 48, 52:100] == 255).all()


def test_sampling_needs_no_dataset(call, images, monkeypatch):
    expected = sampled(call, images)
    monkeypatch.setenv("GANFRAME_BLOCK", "paired")
    call("sample", images, "-n", 6, "--out", "y.npy")
    assert torch.equal(torch.from_numpy(np.load("y.npy")), expected)


@pytest.mark.parametrize("given", [False, True])
def test_interpolate_and_arithmetic_have_one_condition(call, images, given):
    G = ganframe.load_generator(images)
    arguments = ["--condition", grey("white.png", 255)] if given else []
    one = G.with_conditions(torch.ones(1, 1, 8, 8) if given else G.conditions[:1])
    z = G.latents(64)[0]
    call("interpolate", images, "--between", 2, 5, "--steps", 3, "--out", "path.npy", *arguments)
    path = torch.from_numpy(np.load("path.npy"))
    torch.testing.assert_close(path[0, [0, 2]], one.decode(z[[2, 5]], one.conditions.expand(2, -1, -1, -1)))
    call("arithmetic", images, "3 - 4 + 5", "--out", "sum.npy", *arguments)
    wanted = one.decode((z[3] - z[4] + z[5])[None], one.conditions)[0]
    torch.testing.assert_close(torch.from_numpy(np.load("sum.npy")), wanted)
    call("arithmetic", images, "3 - 4 + 5", *arguments)
    if not given:
        found = ganframe.arithmetic(images, "3 - 4 + 5")
        torch.testing.assert_close(decode_result(G, found)[0], wanted)


def test_check_names_the_shape_of_conditions(call, conditional):
    assert "shape (3, 8, 8), conditions of shape (1, 8, 8)" in call("check", conditional()).stdout


REFUSED = [
    (["--condition", "large.png"], "--condition large.png: has 9×8 pixels, and the run's have 8×8"),
    (
        ["--condition", "large.npy"],
        "--condition large.npy: conditions have shape (1, 8, 9); the data's spec says (1, 8, 8)",
    ),
    (["--condition", "whole.npy"], "--condition whole.npy: conditions are int64; make them floats, or uint8"),
    (["--condition", "empty.npy"], "--condition empty.npy: it is empty"),
    (["--condition", "text.npy"], "--condition text.npy: "),
    (["--condition", "text.png"], "--condition text.png: cannot be read as an image: "),
    (["--condition", "none.png"], "--condition none.png: cannot be read as an image: No such file or directory"),
    (["--condition", "empty"], "--condition empty: the folder has no images"),
    (
        ["--condition", "text.txt"],
        "--condition text.txt: it must be an image (.png, .jpg), an array (.npy) or a folder",
    ),
    (["--label", "1"], "y = 1: the data has conditions of shape (1, 8, 8), and no classes"),
    (["--label", "1", "--condition", "large.png"], "--label and --condition: give one of them"),
]


@pytest.mark.parametrize("command", [["sample"], ["interpolate"], ["arithmetic", "1 + 2"]], ids=lambda c: c[0])
def test_wrong_conditions_are_refused_in_one_line(call, images, command):
    grey("large.png", 0, size=(9, 8))
    np.save("large.npy", np.zeros((1, 8, 9)))
    np.save("whole.npy", np.zeros((1, 8, 8), dtype=np.int64))
    np.save("empty.npy", np.zeros((0, 1, 8, 8)))
    Path("empty").mkdir()
    for name in ("text.npy", "text.png", "text.txt"):
        Path(name).write_text("text")
    for arguments, message in REFUSED:
        result = call(command[0], images, *command[1:], *arguments, "--out", "x.npy", code=2)
        assert result.stderr.startswith(message), (arguments, result.stderr)
        assert len(result.stderr.splitlines()) == 1
    assert not Path("x.npy").exists()


def test_a_condition_for_a_generator_without_is_refused(call, finished, vectors):
    result = call("sample", finished, "--condition", grey("white.png", 255), "--out", "x.npy", code=2)
    assert result.stderr == "--condition white.png: this generator takes no conditions\n"
    result = call("sample", vectors, "--condition", "white.png", "--out", "x.npy", code=2)
    assert result.stderr == "--condition white.png: conditions of shape (3,) are no images; give a .npy\n"
