"""The scripts in tests/measure, on samples whose score is known."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

import ganframe


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "measure" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_classifier_is_confident_on_scans_and_not_on_noise():
    digits = script("digits")
    machine, accuracy, sure = digits.classifier()
    assert accuracy >= digits.ACCURACY
    assert sure > 0.9
    images = torch.stack([x for x, _ in ganframe.component("dataset", "digits")().build()][:200])
    seen = machine.predict_proba(digits.eight(images.float() / 127.5 - 1)).max(1)
    assert (seen > digits.SURE).mean() > 0.9
    noise = torch.rand(500, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert (machine.predict_proba(digits.eight(noise)).max(1) > digits.SURE).mean() < digits.SHARE
