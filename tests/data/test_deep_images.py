"""Images of more than 8 bits a channel, and arrays: every level is kept, on the scale that the file declares."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ganframe.data.image_files import read_image, read_image_header


def numbers(top, *shape, dtype=np.uint16):
    found = np.random.default_rng(0).integers(0, top + 1, shape, dtype=np.int64).astype(dtype)
    found.flat[:2] = 0, top
    return found


def write_png(file, pixels, extra=b""):
    """A PNG of 16 bits a channel, which PIL cannot write in colour."""
    height, width, bands = pixels.shape

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2, 2: 4, 4: 6}[bands], 0, 0, 0)
    body = chunk(b"IHDR", header) + (chunk(b"tRNS", extra) if extra else b"") + chunk(b"IDAT", zlib.compress(rows))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))


def write_tiff(file, values, photometric, bits=16, order="<", deflated=False, kind=1, more=()):
    """A TIFF (H, W, bands) of any depth, in one strip; packed by the caller where bits are not whole bytes."""
    height, width, bands = values.shape
    content = values.astype(values.dtype.newbyteorder(order)).tobytes() if bits != 12 else packed_12(values)
    content = zlib.compress(content) if deflated else content
    tags = {256: width, 257: height, 258: [bits] * bands, 259: 8 if deflated else 1, 262: photometric, 277: bands}
    tags |= {273: 0, 278: height, 279: len(content), 339: [kind] * bands, **dict(more)}
    lists = {tag: value if isinstance(value, list) else [value] for tag, value in sorted(tags.items())}
    behind = b"".join(struct.pack(f"{order}{len(v)}H", *v) for v in lists.values() if len(v) > 2)
    start = 8 + 2 + 12 * len(lists) + 4
    lists[273] = [start + len(behind)]
    entries, place = b"", start
    for tag, value in lists.items():
        long = tag in (273, 279)
        inside = struct.pack(f"{order}{len(value)}{'I' if long else 'H'}", *value)
        if len(inside) > 4:
            inside, place = struct.pack(f"{order}I", place), place + len(inside)
        entries += struct.pack(f"{order}HHI", tag, 4 if long else 3, len(value)) + inside.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    file.write_bytes(
        mark + struct.pack(f"{order}IH", 8, len(lists)) + entries + struct.pack(f"{order}I", 0) + behind + content
    )


def packed_12(values):
    rows = ["".join(f"{value:012b}" for value in row) for row in values[..., 0]]
    return b"".join(int(row.ljust(-(-len(row) // 8) * 8, "0"), 2).to_bytes(-(-len(row) // 8), "big") for row in rows)


def assert_levels(file, expected, top, channels):
    """Each value of the file is found again, to a small part of a level."""
    x = read_image(file, channels)
    assert read_image_header(file).deep
    assert x.dtype == torch.float32
    assert x.shape == (channels, *expected.shape[:2])
    assert np.abs((x.permute(1, 2, 0).numpy().astype(float) + 1) / 2 * top - expected).max() < 0.02


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_png_of_16_bits_keeps_all_levels(tmp_path, bands):
    pixels = numbers(65535, 5, 7, bands)
    write_png(tmp_path / "a.png", pixels)
    assert_levels(tmp_path / "a.png", pixels, 65535, bands)


def test_grey_png_of_16_bits_with_opacity_keeps_all_levels(tmp_path):
    pixels = numbers(65535, 5, 7, 2)
    write_png(tmp_path / "a.png", pixels)
    assert_levels(tmp_path / "a.png", np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], 2), 65535, 4)


@pytest.mark.parametrize(("bands", "colour"), [(1, [1000]), (3, [1000, 2000, 3000])])
def test_transparent_colour_of_16_bits_is_matched_in_full(tmp_path, bands, colour):
    pixels = np.full((2, 2, bands), colour, np.uint16)
    pixels[0, 0] += 1  # the same in the upper byte
    write_png(tmp_path / "a.png", pixels, struct.pack(f">{bands}H", *colour))
    x = read_image(tmp_path / "a.png", 4)
    assert x[3].tolist() == [[1, -1], [-1, -1]]
    assert (read_image(tmp_path / "a.png")[:, 1, 1] == 1).all()


def test_half_transparent_16_bits_are_mixed_with_the_background(tmp_path):
    write_png(tmp_path / "a.png", np.full((2, 2, 4), (65535, 0, 0, 13107), np.uint16))
    x = read_image(tmp_path / "a.png", background="black")
    assert x[:, 0, 0].tolist() == pytest.approx([-0.6, -1, -1], abs=1e-4)


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_tiff_of_16_bits_keeps_all_levels(tmp_path, bands, order, deflated):
    values = numbers(65535, 5, 7, bands)
    more = {338: 2} if bands == 4 else {}
    write_tiff(tmp_path / "a.tif", values, 1 if bands == 1 else 2, order=order, deflated=deflated, more=more)
    assert_levels(tmp_path / "a.tif", values, 65535, bands)


@pytest.mark.parametrize("bands", [1, 3])
def test_tiff_of_16_bits_is_turned_as_exif_says(tmp_path, bands):
    values = numbers(65535, 5, 7, bands)
    write_tiff(tmp_path / "a.tif", values, 1 if bands == 1 else 2, more={274: 6})
    assert (read_image_header(tmp_path / "a.tif").width, read_image_header(tmp_path / "a.tif").height) == (5, 7)
    assert_levels(tmp_path / "a.tif", np.rot90(values, -1), 65535, bands)


def test_tiff_in_which_zero_is_white_is_inverted(tmp_path):
    values = numbers(65535, 5, 7, 1)
    write_tiff(tmp_path / "a.tif", values, 0)
    assert_levels(tmp_path / "a.tif", 65535 - values.astype(int), 65535, 1)


def test_tiff_of_12_bits_is_scaled_by_its_own_range(tmp_path):
    values = numbers(4095, 5, 8, 1)
    write_tiff(tmp_path / "a.tif", values, 1, bits=12)
    assert_levels(tmp_path / "a.tif", values, 4095, 1)


@pytest.mark.parametrize("top", [256, 1000, 4095, 65535])
@pytest.mark.parametrize("form", ["P5", "P6", "P2", "P3"])
def test_pgm_and_ppm_are_scaled_by_the_maximum_that_they_declare(tmp_path, form, top):
    bands = 3 if form in ("P6", "P3") else 1
    values = numbers(top, 5, 7, bands)
    text = b" ".join(str(value).encode() for value in values.flat) + b"\n"
    content = values.astype(">u2").tobytes() if form in ("P5", "P6") else text
    (tmp_path / "a.pnm").write_bytes(f"{form}\n# a comment\n7 5\n{top}\n".encode() + content)
    assert_levels(tmp_path / "a.pnm", values, top, bands)


def test_pgm_below_255_is_scaled_to_white(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 100\n" + bytes([0, 100]))
    assert read_image(tmp_path / "a.pgm", 1).tolist() == [[[0, 255]]]


UNDECLARED = {
    "uint32": (np.uint32, 1, 32, 5000),
    "int32": (np.int32, 2, 32, 5000),
    "int16": (np.int16, 2, 16, 5000),
    "float32": (np.float32, 3, 32, 5000),
}


@pytest.mark.parametrize("kind", UNDECLARED)
def test_values_without_a_declared_range_need_the_value_of_white(tmp_path, kind):
    dtype, sample_format, bits, top = UNDECLARED[kind]
    values = numbers(top, 5, 7, 1, dtype=dtype)
    write_tiff(tmp_path / "a.tif", values, 1, bits, kind=sample_format)
    with pytest.raises(ValueError, match=r"a\.tif: its .*name the value that is white") as caught:
        read_image(tmp_path / "a.tif", 1)
    assert "\n" not in str(caught.value)
    x = read_image(tmp_path / "a.tif", 1, white=top)
    assert np.allclose((x[0].numpy() + 1) / 2 * top, values[..., 0], atol=0.01)
    with pytest.raises(ValueError, match="its values lie between 0 and 5000, and `white` is 4000: name a larger"):
        read_image(tmp_path / "a.tif", 1, white=4000)


def test_floats_from_0_to_1_are_black_to_white(tmp_path):
    values = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.allclose(read_image(tmp_path / "a.tif", 1)[0].numpy(), 2 * values - 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_not_finite_are_refused(tmp_path, value):
    Image.fromarray(np.full((2, 2), value, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif: it has values that are not finite"):
        read_image(tmp_path / "a.tif", 1)


def test_signed_8_bits_and_negative_values_are_refused(tmp_path):
    write_tiff(tmp_path / "a.tif", numbers(100, 5, 7, 1, dtype=np.int8), 1, 8, kind=2)
    with pytest.raises(ValueError, match="it has signed values"):
        read_image(tmp_path / "a.tif", 1)
    write_tiff(tmp_path / "a.tif", -numbers(100, 5, 7, 1, dtype=np.int32), 1, 32, kind=2)
    with pytest.raises(ValueError, match=r"its values lie between -100 and 0.*save it as a \.npy of floats"):
        read_image(tmp_path / "a.tif", 1, white=100)


def test_layouts_of_which_pil_loses_levels_are_refused(tmp_path):
    write_tiff(tmp_path / "a.tif", numbers(65535, 5, 7, 3), 2, more={284: 2})  # a plane after the other
    with pytest.raises(ValueError, match="PIL keeps 8 of its 16 bits in this layout"):
        read_image(tmp_path / "a.tif")


def test_deep_images_are_scaled_as_those_of_8_bits_are(tmp_path):
    pixels = numbers(255, 12, 20, 3, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "8.png")
    write_png(tmp_path / "16.png", pixels.astype(np.uint16) * 257)
    shallow, deep = (read_image(tmp_path / name, 3, size=6) for name in ("8.png", "16.png"))
    assert ((deep + 1) * 127.5 - shallow).abs().max() <= 1.01


def test_hidden_colours_of_16_bits_do_not_bleed_when_scaled(tmp_path):
    pixels = np.full((8, 8, 4), (65535, 0, 65535, 0), np.uint16)
    pixels[2:6, 2:6] = (0, 50000, 0, 65535)
    write_png(tmp_path / "a.png", pixels)
    x = read_image(tmp_path / "a.png", 4, size=4)
    assert (x[0][x[3] > -0.8] < -0.9).all()


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("last", [False, True])
def test_arrays_hold_any_number_of_channels(tmp_path, suffix, last):
    values = numbers(255, 5, 4, 6, dtype=np.uint8)
    file = tmp_path / f"a{suffix}"
    (np.save if suffix == ".npy" else np.savez)(file, values.transpose(1, 2, 0) if last else values)
    assert np.array_equal(read_image(file, 5).numpy(), values)
    header = read_image_header(file, 5)
    assert (header.height, header.width, header.deep) == (4, 6, False)
    assert read_image(file, 5, size=3).shape == (5, 3, 3)


ARRAYS = {
    "bool": (np.array([[False, True]]), torch.tensor([[[0, 255]]], dtype=torch.uint8)),
    "uint16": (np.array([[0, 65535]], np.uint16), torch.tensor([[[-1.0, 1.0]]])),
    "other byte order": (np.array([[0, 65535]], ">u2"), torch.tensor([[[-1.0, 1.0]]])),
    "floats": (np.array([[-1.0, 0.5]]), torch.tensor([[[-1.0, 0.5]]])),
    "half": (np.array([[-1.0, 0.5]], np.float16), torch.tensor([[[-1.0, 0.5]]])),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_taken_on_the_scale_of_their_type(tmp_path, kind):
    values, expected = ARRAYS[kind]
    np.save(tmp_path / "a.npy", values)
    x = read_image(tmp_path / "a.npy", 1)
    assert x.dtype == expected.dtype
    assert torch.equal(x, expected)


REFUSED = {
    "floats": (np.full((1, 2, 2), 255.0), "its floats lie between 255 and 255: scale them to"),
    "integers": (np.zeros((1, 2, 2), np.int64), "its int64 values declare no value that is white"),
    "nan": (np.full((1, 2, 2), np.nan), "it has values that are not finite"),
    "channels": (np.zeros((2, 2, 3), np.uint8), r"it has the shape \(2, 2, 3\): with 1 channels it must be one image"),
    "many": (np.zeros((9, 1, 2, 2), np.uint8), r"it has the shape \(9, 1, 2, 2\)"),
    "complex": (np.zeros((1, 2, 2), complex), "its complex128 values"),
    "empty": (np.zeros((1, 0, 2)), "it has no pixels"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_arrays_that_are_no_images_are_refused_with_a_remedy(tmp_path, kind):
    values, message = REFUSED[kind]
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ValueError, match=rf"a\.npy: {message}"):
        read_image(tmp_path / "a.npy", 1)


def test_archive_of_several_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 2, 2)), y=np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.npz: it holds 2 arrays \(x, y\): save one image in each file"):
        read_image(tmp_path / "a.npz", 1)


def test_pages_of_16_bits_are_channels_without_loss(tmp_path):
    values = numbers(65535, 5, 4, 6)
    pages = [Image.fromarray(page) for page in values]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert_levels(tmp_path / "a.tif", values.transpose(1, 2, 0), 65535, 5)
