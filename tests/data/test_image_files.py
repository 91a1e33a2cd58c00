"""Image files of 8 bits as pixels: orientation, transparency, sizes from headers, files that are refused."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ganframe.data.deep_images import upright
from ganframe.data.image_files import read_image, read_image_header

TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: np.rot90,
}
FORMATS = {
    "jpg": {"quality": 100, "subsampling": 0},
    "png": {},
    "webp": {"lossless": True},
    "tif": {},
    "tiff": {"compression": "tiff_lzw"},
}


def oriented(file, orientation, mode="RGB", **options):
    """Saves 12×8 pixels of which EXIF says that they must be turned, and gives them."""
    pixels = np.zeros((8, 12), np.uint8)
    pixels[:4, :4], pixels[4:, :4] = 255, 120
    image = Image.fromarray(pixels).convert(mode)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(file, exif=exif, **options)
    return pixels


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", TURNS)
def test_images_are_upright_as_exif_says_and_so_is_their_size(tmp_path, form, orientation, mode):
    file = tmp_path / f"a.{form}"
    shown = TURNS[orientation](oriented(file, orientation, mode, **FORMATS[form]))
    header, x = read_image_header(file), read_image(file, 1)
    assert (header.height, header.width) == shown.shape
    assert x.shape == (1, *shown.shape)
    assert np.abs(x[0].numpy().astype(int) - shown).max() <= 10


def test_exif_behind_the_pixels_of_a_png_is_heeded(tmp_path):
    file = tmp_path / "a.png"
    oriented(file, 6)
    content = file.read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", content[start : start + 4])[0]
    rest = content[:start] + content[end:]
    last = rest.index(b"IEND") - 4
    file.write_bytes(rest[:last] + content[start:end] + rest[last:])
    assert (read_image_header(file).width, read_image_header(file).height) == (8, 12)
    assert read_image(file).shape == (3, 12, 8)


def test_header_of_a_png_is_read_without_its_pixels(tmp_path, monkeypatch):
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("the pixels were decoded"))
    assert read_image_header(tmp_path / "a.png").width == 5


def transparent(mode):
    """A green square on nothing, (8, 8), and where the square is."""
    square = np.zeros((8, 8), bool)
    square[2:6, 2:6] = True
    pixels = np.where(square[..., None], (0, 200, 0, 255), (255, 0, 255, 0)).astype(np.uint8)
    image = Image.fromarray(pixels)
    if mode == "palette":
        image = Image.fromarray(square.astype(np.uint8))
        image.putpalette([255, 0, 255, 0, 200, 0])
        image.info["transparency"] = bytes([0, 255])
    elif mode == "palette, one colour":
        image = Image.fromarray(square.astype(np.uint8))
        image.putpalette([255, 0, 255, 0, 200, 0])
        image.info["transparency"] = 0
    elif mode == "one colour":
        image = image.convert("RGB")
        image.info["transparency"] = (255, 0, 255)
    elif mode != "RGBA":
        image = image.convert(mode)
    return image, square


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette", "palette, one colour", "one colour"])
def test_transparent_images_are_laid_on_one_background(tmp_path, mode):
    image, square = transparent(mode)
    options = {key: image.info[key] for key in ("transparency",) if key in image.info}
    image.save(tmp_path / "a.png", **options)
    for background, level in (("white", 255), ("#404040", 64), ("black", 0)):
        x = read_image(tmp_path / "a.png", background=background)
        assert x.dtype == torch.uint8
        assert (x[:, ~square] == level).all()
        assert len(x[:, square].unique(dim=1)[0]) == 1
        assert (read_image(tmp_path / "a.png", 1, background=background)[0, ~square] == level).all()
    four = read_image(tmp_path / "a.png", 4)
    assert np.array_equal(four[3].numpy(), square * 255)


def test_half_transparent_pixels_are_mixed_with_the_background(tmp_path):
    Image.new("RGBA", (2, 2), (200, 100, 0, 51)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == pytest.approx([244, 224, 204], abs=1)


def test_hidden_colours_do_not_bleed_when_transparent_images_are_scaled(tmp_path):
    image, _ = transparent("RGBA")
    image.save(tmp_path / "a.png")
    x = read_image(tmp_path / "a.png", 4, size=4)
    assert (x[0][x[3] > 20] <= 10).all()  # the hidden colour is red and blue, the square is green


def test_four_channels_of_opaque_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x = read_image(tmp_path / "a.png", 4)
    assert np.array_equal(x[:3].permute(1, 2, 0).numpy(), pixels)
    assert (x[3] == 255).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "1", "L"])
def test_other_colour_modes_are_read_as_they_look(tmp_path, mode):
    Image.new("RGB", (8, 8), "white").convert(mode).save(tmp_path / "a.tif")
    assert (read_image(tmp_path / "a.tif") >= 254).all()


def test_png_that_is_larger_than_pil_reads_says_so(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_image, read_image_header):
        with pytest.raises(ValueError, match=r"a\.png: .*400000000 pixels.* exceeds limit .*make the image smaller"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"P6 9 9 255\n", b"II*\0"])
def test_files_that_are_no_images_are_named_in_one_line(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image: ") as caught:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def test_pages_of_a_tiff_are_channels(tmp_path):
    pages = [Image.fromarray(np.full((4, 6), 10 * i, np.uint8)) for i in range(5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert [read_image_header(tmp_path / "a.tif", channels).unread for channels in (5, 3)] == [0, 4]
    assert read_image(tmp_path / "a.tif", 5)[:, 0, 0].tolist() == [0, 10, 20, 30, 40]
    assert read_image(tmp_path / "a.tif", 5, size=2).shape == (5, 2, 2)
    assert read_image(tmp_path / "a.tif", 5, size=(2, 3)).shape == (5, 2, 3)
    assert read_image(tmp_path / "a.tif", 3).shape == (3, 4, 6)
    with pytest.raises(ValueError, match="it is no image of 6 channels: give a TIFF of 6 grey pages, or an array"):
        read_image(tmp_path / "a.tif", 6)


def test_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("L", (4, 4), level) for level in (10, 200)]
    for name in ("a.gif", "a.png", "a.webp"):
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], **({"lossless": True} if "w" in name else {})
        )
        assert read_image_header(tmp_path / name).unread == 1
        assert (read_image(tmp_path / name, 1) == 10).all()


def test_upright_image_without_exif_is_not_copied():
    image = Image.new("L", (4, 4))
    assert upright(image) is image
