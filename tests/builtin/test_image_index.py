"""The index of a folder of images: taken once, taken anew where anything has changed."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganframe.builtin import image_index
from ganframe.builtin.image_folder import ImageFolder

LONG_AGO = 1_600_000_000  # seconds


@pytest.fixture
def folder(tmp_path):
    """Two classes with subfolders, changed last long ago."""
    for name in ("a/1.png", "a/x/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    age(tmp_path)
    return tmp_path


def age(folder):
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (LONG_AGO, LONG_AGO))


def test_a_folder_is_listed_once_for_spec_build_and_fingerprint(folder, monkeypatch):
    listed, own = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or own(path))
    config = ImageFolder(str(folder))
    assert config.spec.classes == 2
    assert len(config.build()) == 3
    assert config.fingerprint()
    assert config.spec.classes == 2
    assert sorted(path for path in listed if path.startswith(str(folder))) == sorted(
        str(folder / name) for name in ("", "a", "a/x", "b")
    )


@pytest.mark.parametrize("change", ["added", "added deep", "new class", "removed", "edited", "touched"])
def test_a_changed_folder_is_listed_again(folder, change):
    config = ImageFolder(str(folder))
    first = image_index.index_of(folder, 3)
    assert image_index.index_of(folder, 3) is first
    if change == "removed":
        (folder / "a" / "1.png").unlink()
    elif change == "touched":
        os.utime(folder / "a" / "1.png", (LONG_AGO + 9, LONG_AGO + 9))
    else:
        names = {"added": "a/4.png", "added deep": "a/x/4.png", "new class": "c/4.png", "edited": "b/3.png"}
        (folder / names[change]).parent.mkdir(exist_ok=True)
        Image.fromarray(np.ones((4, 4, 3), np.uint8)).save(folder / names[change])
    assert image_index.index_of(folder, 3) is not first
    assert len(config.build()) == {"removed": 2, "edited": 3, "touched": 3}.get(change, 4)


def test_a_folder_that_changed_just_now_is_listed_each_time(folder):
    os.utime(folder / "a" / "1.png")
    assert image_index.index_of(folder, 3) is not image_index.index_of(folder, 3)


def test_a_relative_folder_is_that_of_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert image_index.index_of(Path("b"), 3).files == [os.path.join("b", "3.png")]
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ValueError, match="b: no such folder"):
        image_index.index_of(Path("b"), 3)
