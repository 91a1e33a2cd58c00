"""The scripts in tests/measure, on samples whose score is known."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import ganframe


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "measure" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "modes"), [("ring", 8), ("grid", 25)])
def test_perfect_sampler_captures_all_modes_with_98_889_percent_high_quality(name, modes):
    data = ganframe.component("dataset", name)().build()
    samples, _ = data.draw(1_000_000, torch.Generator().manual_seed(0))
    captured, high = script("modes").mode_count(samples, data.means, data.stds[0].item())
    assert captured == modes
    assert high == pytest.approx(0.98889, abs=5e-4)  # 1 - exp(-4.5)


def test_mode_count_of_two_modes_and_of_samples_beside_the_modes():
    data = ganframe.component("dataset", "ring")().build()
    mode_count = script("modes").mode_count
    assert mode_count(data.means[[0, 3]].repeat(50, 1), data.means, 0.01) == (2, 1.0)
    assert mode_count(data.means + 0.05, data.means, 0.01) == (0, 0.0)


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
