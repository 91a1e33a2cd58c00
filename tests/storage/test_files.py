"""Atomic writing, and what it is made of."""

import hashlib

import pytest

from ganframe.storage import files


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
