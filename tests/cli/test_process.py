import ctypes
import io
import platform
import sys
from types import SimpleNamespace

import pytest
import torch

import ganframe
from ganframe.cli import main
from ganframe.cli.process import keep_freed_memory


@pytest.fixture
def mallopt(monkeypatch):
    """The calls of glibc's mallopt, which are not made."""
    calls = []
    load = ctypes.CDLL
    libc = SimpleNamespace(mallopt=lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(ctypes, "CDLL", lambda name, *rest, **more: load(name, *rest, **more) if name else libc)
    monkeypatch.setattr(platform, "libc_ver", lambda *arguments: ("glibc", "2.36"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    keep_freed_memory.cache_clear()
    yield calls
    keep_freed_memory.cache_clear()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "none.toml"],
        ["run", "--resume", "none"],
        ["check", "none.toml"],
        ["divergence", "none.toml"],
        ["lipschitz", "none"],
        ["sample", "none"],
        ["interpolate", "none"],
        ["arithmetic", "none", "1"],
    ],
)
def test_commands_that_use_networks_keep_freed_memory(call, mallopt, arguments):
    for _ in range(2):
        call(*arguments, code=2)
    assert mallopt == [(-4, 0), (-1, -1)]  # M_MMAP_MAX, M_TRIM_THRESHOLD; once a process


def test_a_call_from_python_leaves_malloc_alone(mallopt, tiny, tmp_path, call):
    ganframe.resume(ganframe.run(ganframe.load_recipe(tiny()), tmp_path / "run").folder, ["train.steps=7"])
    ganframe.load_generator(tmp_path / "run").sample(2)
    call("plugins")
    assert mallopt == []


@pytest.mark.parametrize("reason", ["a GPU", "another libc"])
def test_memory_is_not_kept(mallopt, monkeypatch, reason):
    if reason == "a GPU":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    else:
        monkeypatch.setattr(platform, "libc_ver", lambda *arguments: ("", ""))
    keep_freed_memory()
    assert mallopt == []


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "utf-8"])
@pytest.mark.parametrize(
    "arguments", [["describe", "term", "sorted"], ["describe", "objective", "vanilla"], ["--help"]]
)
def test_terminals_that_lack_a_character_are_printed_to(install, monkeypatch, encoding, arguments):
    """As on Windows, whose terminals have cp1252."""
    install("ganframe-sorted", SORTED)
    stream = io.TextIOWrapper(io.BytesIO(), encoding)  # strict, as standard output is
    monkeypatch.setattr(sys, "stdout", stream)
    main(arguments, standalone_mode=False)
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)
    assert "Usage" in shown or arguments[2] in shown
    if arguments[1:] == ["term", "sorted"]:
        assert ("∇" if encoding == "utf-8" else "?") in shown


SORTED = """
import attrs
from ganframe import Term, hookimpl

@attrs.frozen
class Sorted(Term):
    "The mean of ‖∇D(x)‖², of sorted samples 整列."

@hookimpl
def ganframe_terms():
    return {"sorted": Sorted}
"""


def test_torch_is_imported_once_and_left_out_of_the_search_for_garbage(python):
    source = """
import gc, sys
from ganframe.cli.process import import_torch
import_torch()
assert "torch" in sys.modules and gc.isenabled()
frozen = gc.get_freeze_count()
assert frozen > 100_000, frozen
gc.unfreeze()
import_torch()
assert gc.get_freeze_count() == 0
"""
    done = python("-c", source)
    assert done.returncode == 0, done.stderr
