"""ganframe evaluate."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ganframe.builtin.distributions import Ring


@pytest.fixture
def samples(tmp_path):
    """A file of 2,500 exact samples of a ring."""
    x, _ = Ring().build().draw(2500, torch.Generator().manual_seed(3))
    np.save(tmp_path / "ring.npy", x.numpy())
    return tmp_path / "ring.npy"


def test_scores_are_printed_with_their_protocol(call, tiny, samples):
    printed = call("evaluate", samples, "--data", tiny()).output
    assert "high_quality" in printed
    assert "modes: 2,500 generated samples" in printed


def test_json_is_a_list_of_scores(call, tiny, samples):
    (score,) = json.loads(call("evaluate", samples, "--data", tiny(), "--metric", "modes", "--json").stdout)
    assert score["modes"] == 8
    assert 0.98 < score["high_quality"] < 0.995
    assert score["kl"] < 0.01
    assert score["protocol"]["samples"] == 2500


def test_metric_takes_options(call, tiny, samples):
    asked = '{ use = "modes", sigmas = 1.0, samples = 500 }'
    (score,) = json.loads(call("evaluate", samples, "--data", tiny(), "--metric", asked, "--json").stdout)
    assert score["protocol"]["options"] == {"sigmas": 1.0}
    assert score["protocol"]["samples"] == 500
    (fewer,) = json.loads(
        call("evaluate", samples, "--data", tiny(), "--metric", asked, "--samples", 70, "--json").stdout
    )
    assert fewer["protocol"]["samples"] == 70


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("mods", "--metric mods: unknown metric 'mods'; did you mean 'modes'?\n"),
        ("{ use = 'modes', sigma = 1 }", "sigma: unknown option; did you mean 'sigmas'?\n"),
        ("{ use = 'modes', sigmas = -1.0 }", "sigmas: must be > 0"),
        ("{ use = 'modes', samples = 1 }", "samples: must be >= 2"),
        ("{ use = modes }", "is no table of TOML"),
        ("ring", "unknown metric 'ring'; 'ring' is of kind dataset\n"),
    ],
)
def test_metric_that_does_not_exist_is_refused_in_one_line(call, tiny, samples, asked, message):
    told = call("evaluate", samples, "--data", tiny(), "--metric", asked, code=2).stderr
    assert message in told
    assert told.count("\n") == 1


def test_metric_that_does_not_suit_the_data_is_refused(call, tiny, samples):
    told = call("evaluate", samples, "--data", tiny("", "roll.toml"), "--metric", "modes").output
    assert "modes" in told
    text = tiny("", "roll.toml").read_text().replace('"ring"', '"swiss_roll"')
    tiny("", "roll.toml").with_name("swiss.toml").write_text(text)
    told = call("evaluate", samples, "--data", "swiss.toml", "--metric", "modes", code=2).stderr
    assert told == (
        "swiss.toml: metric modes: it needs a mixture whose modes are known, as ring and grid are; this dataset does "
        "not tell them\n"
    )


def test_run_is_judged_by_its_own_data(call, tiny):
    call("run", tiny(), "--out", "made")
    (score,) = json.loads(call("evaluate", "made", "--json").stdout)
    assert score["judged"]["step"] == 6
    assert json.loads(Path("made/evaluations.jsonl").read_text()) == score
