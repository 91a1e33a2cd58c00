"""ganframe compare: scores that are alike in one row, reused where they are known, pictures of all runs."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganframe
from ganframe.analysis import compare as comparison
from ganframe.analysis.differing import in_words
from ganframe.report.page_of_run import write_run_page
from ganframe.storage.evaluations import read_evaluations
from ganframe.storage.run_folder import RunFolder
from ganframe.storage.weights import save_generator


@pytest.fixture
def pair(runs, tmp_path):
    """pair("ring", "uniform"): copies of runs, which may be changed."""

    def copy(*names):
        return [shutil.copytree(runs[name], tmp_path / name) for name in names]

    return copy


def test_scores_are_those_of_evaluate_and_are_added_to_each_run(pair, tmp_path):
    ring, uniform = pair("ring", "uniform")
    found = ganframe.compare([ring, uniform], samples=200, out=tmp_path / "out")
    assert found.names == ("ring", "uniform")
    for run, scores, column in zip((ring, uniform), found.scores, (0, 1), strict=True):
        (expected,) = ganframe.evaluate(run, samples=200)
        assert scores == read_evaluations(RunFolder(run))[:1]
        assert {**scores[0], "judged": None} == {**expected, "judged": None}
        assert {line.number: line.values[column] for line in found.lines} == {
            name: expected[name] for name in ("modes", "high_quality", "kl")
        }
    assert [line.better for line in found.lines] == ["higher", "higher", "lower"]
    written = json.loads((found.folder / "compare.json").read_text())
    assert [one["name"] for one in written] == ["ring", "uniform"]
    assert [one["scores"] for one in written] == [*found.scores]


def test_scores_of_these_weights_by_the_same_protocol_are_not_found_again(pair, tmp_path, monkeypatch):
    runs = pair("ring", "uniform")
    judged = []
    plain = comparison.scores_of_run
    monkeypatch.setattr(
        comparison,
        "scores_of_run",
        lambda folder, *a, **b: (judged.append(folder.path.name), plain(folder, *a, **b))[1],
    )

    def again(name, **options):
        judged.clear()
        found = ganframe.compare(runs, out=tmp_path / name, **{"samples": 100, **options})
        return found, [*judged]

    first, new = again("first")
    assert new == ["ring", "uniform"]
    second, new = again("second")
    assert new == []
    assert second.scores == first.scores
    assert again("more", samples=101)[1] == ["ring", "uniform"]  # another protocol
    assert again("options", metrics=[{"use": "modes", "sigmas": 2.0}])[1] == ["ring", "uniform"]
    file = RunFolder(runs[1]).evaluations
    file.write_text(file.read_text().replace('"step": 1', '"step": 0'))  # scores of other weights
    assert again("older")[1] == ["uniform"]


def test_newest_score_of_the_weights_is_taken_and_none_of_weights_chosen_otherwise(pair, tmp_path):
    runs = pair("ring", "uniform")
    ganframe.compare(runs, samples=100, out=tmp_path / "first")
    file = RunFolder(runs[0]).evaluations
    last = json.loads(file.read_text().splitlines()[-1])
    chosen = {**last, "modes": 77, "protocol": {**last["protocol"], "chosen_by": "modes"}}
    with file.open("a") as lines:
        lines.write(
            "".join(json.dumps(score) + "\n" for score in ({**last, "modes": 55}, {**last, "modes": 66}, chosen))
        )
    found = ganframe.compare(runs, samples=100, out=tmp_path / "second")
    assert [score["modes"] for score in found.scores[0]] == [66]


def test_numbers_of_unlike_protocols_are_never_in_one_row(pair, tmp_path, monkeypatch):
    runs = pair("ring", "uniform")
    plain = comparison.scores_of_run

    def chosen(folder, *arguments, **options):
        scores = plain(folder, *arguments, **options)
        if folder.path.name == "uniform":
            scores[0]["protocol"]["chosen_by"] = "modes"
        return scores

    monkeypatch.setattr(comparison, "scores_of_run", chosen)
    found = ganframe.compare(runs, samples=100, out=tmp_path / "out")
    assert len(found.lines) == 6
    assert all(sum(value is None for value in line.values) == 1 for line in found.lines)
    assert found.unlike == ("modes: not in one row, as chosen_by is None in one and modes in another",)


def test_a_diverged_run_has_no_numbers_and_the_others_have(pair, tmp_path, capsys):
    ring, uniform = pair("ring", "uniform")
    G = ganframe.load_generator(uniform)
    torch.nn.init.constant_(G.network.last.bias, torch.nan)
    save_generator(uniform / "generator.safetensors", G.network, G.spec)
    found = ganframe.compare([ring, uniform], samples=100, out=tmp_path / "out")
    assert "uniform: modes: samples are not finite" in capsys.readouterr().err
    assert all(line.values[1] is None and line.values[0] is not None for line in found.lines)
    assert read_evaluations(RunFolder(uniform)) == []
    assert (found.folder / "samples.png").exists()


def test_images_of_the_same_latents_stand_beside_the_data(pair, tmp_path):
    """The generators of these runs make images of one grey, tanh(z): the same for both, and not as the data."""
    (run,) = pair("shades")
    other = shutil.copytree(run, tmp_path / "other")
    metric = {"use": "precision_recall", "features": "pixels"}
    found = ganframe.compare([run, other], [metric], samples=12, n=4, seed=5, out=tmp_path / "out")
    G = ganframe.load_generator(run)
    expected = ((G.sample(4, seed=5)[:, 0, 4, 4] + 1) * 127.5).view(2, 2).numpy()
    grey = np.asarray(Image.open(found.folder / "samples.png").convert("L")).astype(float)
    block = (grey.shape[1] - 32) // 3
    blocks = [grey[-block:, left : left + block] for left in (0, block + 16, 2 * (block + 16))]
    half = block // 2
    middles = [one[half // 2 :: half, half // 2 :: half][:2, :2] for one in blocks]
    assert np.abs(middles[1] - expected).max() <= 1
    assert np.abs(middles[2] - expected).max() <= 1
    assert (np.abs(middles[0] - 127.5) < 40).all()
    assert np.abs(middles[0] - expected).max() > 10


def test_generators_that_heed_labels_or_conditions_are_compared(conditional, tmp_path):
    recipe = ganframe.load_recipe(conditional())
    runs = [ganframe.run(recipe, tmp_path / name).folder for name in ("a", "b")]
    found = ganframe.compare(
        runs, [{"use": "kernel", "features": "pixels", "subsets": 2}], samples=50, out=tmp_path / "out"
    )
    assert found.lines[0].values[0] == found.lines[0].values[1]
    with Image.open(found.folder / "samples.png") as picture:
        rows, columns = 8, 4  # condition, a, b, data
        side = (picture.width - 2) // columns
        assert (picture.width - 2) % columns == 0
        assert picture.height == rows * side + 2 + 24
        pixels = np.asarray(picture.convert("L")).astype(float)
    for top in (24 + 2 + row * side for row in range(rows)):  # the real image of a condition is its negative
        condition, data = (pixels[top : top + side - 2, 2 + side * c : side * (c + 1)] for c in (0, 3))
        assert np.abs(condition + data - 255).max() <= 1
        assert condition.std() > 30


def test_curves_of_runs_are_drawn_where_they_were_logged(pair, tmp_path):
    runs = pair("ring", "uniform")
    assert (ganframe.compare(runs, samples=50, out=tmp_path / "a").folder / "curves.png").exists()
    for run in runs:
        (run / "log.jsonl").unlink()
    found = ganframe.compare(runs, samples=50, out=tmp_path / "b")
    assert not (found.folder / "curves.png").exists()
    assert found.seconds == (None, None)


def test_other_data_judges_all_runs(pair, tmp_path):
    runs = pair("ring", "uniform")
    few = tmp_path / "few.toml"
    few.write_text((runs[0] / "recipe.toml").read_text().replace("modes = 8", "modes = 3"))
    found = ganframe.compare(runs, data=few, samples=100, out=tmp_path / "out")
    assert all(line.values[0] <= 3 for line in found.lines if line.number == "modes")
    assert len({score["protocol"]["data"] for scores in found.scores for score in scores}) == 1


def test_what_differs_is_said_with_seeds_and_links_to_the_pages_of_runs(tiny, tmp_path):
    """Options by their places; what one recipe leaves out has its default, or is not there with another component."""
    first = ["name='one'", "log.every=2", "train.ema=0.9", 'constraints=[{use="spectral_norm"}]']
    second = ["seed=5", "generator.hidden=[8,8]", 'constraints=[{use="gradient_penalty",weight=3.0}]']
    a, b = (
        ganframe.run(ganframe.load_recipe(tiny(), given), tmp_path / "runs" / name).folder
        for name, given in (("a #1", first), ("b", second))
    )
    write_run_page(RunFolder(a))
    found = ganframe.compare([a, b], samples=50, out=tmp_path / "made" / "out")
    assert found.seeds == (1, 5)
    told = {option.place: in_words(option) for option in found.options}
    assert told["generator.hidden"] == ["[8]", "[8, 8]"]
    assert told["train.ema"] == ["0.9", "none"]
    assert told["constraints[0].use"] == ['"builtin:spectral_norm"', '"builtin:gradient_penalty"']
    assert told["constraints[0].weight"] == [None, "3.0"]
    assert not {place for place in told if place.split(".")[0] in ("name", "log", "seed", "dataset", "discriminator")}
    tables = [place.rpartition(".")[0] for place in told]
    assert tables == sorted(tables, key=tables.index)  # options of one table are together
    page = (found.folder / "report.html").read_text(encoding="utf-8")
    assert '<th scope="row">generator.hidden</th><td>[8]</td><td>[8, 8]</td>' in page
    assert '<th scope="row">seed</th><td>1</td><td>5</td>' in page
    assert '<th scope="row">training time</th>' in page
    assert '<td><a href="../../runs/a%20%231/report.html">page of a #1</a></td><td>–</td>' in page
    one, other = json.loads((found.folder / "compare.json").read_text())
    assert (one["seed"], other["seed"]) == (1, 5)
    assert (one["options"]["train.ema"], other["options"]["generator.hidden"]) == (0.9, [8, 8])
    assert "constraints[0].weight" not in one["options"]


def test_page_has_charts_side_by_side_and_each_heading_once(pair, tmp_path):
    page = (
        ganframe.compare(pair("ring", "uniform"), samples=50, out=tmp_path / "out").folder / "report.html"
    ).read_text(encoding="utf-8")
    assert page.count('<div class="charts"><figure class="chart">') == 1
    assert re.findall("<h2[^>]*>(.*?)</h2>", page) == ["Scores", "What differs", "Samples", "Curves"]
    assert len(re.findall(">Scores<", page)) == 2  # the heading, and the link to it


def test_page_works_in_a_browser(pair, tmp_path, open_page, accessibility):
    runs = pair("ring", "plain")
    write_run_page(RunFolder(runs[0]))
    metric = {"use": "kernel", "features": "pixels", "subsets": 2}
    page = ganframe.compare(runs, [metric], samples=50, out=tmp_path / "out").folder / "report.html"
    browser = open_page(page, width=390)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert accessibility() == {}
    browser.execute_script("document.querySelector('td a').click()")
    assert browser.title.startswith("Run ")


WARNED = {
    ("ring", "plain"): "plain was trained on swiss_roll, and is judged by ring",
    ("plain", "ring"): "ring was trained on ring, and is judged by swiss_roll",
    ("ring", "made"): "3 was trained on ring with modes = 3, and is judged by ring with modes = 8",
    ("ring", "uniform"): None,
    ("ring", "plain", "uniform", "made"): "plain was trained on swiss_roll, 3 on ring with modes = 3: "
    "all runs are judged by ring with modes = 8",
}


@pytest.mark.parametrize("names", WARNED, ids="-".join)
def test_runs_on_other_data_than_judges_them_are_named(pair, train_on, tmp_path, capsys, names):
    metric = {"use": "kernel", "features": "pixels", "subsets": 2}
    warned = WARNED[names]
    copies = pair(*(name for name in names if name != "made"))
    made = [train_on('use = "ring"\nmodes = 3').rename(tmp_path / "3")] if "made" in names else []
    names = [path.name for path in (*copies, *made)]
    found = ganframe.compare([*copies, *made], [metric], samples=50, out=tmp_path / "out")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert said == ([] if warned is None else [f"warning: {warned}"])
    page = (found.folder / "report.html").read_text(encoding="utf-8")
    assert (page.count("Warning: "), warned is None or warned in page) == (len(said), True)
    written = json.loads((found.folder / "compare.json").read_text())
    assert written[0]["own_data"]
    assert all(one["own_data"] == (one["name"] == "uniform") for one in written[1:])


def test_no_run_is_on_its_own_data_where_other_data_judges(pair, runs, tmp_path, capsys):
    data = runs["single"] / "recipe.toml"
    found = ganframe.compare(pair("ring", "uniform"), ["modes"], data=data, samples=50, out=tmp_path / "out")
    assert found.own_data == (False, False)
    warned = "ring and uniform were trained on ring with modes = 8, and are judged by ring with modes = 1"
    assert f"warning: {warned}\n" in capsys.readouterr().err


def test_the_fingerprint_tells_data_that_was_moved_from_data_that_has_changed(pair, tmp_path, capsys):
    """The same images elsewhere are the same data; fewer in the same place are not."""
    (run,) = pair("shades")
    moved, other = (shutil.copytree(run, tmp_path / name) for name in ("moved", "other"))
    text = (run / "recipe.toml").read_text(encoding="utf-8")
    root = Path(tomllib.loads(text)["dataset"]["root"])
    shutil.copytree(root, tmp_path / "images")
    for folder in (moved, *(moved / "checkpoints").iterdir()):
        (folder / "recipe.toml").write_text(text.replace(root.as_posix(), (tmp_path / "images").as_posix()))
    (manifest,) = (other / "checkpoints").glob("*/checkpoint.json")
    manifest.write_text(manifest.read_text().replace('"samples": 12', '"samples": 11'))
    metric = {"use": "kernel", "features": "pixels", "subsets": 2}
    found = ganframe.compare([run, moved, other], [metric], samples=12, n=4, out=tmp_path / "out")
    assert found.own_data == (True, True, False)
    said = capsys.readouterr().err
    assert "warning: other was trained on other data than image_folder gives now, and is judged by image_folder" in said
    assert [option.place for option in found.options] == ["dataset.root"]


def test_what_cannot_be_compared_is_refused_in_one_line_and_writes_nothing(pair, refused, tmp_path):
    ring, uniform, shades = pair("ring", "uniform", "shades")
    empty = tmp_path / "empty"
    empty.mkdir()
    young = shutil.copytree(ring, tmp_path / "young")
    (young / "generator.safetensors").unlink()
    assert "one run is nothing to compare: give two or more" in refused("compare", ring)
    assert "the same run twice" in refused("compare", ring, f"{ring}/../ring")
    assert "its samples have shape (1, 8, 8), and those of" in refused("compare", ring, shades)
    assert "not the folder of a run" in refused("compare", ring, empty)
    assert "the run has not saved a generator yet" in refused("compare", ring, young)
    assert "unknown metric 'mods'" in refused("compare", ring, uniform, "--metric", "mods")
    assert "precision_recal" in refused("compare", ring, uniform, "--metric", "precision_recal")
    assert "its samples have shape (1, 8, 8)" in refused("compare", ring, uniform, "--data", shades / "recipe.toml")
    assert "exists and is not empty" in refused("compare", ring, uniform, "--out", ring)
    assert not (tmp_path / "comparisons").exists()
