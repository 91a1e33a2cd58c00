"""The cache folder: where it lies, and what is removed from it."""

import os
import threading
from pathlib import Path

import pytest

from ganframe.builtin import cache


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("GANFRAME_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("GANFRAME_CACHE")
    assert cache.cache_folder() == tmp_path / "xdg" / "ganframe"
    for unusable in ("", "relative"):  # as the XDG specification says
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert cache.cache_folder() == Path.home() / ".cache" / "ganframe"
    monkeypatch.setenv("GANFRAME_CACHE", "off")
    assert cache.cache_folder() is None


def kept(folder, name, size, time):
    file = folder / name
    cache.keep(file, size, lambda partial: partial.write_bytes(b"x" * size))
    os.utime(file, (time, time))
    return file


def test_files_used_longest_ago_are_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "LARGEST", 100)
    first, second = kept(tmp_path, "1.npy", 40, 1000), kept(tmp_path, "2.npy", 40, 2000)
    other = kept(tmp_path, "weights.safetensors", 500, 10)
    cache.used(first)
    third = kept(tmp_path, "3.npy", 40, 3000)
    assert (first.exists(), second.exists(), third.exists(), other.exists()) == (True, False, True, True)


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    old, new = tmp_path / ".1.npy.7-7.partial", tmp_path / ".2.npy.8-8.partial"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    kept(tmp_path, "3.npy", 4, 0)
    assert not old.exists()
    assert new.exists()


def test_several_writers_leave_one_whole_file(tmp_path):
    content = os.urandom(2**20)
    threads = [
        threading.Thread(target=cache.keep, args=(tmp_path / "1.npy", 2**20, lambda file: file.write_bytes(content)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [file.name for file in tmp_path.iterdir()] == ["1.npy"]
    assert (tmp_path / "1.npy").read_bytes() == content


def test_a_failed_write_leaves_nothing_and_keeps_the_old_file(tmp_path):
    kept(tmp_path, "1.npy", 4, 0)

    def fails(partial):
        partial.write_bytes(b"half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        cache.keep(tmp_path / "1.npy", 4, fails)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("1.npy", b"xxxx")]
