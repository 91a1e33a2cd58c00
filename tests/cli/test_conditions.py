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
    both = sampled(call, images, "--condition", "folder")  # six of each
    torch.testing.assert_close(both[:6], white)
    torch.testing.assert_close(both[6:], G.sample(6, y=-torch.ones(1, 8, 8)))
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
    assert torch.equal(got, ganframe.load_generator(vectors).translate(y, 6).flatten(0, 1))
    call("sample", vectors, "--condition", "y.npy")
    assert Path("vectors/samples/seed-0-condition-y.png").exists()


def test_picture_has_a_row_for_each_condition_with_its_samples(call, images):
    Path("two").mkdir()
    for name, value in (("a", 255), ("b", 0)):
        grey(f"two/{name}.png", value)
    call("sample", images, "-n", 3, "--condition", "two", "--out", "x.png")
    pixels = np.asarray(Image.open("x.png").convert("RGB"))
    assert pixels.shape == (2 * 130 + 2, 4 * 130 + 2, 3)  # images of 8 pixels sixteen times as large: 500 in all
    samples = ganframe.load_generator(images).translate(torch.tensor([1.0, -1]).view(2, 1, 1, 1).expand(2, 1, 8, 8), 3)
    for row, value in enumerate((255, 0)):
        top = 2 + 130 * row
        assert (pixels[top : top + 128, 2:130] == value).all()
        for column in range(1, 4):
            left = 2 + 130 * column
            drawn = pixels[top + 8 : top + 128 : 16, left + 8 : left + 128 : 16] / 127.5 - 1
            assert np.abs(drawn - samples[row, column - 1].permute(1, 2, 0).numpy()).max() < 0.01


@pytest.mark.parametrize(("files", "arguments", "n"), [(1, [], 8), (2, [], 1), (2, ["-n", 4], 4), (1, ["--tile"], 1)])
def test_number_of_samples_of_each_condition(call, images, files, arguments, n):
    Path("folder").mkdir()
    for name in "ab"[:files]:
        grey(f"folder/{name}.png", 0)
    result = call("sample", images, "--condition", "folder", "--out", "x.npy", *arguments)
    assert np.load("x.npy").shape == (files * n, 3, 8, 8)
    shown = {(1, 8): "8 samples", (1, 1): "1 sample"}.get((files, n), f"{2 * n} samples, {n} of each of 2 conditions")
    assert result.stdout == f"{shown}: x.npy\n"


def test_a_generator_without_z_makes_one_sample_by_default(call, images, monkeypatch):
    from ganframe.builtin import mlp

    monkeypatch.setattr(mlp._MLPGenerator, "ignores_latent", True, raising=False)
    assert call("sample", images, "--condition", grey("a.png", 0), "--out", "x.png").stdout == "1 sample: x.png\n"


def names(folder):
    return sorted(file.name for file in Path(folder).iterdir())


@pytest.mark.parametrize("out", ["made", "made.v1/", "there"])
def test_folder_gets_a_file_of_each_sample_named_after_its_condition(call, images, out):
    Path("there").mkdir()
    Path("photos").mkdir()
    for name in ("cat.png", "dog.jpg"):
        grey(f"photos/{name}", 255)
    result = call("sample", images, "--condition", "photos", "--out", out)
    assert result.stdout == f"2 samples, 1 of each of 2 conditions: {out.rstrip('/')}/\n"
    assert names(out) == ["cat.png", "dog.png"]
    call("sample", images, "--condition", "photos", "-n", 2, "--out", "two/")
    assert names("two") == ["cat-000.png", "cat-001.png", "dog-000.png", "dog-001.png"]
    drawn = np.asarray(Image.open("two/dog-001.png")) / 127.5 - 1
    sample = ganframe.load_generator(images).sample(2, y=torch.ones(1, 8, 8))[1]
    assert np.abs(drawn - sample.permute(1, 2, 0).numpy()).max() < 0.01


def test_files_of_conditions_with_equal_names_do_not_replace_each_other(call, images):
    Path("photos").mkdir()
    for name in ("a.png", "a.jpg", "b.png"):
        grey(f"photos/{name}", 255)
    call("sample", images, "--condition", "photos", "--out", "made")
    assert names("made") == ["a.jpg.png", "a.png.png", "b.png.png"]


def test_files_of_an_array_of_conditions_are_numbered(call, images, vectors):
    np.save("y.npy", np.zeros((2, 1, 8, 8)))
    call("sample", images, "--condition", "y.npy", "--out", "made")
    assert names("made") == ["y-000.png", "y-001.png"]
    np.save("v.npy", np.zeros((2, 3)))
    call("sample", vectors, "--condition", "v.npy", "-n", 2, "--out", "points")
    call("sample", vectors, "--condition", "v.npy", "-n", 2, "--out", "V.NPY")
    assert np.load("V.NPY").shape == (4, 2)
    assert names("points") == ["v-000-000.npy", "v-000-001.npy", "v-001-000.npy", "v-001-001.npy"]


def test_conditions_of_a_folder_have_a_picture_of_its_name(call, images):
    Path("photos.v2").mkdir()
    grey("photos.v2/a.png", 255)
    call("sample", images, "--condition", "photos.v2", "--seed", 3)
    assert Path("images/samples/seed-3-condition-photos.v2.png").exists()


def test_subfolders_of_conditions_are_named_as_not_read(call, images):
    for name in (".hidden", "more"):
        (Path("photos") / name).mkdir(parents=True)
        grey(f"photos/{name}/b.png", 255)
    grey("photos/a.png", 255)
    result = call("sample", images, "--condition", "photos", "--out", "made")
    assert result.stderr == "warning: --condition photos: not read: 1 subfolder\n"
    assert names("made") == [f"a-{i:03}.png" for i in range(8)]


def test_a_wrong_image_among_others_leaves_nothing_written(call, images):
    Path("photos").mkdir()
    grey("photos/a.png", 255)
    grey("photos/b.png", 255, size=(9, 8))
    line = (
        "--condition photos/b.png: has 9×8 pixels, and the run's have 8×8; `ganframe sample --tile` cuts it into tiles "
        "of this size\n"
    )
    assert call("sample", images, "--condition", "photos", "--out", "made", code=2).stderr == line
    assert not Path("made").exists()
    Path("photos/b.png").write_text("no image")
    for more in ([], ["--tile"]):
        assert "b.png: cannot be read" in call("sample", images, "--condition", "photos", *more, code=2).stderr
    assert not Path("images/samples/seed-0-condition-photos.png").exists()


def test_photographs_of_any_size_are_cut_into_tiles(call, images):
    Path("photos").mkdir()
    for name, size in (("a.png", (30, 21)), ("b.png", (5, 40))):
        grey(f"photos/{name}", 255, size)
    call("sample", images, "--condition", "photos", "--tile", "--out", "made")
    assert {name: Image.open(f"made/{name}").size for name in names("made")} == {"a.png": (30, 21), "b.png": (5, 40)}
    call("sample", images, "--condition", "photos/a.png", "--tile", "--overlap", 1, "-n", 2, "--out", "x.npy")
    wanted = ganframe.load_generator(images).translate(torch.ones(1, 21, 30), 2, tile=True, overlap=1)
    assert torch.equal(torch.from_numpy(np.load("x.npy")), wanted[0])
    call("sample", images, "--condition", "photos/a.png", "--tile")
    assert Image.open("images/samples/seed-0-condition-a.png").size == (2 * 30 * 9 + 6, 21 * 9 + 4)
    np.save("y.npy", np.ones((1, 21, 30)))
    call("sample", images, "--condition", "y.npy", "--tile", "--overlap", 1, "-n", 2, "--out", "y out.npy")
    assert np.array_equal(np.load("x.npy"), np.load("y out.npy"))
    line = call("sample", images, "--condition", "photos", "--tile", "--out", "x.png", code=2).stderr
    assert line == (
        "x.png: the conditions have different sizes, as 30×21 and 5×40 pixels; --out x/ writes a file of each sample\n"
    )
    assert not Path("x.png").exists()


def test_a_picture_of_more_pixels_than_a_viewer_opens_is_refused(call, images, monkeypatch):
    monkeypatch.setattr("ganframe.cli.translate.LARGEST", 10_000)
    grey("a.png", 0, (100, 50))
    line = call("sample", images, "--condition", "a.png", "--tile", "-n", 99, "--out", "x.png", code=2).stderr
    assert line == "x.png: the picture would have 1 million pixels; --out x/ writes a file of each sample\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--tile"], "--tile: it cuts conditions into tiles; give some with --condition"),
        (["--overlap", 2, "--condition", "a.png"], "--overlap: it is that of tiles; give --tile"),
        (
            ["--condition", "a.png", "--tile", "--overlap", 5],
            "overlap = 5: it must be 0 to 4 pixels of the condition, half a tile",
        ),
    ],
)
def test_wrong_tiles_are_refused(call, images, arguments, line):
    grey("a.png", 0, (20, 20))
    assert call("sample", images, *arguments, "--out", "x.png", code=2).stderr == f"{line}\n"


def test_vectors_are_not_tiled(call, vectors):
    np.save("y.npy", np.zeros(3))
    line = call("sample", vectors, "--condition", "y.npy", "--tile", code=2).stderr
    assert line == ("tiles: samples of shape (2,) under conditions of shape (3,) have none: both must be images\n")


@pytest.mark.parametrize(("shape", "right"), [((1, 8, 8), False), ((3, 8, 8), False), ((4, 8, 8), True)])
def test_an_image_is_no_condition_of_four_channels_unless_samples_have_opacity(tmp_path, shape, right):
    """Past frames, or an image and a mask, would be read as colours and opacity."""
    spec, file = DataSpec(shape, condition=(4, 8, 8)), tmp_path / "a.png"
    Image.new("RGBA", (8, 8)).save(file)
    if right:
        assert read_conditions(file, spec).shape == (1, 4, 8, 8)
        return
    with pytest.raises(RequestError, match=r"the 4 channels of conditions are no colours; give a \.npy"):
        read_conditions(file, spec)


def test_picture_of_a_path_has_its_condition_at_the_left(call, images):
    white = grey("white.png", 255)
    call("interpolate", images, "--between", 2, 5, "--steps", 3, "--condition", white, "--out", "x.png")
    pixels = np.asarray(Image.open("x.png").convert("RGB"))
    assert pixels.shape == (132, 4 * 130 + 2, 3)
    assert (pixels[2:130, 2:130] == 255).all()
    call("sample", images, "--condition", white, "--out", "y.png")  # eight samples, whose places interpolate takes
    row = np.asarray(Image.open("y.png").convert("RGB"))
    assert row.shape == (60, 9 * 58 + 2, 3)
    once, again = pixels[2:130:16, :, :], row[2:58:7, :, :]
    for column, place in ((1, 3), (3, 6)):
        left, there = 2 + 130 * column, 2 + 58 * place
        assert (once[:, left : left + 128 : 16] == again[:, there : there + 56 : 7]).all()


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
    z = G.latents(8 if given else 64)[0]  # as many as the picture of `sample` has
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
    (["--condition", "none.png"], "--condition none.png: there is no such file or folder"),
    (["--condition", "empty"], "--condition empty: the folder has no images"),
    (
        ["--condition", "text.txt"],
        "--condition text.txt: it must be an image (.png, .jpg), an array (.npy) or a folder",
    ),
    (["--condition", "gone/"], "--condition gone: there is no such file or folder"),
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
