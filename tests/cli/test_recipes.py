"""`ganframe recipes` lists and copies; commands take an installed recipe by its name."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_list_has_each_recipe_with_its_command_and_a_line(call):
    lines = call("recipes").output.splitlines()
    at = next(at for at, line in enumerate(lines) if line.split()[:2] == ["wgan_sn", "run"])
    shown = " ".join(" ".join(lines[at : at + 2]).split())
    assert "WGAN with spectral normalisation on scikit-learn's digits: one or two minutes" in shown
    assert any(line.split()[:2] == ["theory/approaching_clouds", "divergence"] for line in lines)


def test_copy_writes_a_file_and_overwrites_none(call, tmp_path):
    assert (
        "vanilla_ring.toml: edit it, then: ganframe run vanilla_ring.toml"
        in call("recipes", "copy", "vanilla_ring").output
    )
    written = (tmp_path / "vanilla_ring.toml").read_text(encoding="utf-8")
    assert written == (ROOT / "recipes" / "vanilla_ring.toml").read_text(encoding="utf-8")
    assert "exists already" in call("recipes", "copy", "vanilla_ring", code=2).output
    call("recipes", "copy", "studies/digits", "new/mine.toml")
    assert 'base = "wgan_sn"' in (tmp_path / "new" / "mine.toml").read_text(encoding="utf-8")
    (tmp_path / "folder").mkdir()
    call("recipes", "copy", "gan_1d", "folder")
    assert (tmp_path / "folder" / "gan_1d.toml").is_file()
    assert "cannot be written" in call("recipes", "copy", "gan_1d", "vanilla_ring.toml/x.toml", code=2).output


def test_copy_of_an_unknown_name_says_which_are_near(call):
    assert "did you mean 'vanilla_ring'?" in call("recipes", "copy", "vanila_ring", code=2).output
    assert "needs the NAME" in call("recipes", "copy", code=2).output


def test_run_and_check_take_a_name(call, tmp_path):
    few = ("--set", "train.steps=2", "--set", "train.batch_size=8")
    assert "vanilla_ring: sound" in call("check", "vanilla_ring", *few).output
    assert "done: runs/vanilla_ring/1/" in call("run", "vanilla_ring", *few).output
    assert "did you mean 'vanilla_ring'?" in call("run", "vanila_ring", code=2).output
