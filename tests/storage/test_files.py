"""Atomic writing, and what it is made of."""

import errno
import hashlib
import os
import pathlib
import sys
from contextlib import nullcontext

import pytest
import torch

from ganframe.storage import files
from ganframe.storage.conditions import save_conditions
from ganframe.storage.weights import save_weights


@pytest.mark.skipif(sys.platform == "win32", reason="it has other permissions")
def test_weights_have_the_permissions_of_any_new_file(tmp_path):
    save_weights(torch.nn.Linear(1, 1), tmp_path / "weights")
    save_conditions(tmp_path / "conditions", torch.zeros(1, 2))
    (tmp_path / "other").touch()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"weights": modes["other"], "conditions": modes["other"], "other": modes["other"]}


def test_file_system_without_permissions_is_no_fault(tmp_path, monkeypatch):
    def refuses(self, mode):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(pathlib.Path, "chmod", refuses)
    save_weights(torch.nn.Linear(1, 1), tmp_path / "weights")
    assert (tmp_path / "weights").is_file()


def test_text_that_fails_to_be_written_leaves_the_old_one(tmp_path):
    file = tmp_path / "recipe.toml"
    files.write_text(file, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(file, "new \ud800")
    assert file.read_text() == "old"
    files.write_text(file, "größer")
    assert file.read_text(encoding="utf-8") == "größer"
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_interrupted_writing_leaves_nothing(tmp_path, error):
    file = tmp_path / "weights"

    def write(partial):
        assert partial.parent == tmp_path
        partial.write_bytes(b"half")
        raise error

    with pytest.raises(error):
        files.write_atomically(file, write)
    assert list(tmp_path.iterdir()) == []


def test_delete_removes_files_folders_and_links_themselves(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    for path in (tmp_path / "file", tmp_path / "folder", tmp_path / "link", tmp_path / "missing"):
        if path.name == "file":
            path.touch()
        elif path.name == "folder":
            (path / "inner").mkdir(parents=True)
        elif path.name == "link":
            path.symlink_to(outside)
        files.delete(path)
    assert list(tmp_path.iterdir()) == [outside]
    assert (outside / "kept").exists()


def test_checksum_is_the_sha_256_of_the_contents(tmp_path):
    (tmp_path / "file").write_bytes(b"contents")
    assert files.checksum(tmp_path / "file") == hashlib.sha256(b"contents").hexdigest()


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("\n  first \nsecond", "first"),
        ("Error(s) in loading:\n\tMissing key\n\tmore", "Error(s) in loading: Missing key"),
        ("", "OSError"),
    ],
)
def test_first_line_of_an_error(message, line):
    assert files.first_line(OSError(message)) == line


def test_windows_syncs_files_opened_for_writing_and_no_folders(tmp_path, monkeypatch):
    """There, os.open refuses folders, and fsync refuses what is open for reading."""
    opened, plain = [], os.open
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(files.os, "open", lambda path, flags: opened.append((path, flags)) or plain(path, flags))
    files.sync(tmp_path)
    files.sync(tmp_path / "file")
    assert opened == [(tmp_path / "file", os.O_RDWR)]


@pytest.mark.parametrize(
    ("code", "kind", "raised"), [("EINVAL", "folder", False), ("EINVAL", "file", True), ("EIO", "folder", True)]
)
def test_folder_that_a_file_system_cannot_sync_is_passed_by(tmp_path, monkeypatch, code, kind, raised):
    def fail(descriptor):
        raise OSError(getattr(errno, code), "fsync failed")

    path = tmp_path / "file"
    path.touch()
    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="fsync failed") if raised else nullcontext():
        files.sync(tmp_path if kind == "folder" else path)
