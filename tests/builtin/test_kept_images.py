"""Decoded images of a folder, kept for the next start: found again, noticed as stale or damaged, done without."""

import os
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ganframe import RunError
from ganframe.builtin import cache, image_folder, image_index, kept_images
from ganframe.builtin.image_folder import ImageFolder

LONG_AGO = 1_600_000_000  # seconds


def save(file, seed=0, size=(6, 6)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(file)


def age(root):
    """Files and folders that were changed last long ago."""
    for path in (root, *root.rglob("*")):
        os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The cache folder. What is read is kept, however quickly it was."""
    monkeypatch.setattr(kept_images, "WORTH", 0.0)
    monkeypatch.setenv("GANFRAME_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def folder(tmp_path):
    """A folder of 8 images in two classes."""
    for index in range(8):
        save(tmp_path / "images" / "ab"[index % 2] / f"{index}.png", index)
    age(tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def read(monkeypatch):
    """read.files and read.headers: how often each was read."""
    counts = SimpleNamespace(files=0, headers=0)

    def counted(name, function):
        def read(*given):
            setattr(counts, name, getattr(counts, name) + 1)
            return function(*given)

        return read

    monkeypatch.setattr(image_folder, "read_image", counted("files", image_folder.read_image))
    monkeypatch.setattr(image_folder, "read_image_header", counted("headers", image_folder.read_image_header))
    return counts


def started(folder, **options):
    """x and y of a new process."""
    image_index._newest = None
    return ImageFolder(str(folder), **options).build().tensors


def arrays(kept):
    return sorted(kept.glob("images-*.npy"))


@pytest.mark.parametrize("options", [{}, {"size": 4}, {"size": (3, 6), "channels": 1}])
def test_a_second_start_decodes_nothing(folder, kept, read, options):
    x, y = started(folder, **options)
    assert read.files == read.headers == 8
    again, labels = started(folder, **options)
    assert read.files == read.headers == 8
    assert again.dtype == torch.uint8
    assert torch.equal(again, x)
    assert torch.equal(labels, y)
    again.zero_()  # in memory, not in the file
    assert torch.equal(started(folder, **options)[0], x)


def test_images_of_more_bits_are_kept_as_floats(tmp_path, kept, read):
    for index in range(2):
        (tmp_path / "deep").mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 40_000 + index, np.uint16)).save(tmp_path / "deep" / f"{index}.png")
    age(tmp_path / "deep")
    first, again = (started(tmp_path / "deep", channels=1)[0] for _ in range(2))
    assert read.files == 2
    assert again.dtype == torch.float32
    assert torch.equal(first, again)


def test_headers_are_kept_where_images_are_read_from_disk(folder, kept, read):
    for _ in range(2):
        image_index._newest = None
        assert len(ImageFolder(str(folder), memory=0.0).build()) == 8
    assert read.headers == 8
    assert not arrays(kept)


def test_a_moved_folder_is_known(folder, kept, read):
    x, _ = started(folder)
    moved = folder.rename(folder.with_name("elsewhere"))
    assert torch.equal(started(moved)[0], x)
    assert read.files == 8


def test_an_edit_of_the_same_size_and_time_is_noticed(folder, kept, read):
    x, _ = started(folder)
    file = folder / "a" / "0.png"
    pixels = np.array(Image.open(file))
    before = file.stat()
    for level in range(256):  # until the compressed file has the size of the other
        pixels[0, 0] = level
        Image.fromarray(pixels).save(file)
        if file.stat().st_size == before.st_size and not np.array_equal(pixels, x[0].permute(1, 2, 0)):
            break
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    again, _ = started(folder)
    assert np.array_equal(again[0].permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "new class"])
def test_other_files_are_noticed(folder, kept, change):
    started(folder)
    file = folder / "a" / "0.png"
    if change == "added":
        save(folder / "a" / "9.png", 9)
    elif change == "removed":
        file.unlink()
    elif change == "renamed":
        file.rename(folder / "a" / "z.png")
    else:
        save(folder / "c" / "9.png", 9)
    x, y = started(folder)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setenv("GANFRAME_CACHE", "off")
        fresh, labels = started(folder)
    assert torch.equal(x, fresh)
    assert torch.equal(y, labels)


@pytest.mark.parametrize("option", [{"size": 4}, {"channels": 1}, {"channels": 4}])
def test_other_options_read_anew(folder, kept, option):
    started(folder)
    x = started(folder, **option)[0]
    assert len(arrays(kept)) == 2
    assert torch.equal(x, started(folder, **option)[0])


def test_another_version_of_pil_reads_anew(folder, kept, read, monkeypatch):
    started(folder)
    monkeypatch.setattr("PIL.__version__", "0.1")
    started(folder)
    assert read.files == 16


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "header"])
def test_a_damaged_file_is_read_anew_and_replaced(folder, kept, read, damage):
    x, _ = started(folder)
    (file,) = arrays(kept)
    whole = bytearray(file.read_bytes())
    if damage == "flipped":
        whole[-1] ^= 1
    elif damage == "short":
        del whole[-5:]
    elif damage == "empty":
        whole.clear()
    else:
        whole[:8] = b"nothing."
    file.write_bytes(whole)
    assert torch.equal(started(folder)[0], x)
    assert read.files == 16
    assert torch.equal(started(folder)[0], x)
    assert read.files == 16


@pytest.mark.parametrize("text", ["", "{", "{}", '{"shape": 3, "deep": false, "paged": 0}', "[1]"])
def test_damaged_headers_are_read_anew(folder, kept, read, text):
    started(folder)
    (file,) = kept.glob("headers-*.json")
    file.write_text(text)
    started(folder)
    assert read.headers == 16


def test_what_changed_just_now_is_not_kept(folder, kept):
    os.utime(folder / "a" / "0.png")
    started(folder)
    assert not kept.exists()


def test_what_changed_while_it_was_read_is_not_kept(folder, kept, monkeypatch):
    own = image_folder.read_image

    def edits(file, *options):
        os.utime(folder / "a" / "0.png", (LONG_AGO + 1, LONG_AGO + 1))
        return own(file, *options)

    monkeypatch.setattr(image_folder, "read_image", edits)
    started(folder)
    assert not arrays(kept)


def test_what_is_read_quickly_is_not_kept(folder, kept, monkeypatch):
    monkeypatch.setattr(kept_images, "WORTH", 1e9)
    started(folder)
    assert not kept.exists()


def test_off_keeps_nothing(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kept_images, "WORTH", 0.0)
    monkeypatch.setenv("GANFRAME_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    started(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]
    assert not capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said_once_and_done_without(folder, tmp_path, kept, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANFRAME_CACHE", str(tmp_path / "file" / "kept"))
    for _ in range(2):
        assert len(started(folder)[0]) == 8
    assert capsys.readouterr().err.count("is not kept for the next start") == 1


def test_a_full_disk_is_done_without(folder, kept, monkeypatch, capsys):
    def full(stream, x):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert len(started(folder)[0]) == 8
    assert "No space left on device" in capsys.readouterr().err
    assert not [path for path in kept.iterdir() if path.suffix != ".json"]


def test_the_disk_is_not_filled(folder, kept, monkeypatch, capsys):
    usage = shutil.disk_usage(kept.parent)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: usage._replace(free=cache.SPARE))
    assert len(started(folder)[0]) == 8
    assert "less than 1 GiB of the disk would be left" in capsys.readouterr().err
    assert not arrays(kept)


def test_errors_of_unreadable_images_are_the_same_and_nothing_is_kept(folder, kept):
    (folder / "a" / "0.png").write_bytes((folder / "a" / "0.png").read_bytes()[:60])
    age(folder)
    with pytest.raises(ValueError, match=r"1 of 8 images cannot be read: .*0\.png \("):
        started(folder)
    assert not arrays(kept)


def test_a_shape_other_than_that_of_the_header_is_refused(folder, monkeypatch):
    monkeypatch.setattr(image_folder, "read_image", lambda *given: torch.zeros(1, 6, 6, dtype=torch.uint8))
    with pytest.raises(ValueError, match="its shape is"):
        started(folder)


def test_lazily_read_images_still_name_the_file(folder):
    data = ImageFolder(str(folder), memory=0.0).build()
    (folder / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(RunError, match=r"1\.png"):
        data[4]


def test_photographs_are_read_by_threads_in_the_same_order(folder, monkeypatch):
    x, y = started(folder)
    names = set()
    own = image_folder.read_image
    monkeypatch.setattr(
        image_folder, "read_image", lambda *given: names.add(threading.current_thread().name) or own(*given)
    )
    monkeypatch.setattr(image_folder, "PHOTOGRAPH", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    again, labels = started(folder)
    assert torch.equal(again, x)
    assert torch.equal(labels, y)
    assert threading.main_thread().name not in names
    for name in ("a/2.png", "b/7.png"):
        (folder / name).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"2 of 8 images cannot be read: .*a/2\.png, .*b/7\.png \("):
        started(folder, size=4)
