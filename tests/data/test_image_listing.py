"""Which files of a folder are images: hidden files, links, suffixes, content."""

import numpy as np
import pytest
from PIL import Image

from ganframe.data.image_listing import find_images, is_hidden


def grey(file, form=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4)).save(file, format=form)
    return file


def names(folder, channels=3, deep=True):
    return [file.relative_to(folder).as_posix() for file in find_images(folder, channels, deep)[0]]


@pytest.mark.parametrize(
    "name", [".a.png", "._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints", "__MACOSX"]
)
def test_what_systems_leave_is_hidden(name):
    assert is_hidden(name)
    assert not is_hidden("a.b.png")


def test_hidden_files_and_folders_are_passed_by_at_any_depth(tmp_path):
    grey(tmp_path / "a" / "b" / "1.png")
    for hidden in (
        "._1.png",
        ".ipynb_checkpoints/1.png",
        "a/.x/1.png",
        "a/b/._1.png",
        "a/b/.x/c/1.png",
        "__MACOSX/1.png",
    ):
        grey(tmp_path / hidden)
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    found, others = find_images(tmp_path, deep=True)
    assert found == [tmp_path / "a" / "b" / "1.png"]
    assert not others


SUFFIXES = [".png", ".PNG", ".JPG", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".TIFF", ".pgm", ".tga", ".jp2"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_are_found_by_suffix(tmp_path, suffix):
    grey(tmp_path / f"a{suffix}")
    assert names(tmp_path) == [f"a{suffix}"]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_images_of_other_names_are_found_by_content(tmp_path, form):
    for name in ("plain", "a.part", "b.dat", "ü.bild"):
        grey(tmp_path / name, form)
    assert names(tmp_path) == ["a.part", "b.dat", "plain", "ü.bild"]


def test_files_that_are_no_images_are_counted_by_kind(tmp_path):
    grey(tmp_path / "a.png")
    for name, content in (
        ("a.txt", b"BM"),
        ("b.txt", b""),
        ("c.json", b"{}"),
        ("README", b"P5"),
        ("d.mp4", b"\0" * 99),
    ):
        (tmp_path / name).write_bytes(content)
    found, others = find_images(tmp_path)
    assert found == [tmp_path / "a.png"]
    assert others == {".txt": 2, ".json": 1, "without suffix": 1, ".mp4": 1}


def test_linked_folders_and_files_are_followed(tmp_path):
    grey(tmp_path / "elsewhere" / "deep" / "1.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "0.png").symlink_to(tmp_path / "elsewhere" / "deep" / "1.png")
    assert names(root) == ["0.png", "linked/deep/1.png"]


def test_links_that_lead_round_and_broken_links_are_counted(tmp_path):
    grey(tmp_path / "root" / "cats" / "1.png")
    grey(tmp_path / "root" / "dogs" / "2.png")
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "root" / "cats" / "up").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "cats" / "self").symlink_to(tmp_path / "root" / "cats")
    (tmp_path / "root" / "cats" / "away").symlink_to(other)
    (other / "back").symlink_to(tmp_path / "root" / "cats")
    (tmp_path / "root" / "cats" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found, others = find_images(tmp_path / "root" / "cats", deep=True)
    assert found == [tmp_path / "root" / "cats" / "1.png"]
    assert others == {"links to a folder above": 3, "broken links": 1}


def test_the_same_folder_may_be_linked_twice(tmp_path):
    grey(tmp_path / "real" / "1.png")
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(tmp_path / "real")
    assert names(tmp_path) == ["a/1.png", "b/1.png", "real/1.png"]


def test_arrays_are_images_where_there_are_no_others(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 4, 4)))
    np.savez(tmp_path / "b.npz", np.zeros((5, 4, 4)))
    assert names(tmp_path) == names(tmp_path, 5) == ["a.npy", "b.npz"]
    grey(tmp_path / "c.png")
    assert names(tmp_path) == ["c.png"]
    assert find_images(tmp_path)[1] == {".npy": 1, ".npz": 1}
    grey(tmp_path / "d.tif")
    assert names(tmp_path, 5) == ["a.npy", "b.npz", "d.tif"]
    assert find_images(tmp_path, 5)[1] == {".png": 1}
