"""Tests of image datasets from scikit-learn, folders and torchvision: pixels, and messages for damaged files."""

import gzip
import math
import shutil
import socket
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from ganframe import DataSpec, RunError
from ganframe.builtin import images
from ganframe.builtin.images import Digits, ImageFolder, TorchvisionDataset

NAMES = ("MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "SVHN", "STL10", "CelebA")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Fails the test if it uses the network."""

    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(folder, name, pixels, **options):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name, **options)
    return folder / name


def cut(file, share):
    """Truncates a file to its first `share`."""
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])


# ------------------------------------------------------------------------------------------------------------- digits


def test_digits_match_scikit_learn():
    data, scans = Digits().build(), load_digits()
    x, y = data.tensors
    assert Digits().spec == DataSpec((1, 8, 8), classes=10)
    assert x.shape == (1797, 1, 8, 8)
    assert x.dtype == torch.uint8
    assert y.dtype == torch.long
    assert y.tolist() == scans.target.tolist()
    assert (x.min(), x.max()) == (0, 255)
    assert np.abs(x[:, 0].numpy() / 255 - scans.images / 16).max() <= 0.5 / 255 + 1e-6


def test_digits_are_asked_of_scikit_learn_where_its_file_is_not_as_expected(monkeypatch):
    """The file is read without importing scikit-learn, which may keep it elsewhere some day."""
    x, y = Digits().build().tensors
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    for got, expected in zip(Digits().build().tensors, (x, y), strict=True):
        assert torch.equal(got, expected)


def test_digits_of_two_sides_are_scaled_and_cropped_at_the_centre():
    whole = Digits(size=20).build().tensors[0]
    assert Digits(size=(20, 12)).spec == DataSpec((1, 20, 12), classes=10)
    assert Digits(size=(20, 12)).build().tensors[0].equal(whole[..., 4:16])
    assert Digits(size=(13, 20)).build().tensors[0].equal(whole[:, :, 3:16])


@pytest.mark.parametrize("size", [16, 32])
def test_digits_are_resized(size):
    x, y = Digits(size=size).build().tensors
    small = Digits().build().tensors[0]
    assert Digits(size=size).spec == DataSpec((1, size, size), classes=10)
    assert x.shape == (1797, 1, size, size)
    assert x.dtype == torch.uint8
    assert len(y) == 1797
    # Averaging an enlarged scan over its blocks restores the scan approximately, if it is not rotated or shifted.
    back = torch.nn.functional.avg_pool2d(x.float(), size // 8)
    assert (back - small.float()).abs().mean() < 20
    assert (back.flip(3) - small.float()).abs().mean() > 40
    assert abs(x.float().mean() - small.float().mean()) < 3


def test_digits_are_split_into_a_fixed_fifth_and_the_rest():
    every, train, test = (Digits(split=split).build().tensors for split in ("all", "train", "test"))
    assert (len(train[0]), len(test[0])) == (1438, 359)
    together = torch.cat([torch.cat([x.flatten(1), y[:, None]], 1) for x, y in (train, test)])
    whole = torch.cat([every[0].flatten(1), every[1][:, None]], 1)
    assert sorted(together.tolist()) == sorted(whole.tolist())
    assert test[1][:12].tolist() == [4, 5, 6, 9, 4, 7, 8, 9, 9, 6, 9, 9]  # the same for all versions of libraries
    assert torch.bincount(test[1]).min() >= 25
    assert all(torch.equal(a, b) for a, b in zip(Digits(split="train").held_out().tensors, test, strict=True))
    assert Digits(size=16, split="train").held_out().tensors[0].shape == (359, 1, 16, 16)
    assert Digits(split="test").held_out() is None


def test_digits_size_below_8_is_refused():
    for size in (4, (8, 7)):
        with pytest.raises(ValueError, match="at least 8 pixels along each side, not"):
            Digits(size=size)


# ------------------------------------------------------------------------------------------------------------ folders


def test_flat_folder_has_no_classes_and_is_sorted_by_name(tmp_path):
    pictures = {f"{i}.png": noise(6, 9, 3, seed=i) for i in (2, 0, 1)}
    for name, pixels in pictures.items():
        save(tmp_path, name, pixels)
    (tmp_path / "notes.txt").write_text("no image")
    config = ImageFolder(str(tmp_path))
    assert config.spec == DataSpec((3, 6, 9), classes=None)  # (C, H, W): 6 rows of 9
    x, y = config.build().tensors
    assert x.dtype == torch.uint8
    assert y.dtype == torch.long
    assert np.array_equal(x.permute(0, 2, 3, 1).numpy(), np.stack([pictures[f"{i}.png"] for i in range(3)]))
    assert y.tolist() == [0, 0, 0]


def test_subfolders_are_classes_sorted_by_name(tmp_path):
    save(tmp_path / "dogs", "a.png", noise(4, 4, 3, seed=0))
    save(tmp_path / "cats", "b.png", noise(4, 4, 3, seed=1))
    save(tmp_path / "cats" / "black", "c.PNG", noise(4, 4, 3, seed=2))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "README.md").write_text("not an image")
    config = ImageFolder(str(tmp_path))
    assert config.spec == DataSpec((3, 4, 4), classes=2)
    x, y = config.build().tensors
    assert y.tolist() == [0, 0, 1]
    assert np.array_equal(x[2].permute(1, 2, 0).numpy(), noise(4, 4, 3, seed=0))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".jpg", ".jpeg"])
def test_common_image_formats_are_read(tmp_path, suffix):
    ramp = np.broadcast_to(np.linspace(0, 255, 16, dtype=np.uint8)[None, :, None], (16, 16, 3)).copy()
    save(tmp_path, f"a{suffix}", ramp, **({"lossless": True} if suffix == ".webp" else {}))
    x = ImageFolder(str(tmp_path)).build()[0][0]
    assert x.shape == (3, 16, 16)
    allowed = 8 if suffix.startswith(".jp") else 0
    assert np.abs(x.permute(1, 2, 0).numpy().astype(int) - ramp).max() <= allowed


def test_different_image_sizes_are_refused_with_remedy(tmp_path):
    for i in range(3):
        save(tmp_path, f"a{i}.png", noise(8, 8, 3))
    save(tmp_path, "odd.png", noise(5, 8, 3))
    with pytest.raises(ValueError, match="images have 2 different sizes: 3 of 8×8") as caught:
        _ = ImageFolder(str(tmp_path)).spec
    assert "1 of 8×5 (odd.png)" in str(caught.value)
    assert "set `size`" in str(caught.value)
    config = ImageFolder(str(tmp_path), size=6)
    assert config.spec == DataSpec((3, 6, 6))
    assert config.build().tensors[0].shape == (4, 3, 6, 6)


def test_size_scales_shorter_side_and_crops_centre(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = (255, 0, 0)  # the middle third
    save(tmp_path, "wide.png", wide)
    save(tmp_path, "high.png", wide.transpose(1, 0, 2).copy())
    x = ImageFolder(str(tmp_path), size=4).build().tensors[0]
    assert x.shape == (2, 3, 4, 4)
    assert (x[:, 0].float().mean((1, 2)) > 225).all()
    assert (x[:, 1:] == 0).all()


def test_size_of_two_sides_is_height_and_width(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 6:18] = (255, 0, 0)  # the middle half
    save(tmp_path, "wide.png", wide)
    config = ImageFolder(str(tmp_path), size=(8, 12))
    assert config.spec == DataSpec((3, 8, 12))
    x = config.build().tensors[0]
    assert x.shape == (1, 3, 8, 12)
    assert (x[:, 0] == 255).all()
    high = ImageFolder(str(tmp_path), size=(8, 4)).build().tensors[0]
    assert high.shape == (1, 3, 8, 4)
    assert (
        ImageFolder(str(tmp_path), size=(8, 8))
        .build()
        .tensors[0]
        .equal(ImageFolder(str(tmp_path), size=8).build().tensors[0])
    )


MODES = {
    "grey": (Image.fromarray(noise(4, 4)), lambda: np.repeat(noise(4, 4)[..., None], 3, 2)),
    "colour": (Image.fromarray(noise(4, 4, 3)), lambda: noise(4, 4, 3)),
    "opaque": (Image.fromarray(noise(4, 4, 3)).convert("RGBA"), lambda: noise(4, 4, 3)),
    "opaque grey": (Image.fromarray(noise(4, 4)).convert("LA"), lambda: np.repeat(noise(4, 4)[..., None], 3, 2)),
    "black and white": (
        Image.fromarray(noise(4, 4)).point(lambda v: 255 * (v > 127), "1"),
        lambda: np.repeat(np.where(noise(4, 4) > 127, 255, 0)[..., None], 3, 2),
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_pixel_modes_are_converted_to_colour_or_grey(tmp_path, mode):
    image, colours = MODES[mode]
    image.save(tmp_path / "a.png")
    colour = ImageFolder(str(tmp_path)).build()[0][0]
    assert np.array_equal(colour.permute(1, 2, 0).numpy(), colours())
    grey = ImageFolder(str(tmp_path), channels=1)
    assert grey.spec.shape == (1, 4, 4)
    x = grey.build()[0][0]
    assert x.shape == (1, 4, 4)
    luma = colours() @ np.array([0.299, 0.587, 0.114])
    assert np.abs(x[0].numpy() - luma).max() <= 1


def test_palette_images_are_converted(tmp_path):
    indices = (np.arange(16) % 4).reshape(4, 4).astype(np.uint8)
    palette = noise(4, 3, seed=5)
    image = Image.fromarray(indices)
    image.putpalette(palette.flatten().tolist())
    image.save(tmp_path / "a.png")
    assert np.array_equal(ImageFolder(str(tmp_path)).build()[0][0].permute(1, 2, 0).numpy(), palette[indices])


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_grey_keeps_its_shades(tmp_path, channels):
    """PIL's conversion clips values above 255, which would turn most of a 16-bit image white."""
    shades = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(shades).save(tmp_path / "a.png")
    x = ImageFolder(str(tmp_path), channels=channels).build()[0][0]
    assert x.dtype == torch.float32
    assert np.abs((x[0].numpy() + 1) * 127.5 - np.arange(256).reshape(16, 16)).max() <= 1e-3


@pytest.mark.parametrize("size", [None, 4])
def test_images_above_memory_limit_are_read_from_disk(tmp_path, size):
    for folder in "ab":
        for i in range(3):
            save(tmp_path / folder, f"{i}.png", noise(6, 8, 3, seed=i))
    stored = ImageFolder(str(tmp_path), size=size).build()
    lazy = ImageFolder(str(tmp_path), size=size, memory=0).build()
    assert isinstance(stored, TensorDataset)
    assert not isinstance(lazy, TensorDataset)
    assert len(lazy) == len(stored) == 6
    for index in range(6):
        assert torch.equal(lazy[index][0], stored[index][0])
        assert lazy[index][1] == stored[index][1] == index // 3
    save(tmp_path / "a", "0.png", noise(6, 8, 3, seed=9))
    assert not torch.equal(lazy[0][0], stored[0][0])


def test_memory_limit_is_in_gib_of_pixels(tmp_path):
    for i in range(2):
        save(tmp_path, f"{i}.png", noise(8, 8, 3))
    needed = 2 * 3 * 8 * 8 / 2**30
    assert isinstance(ImageFolder(str(tmp_path), memory=needed).build(), TensorDataset)
    assert not isinstance(ImageFolder(str(tmp_path), memory=0.99 * needed).build(), TensorDataset)


def save_good_and_damaged(tmp_path, damage):
    for i in range(3):
        save(tmp_path, f"good{i}.png", noise(32, 32, 3))
    damage(save(tmp_path, "bad.png", noise(32, 32, 3)))


DAMAGE = {
    "truncated": lambda file: cut(file, 0.5),
    "garbage": lambda file: file.write_bytes(b"this is not an image"),
    "empty": lambda file: file.write_bytes(b""),
    "header only": lambda file: cut(file, 0.02),
}


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_image_is_named(tmp_path, damage, size):
    save_good_and_damaged(tmp_path, DAMAGE[damage])
    with pytest.raises(ValueError, match=r"bad\.png") as caught:
        ImageFolder(str(tmp_path), size=size).build()
    assert "good" not in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_image_is_named_when_read_from_disk(tmp_path, damage):
    save_good_and_damaged(tmp_path, DAMAGE[damage])
    lazy = ImageFolder(str(tmp_path), size=16, memory=0).build()
    assert lazy[1][0].shape == (3, 16, 16)
    with pytest.raises(RunError, match=r"bad\.png: cannot be read as an image"):
        lazy[0]


def test_damaged_images_are_counted_and_five_named(tmp_path):
    save(tmp_path, "good.png", noise(8, 8, 3))
    for i in range(7):
        (tmp_path / f"bad{i}.png").write_bytes(b"no")
    with pytest.raises(ValueError, match="7 of 8 images cannot be read") as caught:
        ImageFolder(str(tmp_path), size=8).build()
    assert str(caught.value).count("bad") == 5
    assert "…" in str(caught.value)


@pytest.mark.parametrize("size", [None, 8])
def test_image_with_huge_size_in_header_is_named(tmp_path, size):
    """A damaged header; PIL raises DecompressionBombError."""
    save(tmp_path, "good.png", noise(8, 8, 3))
    content = bytearray(save(tmp_path, "bad.png", noise(8, 8, 3)).read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2  # PNG's width, height and their checksum
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.png"):
        ImageFolder(str(tmp_path), size=size).build()


def test_missing_and_empty_folders_have_different_messages(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        _ = ImageFolder(str(tmp_path / "nowhere")).spec
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"no images found; image names end in .png"):
        _ = ImageFolder(str(tmp_path)).spec
    (tmp_path / "class").mkdir()
    with pytest.raises(ValueError, match="no images found"):
        ImageFolder(str(tmp_path), size=8).build()
    with pytest.raises(ValueError, match="no such folder"):
        _ = ImageFolder(str(tmp_path / "notes.txt"), size=8).spec


def test_root_in_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "mine", "a.png", noise(4, 4, 3))
    assert ImageFolder("~/mine").spec.shape == (3, 4, 4)


# -------------------------------------------------------------------------------------------------------- torchvision


def idx(values):
    """The bytes of an idx file: magic number 0x0000080d, the sizes, the values."""
    sizes = b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


TRAIN, TEST = noise(12, 28, 28, seed=1), noise(7, 28, 28, seed=2)
LABELS = np.arange(12, dtype=np.uint8) % 10


def write_idx_files(folder, gz):
    folder.mkdir(parents=True)
    parts = {
        "train-images-idx3-ubyte": TRAIN,
        "train-labels-idx1-ubyte": LABELS,
        "t10k-images-idx3-ubyte": TEST,
        "t10k-labels-idx1-ubyte": LABELS[:7][::-1],
    }
    for name, values in parts.items():
        (folder / (name + ".gz" if gz else name)).write_bytes(gzip.compress(idx(values)) if gz else idx(values))
    return folder


@pytest.fixture
def without_debian(monkeypatch, tmp_path):
    """Behaves as if Debian's package of Fashion-MNIST were not installed."""
    monkeypatch.setattr(images, "DEBIAN_FASHION_MNIST", tmp_path / "not installed")


def check_small_mnist(config, split):
    x, y = config.build().tensors
    expected = TRAIN if split == "train" else TEST
    assert config.spec == DataSpec((1, 28, 28), classes=10)
    assert x.dtype == torch.uint8
    assert y.dtype == torch.long
    assert x.shape == (len(expected), 1, 28, 28)
    assert np.array_equal(x[:, 0].numpy(), expected)
    assert y.tolist() == (LABELS if split == "train" else LABELS[:7][::-1]).tolist()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_torchvision_layout_of_idx_files_is_read(tmp_path, without_debian, name, split):
    write_idx_files(tmp_path / name / "raw", gz=False)
    check_small_mnist(TorchvisionDataset(name, root=str(tmp_path), split=split), split)


def test_torchvision_test_split_is_held_out_from_training_if_it_is_there(tmp_path, without_debian):
    write_idx_files(tmp_path / "MNIST" / "raw", gz=False)
    config = TorchvisionDataset("MNIST", root=str(tmp_path), download=True, size=16)
    x, y = config.held_out().tensors
    expected, labels = TorchvisionDataset("MNIST", root=str(tmp_path), split="test", size=16).build().tensors
    assert torch.equal(x, expected)
    assert torch.equal(y, labels)
    assert TorchvisionDataset("MNIST", root=str(tmp_path), split="test").held_out() is None
    assert TorchvisionDataset("MNIST", root=str(tmp_path / "empty")).held_out() is None
    assert Digits().held_out() is None


@pytest.mark.parametrize("split", ["train", "test"])
def test_fashion_mnist_is_read_from_gzipped_idx_files(tmp_path, without_debian, split):
    folder = write_idx_files(tmp_path / "fashion-mnist", gz=True)
    check_small_mnist(TorchvisionDataset("FashionMNIST", root=str(folder), split=split), split)


def test_fashion_mnist_in_root_takes_precedence_over_debian(tmp_path, monkeypatch):
    mine = write_idx_files(tmp_path / "mine", gz=True)
    debian = write_idx_files(tmp_path / "debian", gz=True)
    (debian / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(255 - TRAIN)))
    monkeypatch.setattr(images, "DEBIAN_FASHION_MNIST", debian)
    check_small_mnist(TorchvisionDataset("FashionMNIST", root=str(mine)), "train")
    fallback = TorchvisionDataset("FashionMNIST", root=str(tmp_path / "nowhere")).build().tensors[0]
    assert np.array_equal(fallback[:, 0].numpy(), 255 - TRAIN)
    layout = write_idx_files(tmp_path / "data" / "FashionMNIST" / "raw", gz=False).parent.parent
    check_small_mnist(TorchvisionDataset("FashionMNIST", root=str(layout)), "train")


@pytest.mark.skipif(not images.DEBIAN_FASHION_MNIST.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_fashion_mnist_from_debian(tmp_path):
    for split, count in (("train", 60_000), ("test", 10_000)):
        x, y = TorchvisionDataset("FashionMNIST", root=str(tmp_path), split=split).build().tensors
        assert x.shape == (count, 1, 28, 28)
        assert torch.bincount(y).tolist() == [count // 10] * 10
        assert 0.28 < x.float().mean() / 255 < 0.30  # the published mean is 0.286


def test_torchvision_images_are_resized(tmp_path, without_debian):
    folder = write_idx_files(tmp_path / "f", gz=True)
    config = TorchvisionDataset("FashionMNIST", root=str(folder), size=32)
    assert config.spec == DataSpec((1, 32, 32), classes=10)
    x = config.build().tensors[0]
    assert x.shape == (12, 1, 32, 32)
    assert x.dtype == torch.uint8
    assert abs(x.float().mean() - TRAIN.mean()) < 2


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", NAMES)
def test_missing_torchvision_data_raises_one_line_with_remedies(tmp_path, without_debian, name, split):
    root = tmp_path / "nothing here"
    with pytest.raises(ValueError, match=f"{name} cannot be opened in") as caught:
        TorchvisionDataset(name, root=str(root), split=split).build()
    message = str(caught.value)
    assert str(root) in message
    assert "set download = true" in message
    assert "set root" in message
    assert "\n" not in message
    assert ("dataset-fashion-mnist" in message) is (name == "FashionMNIST")


@pytest.mark.parametrize("name", NAMES)
def test_torchvision_spec_without_data(name):
    shape, classes = TorchvisionDataset(name).spec.shape, TorchvisionDataset(name).spec.classes
    assert shape[0] == (1 if name.endswith("MNIST") else 3)
    assert classes == {"CIFAR100": 100, "CelebA": None}.get(name, 10)
    assert TorchvisionDataset(name, size=16).spec.shape == (shape[0], 16, 16)
    assert TorchvisionDataset(name, size=(16, 9)).spec.shape == (shape[0], 16, 9)
    assert not TorchvisionDataset(name).download


def with_bytes(content):
    return lambda file: file.write_bytes(content)


def flip_in_deflate(file):
    content = bytearray(file.read_bytes())
    content[10:14] = b"\xff\xff\xff\xff"  # an invalid type in the first block's header, which zlib refuses
    file.write_bytes(content)


IDX_DAMAGE = {
    "truncated": lambda file: cut(file, 0.5),
    "empty": with_bytes(b""),
    "not gzipped": with_bytes(idx(TRAIN)),
    "broken deflate stream": flip_in_deflate,
    "not an idx file": with_bytes(gzip.compress(b"hello world")),
    "idx of floats": with_bytes(gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x01" + bytes(4))),
    "only a magic number": with_bytes(gzip.compress(b"\x00\x00\x08")),
    "values missing": with_bytes(gzip.compress(idx(TRAIN)[:-5])),
    "fewer images than labels": with_bytes(gzip.compress(idx(TRAIN[:5]))),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", IDX_DAMAGE)
def test_damaged_idx_file_is_named(tmp_path, without_debian, damage):
    folder = write_idx_files(tmp_path / "f", gz=True)
    # damages t10k: a folder without train-images is not recognised as Fashion-MNIST
    IDX_DAMAGE[damage](folder / "t10k-images-idx3-ubyte.gz")
    with pytest.raises((ValueError, OSError), match=r"t10k-(images-idx3|labels-idx1)-ubyte"):
        TorchvisionDataset("FashionMNIST", root=str(folder), split="test").build()


MNIST_DAMAGE = {
    "truncated": idx(TRAIN)[:500],
    "empty": b"",
    "garbage": b"hello world, this is not an idx file",
    "fewer images than labels": idx(TRAIN[:5]),
}


@pytest.mark.parametrize("damage", MNIST_DAMAGE)
def test_damaged_torchvision_file_is_reported(tmp_path, damage):
    raw = write_idx_files(tmp_path / "MNIST" / "raw", gz=False)
    (raw / "train-images-idx3-ubyte").write_bytes(MNIST_DAMAGE[damage])
    with pytest.raises(ValueError, match="MNIST") as caught:
        TorchvisionDataset("MNIST", root=str(tmp_path)).build()
    assert "\n" not in str(caught.value)


def test_colour_images_are_channels_first(tmp_path, monkeypatch):
    """CIFAR's arrays (N, 32, 32, 3) and those of SVHN and STL10 (N, 3, H, W) all become (N, 3, H, W)."""
    last, first = noise(4, 32, 32, 3), noise(4, 3, 32, 32)

    class Opened:
        def __init__(self, data, **labels):
            self.data = data
            self.__dict__.update(labels)

    opened = {
        "CIFAR10": (Opened(last, targets=[3, 1, 0, 9]), last.transpose(0, 3, 1, 2)),
        "SVHN": (Opened(first, labels=np.array([3, 1, 0, 9])), first),
    }
    for name, (dataset, expected) in opened.items():
        monkeypatch.setattr(f"torchvision.datasets.{name}", lambda dataset=dataset, **options: dataset)
        x, y = TorchvisionDataset(name, root=str(tmp_path)).build().tensors
        assert np.array_equal(x.numpy(), expected)
        assert y.tolist() == [3, 1, 0, 9]


def test_celeba_is_read_from_disk(tmp_path, monkeypatch):
    """Uses torchvision's file layout. The checksums are not checked: only the real dataset has them."""
    base = tmp_path / "celeba"
    for i in range(3):
        save(base / "img_align_celeba", f"{i:06d}.jpg", noise(218, 178, 3, seed=i))
    names = [f"{i:06d}.jpg" for i in range(3)]
    (base / "list_eval_partition.txt").write_text("".join(f"{n} {i // 2}\n" for i, n in enumerate(names)))
    (base / "identity_CelebA.txt").write_text("".join(f"{n} 1\n" for n in names))
    (base / "list_bbox_celeba.txt").write_text("3\nimage_id x y w h\n" + "".join(f"{n} 0 0 9 9\n" for n in names))
    points = "lefteye_x lefteye_y"
    (base / "list_landmarks_align_celeba.txt").write_text(f"3\n{points}\n" + "".join(f"{n} 1 1\n" for n in names))
    (base / "list_attr_celeba.txt").write_text("3\nBald Young\n" + "".join(f"{n} -1 1\n" for n in names))
    monkeypatch.setattr("torchvision.datasets.CelebA._check_integrity", lambda self: True)
    for size, shape in ((None, (3, 218, 178)), (64, (3, 64, 64)), ((64, 40), (3, 64, 40))):
        config = TorchvisionDataset("CelebA", root=str(tmp_path), size=size)
        assert config.spec == DataSpec(shape)
        data = config.build()
        assert len(data) == 2  # partition 0
        x, y = data[1]
        assert x.shape == shape
        assert x.dtype == torch.uint8
        assert y == 0


def test_resizing_in_chunks_equals_resizing_each_image(monkeypatch):
    many = torch.from_numpy(noise(10, 1, 8, 8))
    whole = images._resized(many, 16)
    assert whole.shape == (10, 1, 16, 16)
    each = torch.cat([images._resized(one[None], 16) for one in many])
    assert torch.equal(whole, each)
    assert images._resized(many, None) is many
    assert images._resized(many, 8) is many
    assert math.isclose(images._resized(torch.full((1, 1, 8, 8), 200, dtype=torch.uint8), 16).float().mean(), 200)


def test_folder_deleted_after_spec_is_reported(tmp_path):
    save(tmp_path / "d", "a.png", noise(4, 4, 3))
    config = ImageFolder(str(tmp_path / "d"))
    assert config.spec.shape == (3, 4, 4)
    shutil.rmtree(tmp_path / "d")
    with pytest.raises(ValueError, match="no such folder"):
        config.build()


def test_class_folder_without_images_is_named(tmp_path):
    for name in ("cats", "dogs", "newts"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "dogs" / "1.png")
    with pytest.raises(ValueError, match="classes without images: cats, newts"):
        ImageFolder(str(tmp_path)).build()


def test_images_next_to_class_folders_are_refused(tmp_path):
    (tmp_path / "cats").mkdir()
    for file in (tmp_path / "cats" / "1.png", tmp_path / "stray.png"):
        Image.new("RGB", (8, 8)).save(file)
    with pytest.raises(ValueError, match="both in the folder itself and in its subfolders"):
        ImageFolder(str(tmp_path)).build()
