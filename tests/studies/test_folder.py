"""A study's folder keeps the study that it is of, and locks must hold in it."""

import os
import threading

import pytest

from ganframe import RequestError
from ganframe.studies import folder as folders
from ganframe.studies.folder import keep_study
from ganframe.studies.reading import read_study


def test_same_study_is_continued_and_another_one_refused(write_study, tmp_path):
    out = tmp_path / "out"
    keep_study(out, read_study(write_study()))
    before = (out / "study.toml").read_bytes()
    keep_study(out, read_study(write_study()))
    for changed, edit in [
        (read_study(write_study(), ["seeds=[0, 1, 2]"]), "seeds was [0, 1] and is [0, 1, 2]"),
        (read_study(write_study(), ["train.steps=7"]), "base.train.steps was 6 and is 7"),
        (read_study(write_study(base="critic_steps = 2")), 'base.train.critic_steps was "not there" and is 2'),
        (read_study(write_study('[[axes.a]]\nname = "b"\n')), "another study"),
    ]:
        with pytest.raises(RequestError, match="holds another study") as caught:
            keep_study(out, changed)
        assert edit.replace('"not there"', "not there") in str(caught.value)
        assert "\n" not in str(caught.value)
    assert (out / "study.toml").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == [".lock", "study.toml"]


def test_folder_with_other_files_is_refused(write_study, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    with pytest.raises(RequestError, match="is not the folder of a study"):
        keep_study(out, read_study(write_study()))
    with pytest.raises(RequestError, match="is not a folder"):
        keep_study(out / "thesis.tex", read_study(write_study()))
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_damaged_copy_of_the_study_is_refused(write_study, tmp_path):
    out = tmp_path / "out"
    keep_study(out, read_study(write_study()))
    (out / "study.toml").write_text("base = ")
    with pytest.raises(RequestError, match=r"study\.toml: cannot be read"):
        keep_study(out, read_study(write_study()))


@pytest.mark.parametrize(
    ("hold", "fault"),
    [
        ("import sys\nprint('held', flush=True)\nsys.stdin.read()", "two processes hold the same lock"),
        ("raise OSError('No locks available')", r"a file cannot be locked here \(OSError: No locks available\)"),
    ],
)
def test_folder_where_locks_do_not_hold_is_refused_and_not_made(write_study, tmp_path, monkeypatch, hold, fault):
    monkeypatch.setattr(folders, "HOLD", hold)
    with pytest.raises(RequestError, match=fault):
        keep_study(tmp_path / "out", read_study(write_study()))
    assert not (tmp_path / "out").exists()


SURVIVED = """
import fcntl, os, sys, time
opened = open(sys.argv[1], "w")
fcntl.flock(opened, fcntl.LOCK_EX)
if os.fork() == 0:  # it shares the lock, and lives on
    os.closerange(0, 3)
    time.sleep(3)
    os._exit(0)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_folder_where_the_dead_keep_their_locks_is_refused(write_study, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "HOLD", SURVIVED)
    monkeypatch.setattr(folders, "PATIENCE", 0.1)
    with pytest.raises(RequestError, match="a dead process still holds its lock"):
        keep_study(tmp_path / "out", read_study(write_study()))
    assert not (tmp_path / "out").exists()


def test_processes_that_begin_a_study_at_once_agree_on_one(write_study, tmp_path):
    files = [read_study(write_study(), [f"train.steps={steps}"]) for steps in (3, 4, 5)]
    refused = []

    def begin(file):
        try:
            keep_study(tmp_path / "out", file)
        except RequestError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=begin, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 2
    assert all("holds another study" in line for line in refused)
