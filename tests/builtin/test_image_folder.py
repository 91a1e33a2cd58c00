"""Folders of images as people have them: depth, transparency, orientation, links, files that are no images."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from ganframe import DataSpec, RunError
from ganframe.builtin.image_folder import ImageFolder


def save(file, pixels, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)
    return file


def colours(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_the_size_of_a_turned_image_is_that_which_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    save(tmp_path / "a.jpg", colours(8, 12, 3), exif=exif)
    save(tmp_path / "b.jpg", colours(12, 8, 3))
    config = ImageFolder(str(tmp_path))
    assert config.spec == DataSpec((3, 12, 8))
    assert config.build().tensors[0].shape == (2, 3, 12, 8)


def test_background_and_four_channels(tmp_path):
    pixels = colours(6, 6, 4)
    pixels[..., 3] = np.where(np.arange(6) < 3, 0, 255)
    save(tmp_path / "a.png", pixels)
    assert (ImageFolder(str(tmp_path)).build()[0][0][..., :3] == 255).all()
    assert (ImageFolder(str(tmp_path), background="black").build()[0][0][..., :3] == 0).all()
    config = ImageFolder(str(tmp_path), channels=4)
    assert config.spec == DataSpec((4, 6, 6))
    assert np.array_equal(config.build()[0][0].permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("name", ["nocolour", "#12", ""])
def test_background_that_is_no_colour_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=re.escape(f'{name!r} is no colour: write a name, as "white", or "#rrggbb"')):
        ImageFolder(str(tmp_path), background=name)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_background_that_nothing_is_laid_on_is_refused(tmp_path, channels):
    with pytest.raises(ValueError, match=f"background: with {channels} channels nothing is laid on it"):
        ImageFolder(str(tmp_path), channels=channels, background="black")


def test_white_of_images_of_8_bits_is_pointed_out(tmp_path, capsys):
    save(tmp_path / "a.png", colours(4, 4, 3))
    ImageFolder(str(tmp_path), white=100.0).build()
    assert "no image has more than 8 bits, so dataset.white does nothing" in capsys.readouterr().err


@pytest.mark.parametrize("size", [None, 4])
def test_a_folder_of_several_depths_is_of_one_type(tmp_path, size):
    """Each file is scaled by what it declares, never by its own maximum: half of white is grey in all."""
    save(tmp_path / "a" / "8.png", np.full((8, 8), 128, np.uint8))
    save(tmp_path / "a" / "16.png", np.full((8, 8), 128 * 257, np.uint16))
    (tmp_path / "b").mkdir()
    values = np.full((8, 8), round(128 / 255 * 4095), ">u2")
    (tmp_path / "b" / "12.pgm").write_bytes(b"P5 8 8 4095\n" + values.tobytes())
    stored = ImageFolder(str(tmp_path), channels=1, size=size).build()
    read = ImageFolder(str(tmp_path), channels=1, size=size, memory=0).build()
    assert isinstance(stored, TensorDataset)
    assert not isinstance(read, TensorDataset)
    for index in range(3):
        assert stored[index][0].dtype == read[index][0].dtype == torch.float32
        assert torch.equal(stored[index][0], read[index][0])
        assert (stored[index][0] - (128 / 127.5 - 1)).abs().max() < 3e-4


def test_floats_count_with_their_size_in_memory(tmp_path):
    save(tmp_path / "a.png", np.zeros((8, 8), np.uint16))
    needed = 4 * 8 * 8 / 2**30
    assert isinstance(ImageFolder(str(tmp_path), channels=1, memory=needed).build(), TensorDataset)
    assert not isinstance(ImageFolder(str(tmp_path), channels=1, memory=0.9 * needed).build(), TensorDataset)


def test_images_of_12_bits_in_files_of_16_are_pointed_out(tmp_path, capsys):
    save(tmp_path / "a.png", np.linspace(0, 4095, 64, dtype=np.uint16).reshape(8, 8))
    ImageFolder(str(tmp_path), channels=1).build()
    assert "no value is above 6.2% of white, so all images are dark" in capsys.readouterr().err
    x = ImageFolder(str(tmp_path), channels=1, white=4095.0).build().tensors[0]
    assert (x.min(), x.max()) == (-1, 1)
    assert capsys.readouterr().err == ""


def test_values_without_range_are_refused_and_named(tmp_path):
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"1 of 1 images cannot be read: .*a\.tif \(its integers declare no value"):
        ImageFolder(str(tmp_path), channels=1).build()
    with pytest.raises(RunError, match=r"a\.tif: its integers declare no value that is white"):
        ImageFolder(str(tmp_path), channels=1, memory=0).build()[0]


@pytest.mark.parametrize("form", ["npy", "npz", "tif"])
@pytest.mark.parametrize("size", [None, 4])
def test_more_channels_come_from_arrays_and_pages(tmp_path, form, size):
    values = colours(5, 6, 6)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / f"1.{form}"
        if form == "tif":
            first, *rest = [Image.fromarray(page) for page in values]
            first.save(file, save_all=True, append_images=rest)
        else:
            (np.save if form == "npy" else np.savez)(file, values)
    config = ImageFolder(str(tmp_path), channels=5, size=size)
    assert config.spec == DataSpec((5, size or 6, size or 6), classes=2)
    x, y = config.build().tensors
    assert x.dtype == torch.uint8
    assert x.shape == (2, *config.spec.shape)
    assert y.tolist() == [0, 1]
    assert size or np.array_equal(x[1].numpy(), values)


def test_what_is_not_read_is_counted_in_one_line(tmp_path, capsys):
    save(tmp_path / "a" / "1.png", colours(4, 4, 3))
    frames = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(3)]
    frames[0].save(tmp_path / "a" / "2.gif", save_all=True, append_images=frames[1:])
    for name in ("README.md", "a/1.txt", "a/2.txt", "a/.hidden.txt"):
        (tmp_path / name).write_text("text")
    config = ImageFolder(str(tmp_path))
    assert len(config.build()) == 2
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}: not read: 3 files that are no images (2 .txt, 1 .md); "
        "all but the first page or frame of 1 image\n"
    )
    config.build()
    assert capsys.readouterr().err == ""  # said once


def test_nothing_is_said_of_a_folder_of_images(tmp_path, capsys):
    save(tmp_path / "1.png", colours(4, 4, 3))
    ImageFolder(str(tmp_path)).build()
    assert capsys.readouterr().err == ""


def test_hidden_and_linked_class_folders(tmp_path):
    save(tmp_path / "real" / "x" / "1.png", colours(4, 4, 3))
    root = tmp_path / "root"
    save(root / "a" / "1.png", colours(4, 4, 3))
    save(root / ".ipynb_checkpoints" / "1.png", colours(4, 4, 3))
    save(root / "__MACOSX" / "1.png", colours(4, 4, 3))
    (root / "b").symlink_to(tmp_path / "real")
    (root / "round").symlink_to(root)
    config = ImageFolder(str(root))
    assert config.spec.classes == 2
    assert config.build().tensors[1].tolist() == [0, 1]


def test_a_folder_without_images_says_what_it_has(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ValueError, match=r"no images found; .*the folder has 1 file that is no image \(1 \.heic\)"):
        ImageFolder(str(tmp_path)).build()
    save(tmp_path / "a.png", colours(4, 4, 3))
    with pytest.raises(ValueError, match=r"no images found; image names end in \.npy, \.npz, \.tif"):
        ImageFolder(str(tmp_path), channels=5).build()


def test_check_and_run_say_what_is_not_read(call, tiny, tmp_path):
    save(tmp_path / "img" / "1.png", colours(4, 4))
    save(tmp_path / "img" / "2.png", colours(4, 4))
    (tmp_path / "img" / "notes.txt").write_text("text")
    recipe = tiny()
    recipe.write_text(recipe.read_text().replace('use = "ring"', f'use = "image_folder"\nroot = "{tmp_path}/img"'))
    assert "not read: 1 file that is no image (1 .txt)" in call("check", recipe, "--set", "train.batch_size=2").output
