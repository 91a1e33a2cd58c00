"""Whether this machine sees the locks of workers on others. Other machines are played by files of other names."""

import threading

import pytest
from filelock import FileLock

from ganframe import RequestError
from ganframe.studies import presence
from ganframe.studies.folder import keep_study
from ganframe.studies.presence import present
from ganframe.studies.reading import read_study


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The file of a worker on another machine."""
    monkeypatch.setattr(presence, "BEAT", 0.1)
    monkeypatch.setattr(presence, "SILENCE", 1.0)
    file = tmp_path / "study" / ".worker-node-7-123-abc"
    file.parent.mkdir(parents=True)
    file.touch()
    return file


@pytest.fixture
def alive(elsewhere):
    """That worker goes on touching its file."""
    ended = threading.Event()

    def beat():
        while not ended.wait(0.05):
            elsewhere.touch()

    thread = threading.Thread(target=beat)
    thread.start()
    yield elsewhere
    ended.set()
    thread.join()


def test_worker_of_another_machine_whose_lock_is_seen_is_welcome(alive):
    with FileLock(alive), present(alive.parent):
        assert len(list(alive.parent.iterdir())) == 2
    assert list(alive.parent.iterdir()) == [alive]


def test_lock_of_another_machine_that_is_not_seen_is_refused(alive, write_study):
    folder = alive.parent
    said = r"locks do not hold in this folder.*: the locks of node-7 are not seen here"
    with pytest.raises(RequestError, match=said), present(folder):
        raise AssertionError
    with pytest.raises(RequestError, match="locks do not hold in this folder"):
        keep_study(folder, read_study(write_study()))
    assert list(folder.iterdir()) == [alive]


def test_file_of_a_dead_worker_is_removed(elsewhere):
    with present(elsewhere.parent):
        assert not elsewhere.exists()
    assert list(elsewhere.parent.iterdir()) == []


def test_worker_touches_its_file_until_it_ends(elsewhere):
    with present(elsewhere.parent):
        (own,) = elsewhere.parent.iterdir()
        first = own.stat().st_mtime_ns
        deadline = threading.Event()
        for _ in range(50):
            if own.stat().st_mtime_ns != first:
                break
            deadline.wait(0.1)
        assert own.stat().st_mtime_ns != first
