"""The fingerprint of files is the same from every working directory."""

from pathlib import Path

from ganframe import list_images
from ganframe.builtin.files import file_fingerprint


def test_names_are_those_below_the_root(tmp_path, monkeypatch):
    for name in ("photos/a/0.png", "photos/a/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)

    def found(root):
        files = list_images(Path(root), deep=True).files
        return file_fingerprint(Path(root), files, [Path(file).stat().st_size for file in files], [0] * len(files))

    whole = found(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    assert found("photos") == whole
    monkeypatch.chdir(tmp_path / "photos")
    assert found(".") == whole
    monkeypatch.chdir(tmp_path / "photos" / "a")
    assert found("..") == whole
    (tmp_path / "photos" / "a" / "1.png").rename(tmp_path / "photos" / "a" / "2.png")
    assert found("..")["file names"] != whole["file names"]
