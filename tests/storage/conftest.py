"""Fixtures that the tests of storage share."""

import io
import pickle
import zipfile

import pytest
import torch
from torch import nn

from ganframe.storage import run_folder


@pytest.fixture
def folder(tmp_path):
    """The folder of a new run."""
    return run_folder.create("name", tmp_path / "run")


@pytest.fixture
def network():
    """network(seed=0, features=3): a small network, the same for the same seed."""

    def build(seed=0, features=3):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, features), nn.BatchNorm1d(features), nn.Linear(features, 1))

    return build


@pytest.fixture
def assert_same_weights():
    def check(first, second):
        ours, theirs = first.state_dict(), second.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    return check


class Exploit:
    """Unpickled, it writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (exec, (f"open({str(self.target)!r}, 'w').close()",))


@pytest.fixture
def executed(tmp_path):
    """The file that a poisoned file writes where its code is executed."""
    return tmp_path / "executed"


@pytest.fixture
def poisoned(executed):
    """poisoned(form): the bytes of a file with code in it."""

    def make(form):
        buffer = io.BytesIO()
        if form == "torch":
            torch.save({"step": 4, "random_states": Exploit(executed)}, buffer)
        elif form == "legacy torch":
            torch.save({"step": 4, "random_states": Exploit(executed)}, buffer, _use_new_zipfile_serialization=False)
        elif form == "pickle":
            pickle.dump(Exploit(executed), buffer)
        else:
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("archive/data.pkl", pickle.dumps(Exploit(executed)))
                archive.writestr("archive/version", "3\n")
        return buffer.getvalue()

    return make
