"""The lessons under recipes/theory/: each recipe loads, and a short run of each lesson shows its result."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path

import pytest

import ganframe
from ganframe.analysis import divergence
from ganframe.recipes.reading import load_comparison

ROOT = Path(__file__).parent.parent
THEORY = ROOT / "recipes" / "theory"
RECIPES = {path.stem: path for path in THEORY.glob("*.toml")}
README = (THEORY / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def lessons(install_package, monkeypatch):
    """The script, with the packages that it needs installed and fewer samples to judge by."""
    for name in ("fgan", "lipschitz", "r3gan", "translate"):
        install_package(ROOT / "plugins" / f"ganframe-{name}")
    monkeypatch.setattr(divergence, "JUDGED_LAST", (20_000, 50_000))
    monkeypatch.setattr(divergence, "TRANSPORTED", 100)
    spec = importlib.util.spec_from_file_location("lessons", THEORY / "lessons.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_recipe_has_a_lesson_a_picture_and_a_row(lessons):
    rows = re.findall(r"^\| .* \| `(\w+)\.toml` \| `(\w+)` \|", README, re.MULTILINE)
    assert {name for name, _ in rows} == RECIPES.keys() == lessons.LESSONS.keys()
    for name, command in rows:
        assert f"]({name}.png)" in README
        assert 10_000 < (THEORY / f"{name}.png").stat().st_size < 300_000
        load = ganframe.load_recipe if command == "run" else load_comparison
        load(RECIPES[name])


def test_optimal_discriminator(lessons, tmp_path):
    (row,) = lessons.optimal_discriminator(tmp_path, ["train.steps=300", "train.batch_size=512"])
    assert row["mean |D - p/(p+q)|"] < 0.05
    assert row["V"] == pytest.approx(row["exact"], abs=0.05)


@pytest.mark.slow
def test_value_at_the_optimum(lessons, tmp_path):
    rows = lessons.value_at_the_optimum(tmp_path, ["train.steps=60", "train.batch_size=512"])
    exact = [row["-log 4 + 2 JSD"] for row in rows]
    assert exact == sorted(exact)
    assert exact[0] == pytest.approx(-math.log(4), abs=1e-4)
    assert all(row["V"] == pytest.approx(row["-log 4 + 2 JSD"], abs=0.1) for row in rows)


@pytest.mark.slow
def test_jsd_stays_at_log_2_while_w1_falls(lessons, tmp_path):
    rows = lessons.approaching_clouds(tmp_path, ["train.steps=100", "log.every=50"])
    assert [row["exact W1"] for row in rows] == pytest.approx([row["apart"] for row in rows], abs=1e-3)
    assert all(row["JSD"] == pytest.approx(math.log(2), abs=0.1) for row in rows[:3])
    w1 = [row["W1"] for row in rows]
    assert w1 == sorted(w1, reverse=True)
    assert w1[0] == pytest.approx(2, rel=0.2)


def test_confident_discriminator_stops_only_the_vanilla_generator(lessons, tmp_path):
    rows = lessons.generator_losses(tmp_path, ["train.steps=40"])
    vanilla, non_saturating, likelihood = rows
    slopes = [row["slope at D = .01"] for row in rows]
    assert slopes == pytest.approx([-0.01, -0.99, -0.01 / 0.99])
    assert vanilla["mean of G, data at 6"] < 1.5
    assert non_saturating["mean of G, data at 6"] > 4
    assert likelihood["objective"] == "maximum_likelihood"


@pytest.mark.slow
def test_kl_covers_modes_and_reverse_kl_seeks_one(lessons, tmp_path):
    """On a mixture with a smaller second mode, so that a short run is enough."""
    short = ["train.steps=400", "train.batch_size=256", "train.ema=0.95", "dataset.weights=[0.1, 0.9]"]
    ends = [f"optimizer.{player}.schedule.total_iters=400" for player in ("generator", "discriminator")]
    kl, reverse = lessons.mode_seeking(tmp_path, [*short, *ends])
    moments = (0.1 * -1.0 + 0.9 * 1.5, math.sqrt(0.25 + 0.09 * 2.5**2))  # KL's minimiser has those of the data
    assert (kl["best μ"], kl["best σ"]) == pytest.approx(moments, abs=1e-3)
    assert (reverse["best μ"], reverse["best σ"]) == pytest.approx((1.49, 0.51), abs=0.01)
    for row in (kl, reverse):
        assert (row["μ"], row["σ"]) == pytest.approx((row["best μ"], row["best σ"]), abs=0.1)


def test_dirac_games_that_converge(lessons, tmp_path):
    found = {row["game"]: row["distance at the end"] for row in lessons.dirac(tmp_path, ["train.steps=90"])}
    home = {"vanilla, instance noise", "vanilla, R1", "wgan, R1"}
    assert {name for name, distance in found.items() if distance < 0.1} == home
    assert all(distance > 0.9 for name, distance in found.items() if name not in home)


def test_clipped_weights_accumulate_at_the_limit(lessons, tmp_path):
    short = ["train.steps=60", "train.batch_size=64", "optimizer.discriminator.lr=1e-3"]
    clipping, penalty = lessons.clipped_weights(tmp_path, short)
    assert clipping["largest"] == pytest.approx(0.01)
    assert clipping["within 1 % of the largest"] > 0.3
    assert penalty["within 1 % of the largest"] < 0.01
    assert (tmp_path / "clipped_weights.png").stat().st_size > 10_000


def test_why_a_distribution_compares_losses_and_draws_their_samples(lessons, tmp_path):
    """Four short runs: the table and the picture, and that nothing is hit before G has learnt."""
    short = [
        "train.steps=3",
        "train.batch_size=8",
        "generator.width=4",
        "discriminator.width=4",
        "metrics.0.samples=3200",
    ]
    rows = lessons.why_a_distribution(tmp_path, short)
    assert [row["trained by"] for row in rows] == list(lessons.LOSSES)
    assert all(row["hit"] == 0 and row["nearest"] > 0.5 for row in rows)
    assert (tmp_path / "why_a_distribution.png").stat().st_size > 10_000


def test_script_prints_a_table_and_refuses_unknown_names(lessons, tmp_path, monkeypatch, capsys):
    few = ["--set", "train.steps=5", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["lessons.py", "optimal_discriminator", *few])
    lessons.main()
    assert "| mean |D - p/(p+q)| | V | exact |" in capsys.readouterr().out
    assert (tmp_path / "optimal_discriminator" / "numbers.json").exists()
    for wrong, message in ((["diracs"], "no lesson diracs"), (["dirac", "--set", "train.step=1"], "train.step")):
        monkeypatch.setattr("sys.argv", ["lessons.py", *wrong, "--out", str(tmp_path / "wrong")])
        with pytest.raises(SystemExit) as stopped:
            lessons.main()
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
