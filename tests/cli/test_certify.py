"""`ganframe certify`: what it prints, its exit codes, and --verify."""

from __future__ import annotations

import json

import numpy as np
import pytest


@pytest.fixture
def files(tmp_path):
    draws = np.random.RandomState(0)
    np.save(tmp_path / "x.npy", draws.randn(400, 2))
    np.save(tmp_path / "y.npy", draws.randn(400, 2) + np.array([3, 0]))


def test_certify_and_verify_files(call, files, tmp_path):
    result = call("certify", "--data", "x.npy", "--against", "y.npy", "--set", "train.steps=20", "--delta", ".1")
    assert "with 90 % confidence W1 is at least" in result.output
    assert "the data against itself: at least 0" in result.output
    folder = tmp_path / "certificates" / "x" / "1"
    written = json.loads((folder / "certificate.json").read_text())
    assert written["certified"] > 1
    assert written["confidence"] == 0.9
    assert written["null"]["certified"] == 0
    verified = call("certify", "--verify", folder)
    assert f"verified: {written['says']}" in verified.output
    assert "not obtained: that the critics were trained" in verified.output


def test_tampered_certificate_exits_with_2_and_one_line(call, files, tmp_path):
    call("certify", "--data", "x.npy", "--against", "y.npy", "--set", "train.steps=5", "--out", "out")
    file = tmp_path / "out" / "certificate.json"
    file.write_text(file.read_text().replace('"confidence": 0.95', '"confidence": 0.99'))
    result = call("certify", "--verify", "out", code=2)
    assert result.output.count("\n") == 1
    assert "out/certificate.json: confidence: the file says 0.99, and delta give" in result.output


def test_nothing_proved_is_said(call, files, tmp_path):
    np.save(tmp_path / "same.npy", np.random.RandomState(5).randn(400, 2))
    result = call("certify", "--data", "x.npy", "--against", "same.npy", "--set", "train.steps=5")
    assert "nothing is proved" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give a run, or two sides: --data X --against Y"),
        (("nothing",), "nothing: not the folder of a run"),
        (("--data", "x.npy", "--against", "x.npy"), "both sides are the same set of samples"),
        (("--data", "x.npy", "--against", "y.npy", "--delta", "1"), "the risk must be between 0 and 1"),
        (("--verify", "x.npy"), "x.npy: not a certificate"),
        (("run", "--verify", "out"), "--verify FILE takes no run"),
        (("--data", "x.npy", "--against", "y.npy", "--set", "terms=[]"), "a critic has no table [terms]"),
    ],
)
def test_wrong_requests_exit_with_2_and_one_line(call, files, arguments, said):
    result = call("certify", *arguments, code=2)
    assert said in result.output
    assert result.output.count("\n") == 1
