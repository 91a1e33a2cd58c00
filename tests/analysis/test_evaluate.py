"""Judging runs, files and folders by metrics."""

import json

import numpy as np
import pytest
import torch
from torchvision.io import write_png

import ganframe
from ganframe.judging.protocol import described, differences, is_of_training, numbers
from ganframe.storage.evaluations import read_evaluations
from ganframe.storage.run_folder import RunFolder
from ganframe.studies.outcomes import final_scores

MEANS = """
import attrs
from ganframe import Metric, hookimpl

@attrs.frozen
class Means(Metric):
    better = {"mean": "lower"}
    def build(self, judging):
        def measure(x, y):
            labels = {} if y is None else {"label": y.float().mean().item()}
            return {"mean": x.mean().item(), "n": len(x), **labels}
        return measure

@attrs.frozen
class Failing(Means):
    def build(self, judging):
        def measure(x, y):
            raise ValueError("the samples are all the same")
        return measure

@hookimpl
def ganframe_metrics():
    return {"means": Means, "failing": Failing}
"""


@pytest.fixture(autouse=True)
def means(install):
    """The metric `means`, which tells what it was given."""
    install("ganframe-means", MEANS)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """recipe(dataset, more=""): a recipe of two steps on a dataset."""
    monkeypatch.chdir(tmp_path)

    def write(dataset, more="", name="own.toml"):
        networks = '[generator]\nuse = "mlp"\nhidden = [8]\n[discriminator]\nuse = "mlp"\nhidden = [8]\n'
        text = f"[dataset]\n{dataset}\n{networks}[objective]\nuse = 'non_saturating'\n[train]\nsteps = 2\n"
        file = tmp_path / name
        file.write_text(text + more, encoding="utf-8")
        return file

    return write


def test_run_is_judged_as_it_judged_itself(recipe):
    folder = ganframe.run(ganframe.load_recipe(recipe("use = 'ring'", "[[metrics]]\nuse = 'means'\n"))).folder
    (own,) = read_evaluations(RunFolder(folder))
    (score,) = ganframe.evaluate(folder)
    assert numbers(score) == numbers(own)
    assert score["protocol"] == own["protocol"]
    assert score["judged"] == own["judged"] | {"by": "evaluate"}
    assert read_evaluations(RunFolder(folder)) == [own, score]


def test_moving_average_is_judged_where_there_is_one(recipe):
    text = recipe("use = 'ring'", "ema = 0.9\n[[metrics]]\nuse = 'means'\n")
    folder = ganframe.run(ganframe.load_recipe(text)).folder
    (own,) = read_evaluations(RunFolder(folder))
    (score,) = ganframe.evaluate(folder)
    assert score["judged"]["averaged"]
    assert numbers(score) == numbers(own)


def test_checkpoint_of_a_step_is_judged(recipe):
    folder = ganframe.run(ganframe.load_recipe(recipe("use = 'ring'", "[log]\ncheckpoint_every = 1\n"))).folder
    first, last = (ganframe.evaluate(folder, ["means"], step=step)[0] for step in (1, 2))
    assert (first["judged"]["step"], last["judged"]["step"]) == (1, 2)
    assert first["mean"] != last["mean"]
    assert last["mean"] == ganframe.evaluate(folder, ["means"])[0]["mean"]


@pytest.mark.parametrize(("condition", "told"), [("concat", True), ("none", False)])
def test_metrics_are_told_the_labels_that_samples_were_made_for(recipe, condition, told):
    sets = [f"generator.condition={condition}", f"discriminator.condition={condition}"]
    folder = ganframe.run(ganframe.load_recipe(recipe("use = 'digits'"), sets)).folder
    (score,) = ganframe.evaluate(folder, ["means"], samples=500)
    assert ("label" in score) is told
    if told:
        assert score["label"] == pytest.approx(4.5, abs=0.5)


def test_modes_is_the_default_for_a_mixture(recipe):
    folder = ganframe.run(ganframe.load_recipe(recipe("use = 'grid'"))).folder
    (score,) = ganframe.evaluate(folder)
    assert (score["metric"], score["protocol"]["samples"]) == ("modes", 2500)


def test_metric_by_name_has_the_options_of_the_recipe(recipe):
    more = "[[metrics]]\nuse = 'modes'\nsigmas = 7.0\nsamples = 30\n[[metrics]]\nuse = 'modes'\nsigmas = 9.0\n"
    folder = ganframe.run(ganframe.load_recipe(recipe("use = 'ring'", more))).folder
    first, second, third = ganframe.evaluate(folder, ["modes", "modes_2", {"use": "modes"}])
    assert [s["protocol"]["options"]["sigmas"] for s in (first, second, third)] == [7.0, 9.0, 3.0]
    assert first["protocol"]["samples"] == 30


def exact(dataset, n):
    return dataset.build().draw(n, torch.Generator().manual_seed(1))[0].numpy()


@pytest.mark.parametrize(("dataset", "modes"), [("use='ring'", 8), ("use='grid'", 25), ("use='grid'\nside=10", 100)])
def test_exact_samples_of_a_file_are_perfect(recipe, tmp_path, dataset, modes):
    text = recipe(dataset)
    np.save(tmp_path / "x.npy", exact(ganframe.load_recipe(text).dataset, 2500))
    (score,) = ganframe.evaluate(tmp_path / "x.npy", data=text)
    assert score["modes"] == modes
    assert score["high_quality"] == pytest.approx(0.98889, abs=0.006)
    assert score["judged"] == {"file": str(tmp_path / "x.npy")}


def images(n=6):
    return torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)).numpy()


@pytest.mark.parametrize(
    "array",
    [
        images(),
        images()[:, 0],
        np.moveaxis(images(), 1, -1),
        images().astype(np.float32) / 127.5 - 1,
        images().astype(np.float64) / 127.5 - 1,
        (images().astype(np.float32) / 127.5 - 1).astype(np.float16),
    ],
    ids=["uint8", "no channel", "channels last", "float32", "float64", "float16"],
)
def test_images_of_a_file_are_read_in_every_usual_form(recipe, tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    (score,) = ganframe.evaluate(tmp_path / "x.npy", ["means"], data=recipe("use = 'digits'"))
    assert score["n"] == 6
    assert score["mean"] == pytest.approx(images().mean() / 127.5 - 1, abs=1e-3)


def test_images_of_a_folder_are_judged(recipe, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    for index, image in enumerate(images()):
        write_png(torch.from_numpy(image), str(folder / f"{index}.png"))
    (folder / ".hidden.png").write_bytes(b"")
    (score,) = ganframe.evaluate(folder, ["means"], data=recipe("use = 'digits'"))
    assert score["n"] == 6
    assert score["mean"] == pytest.approx(images().mean() / 127.5 - 1, abs=1e-4)


def test_suffix_of_a_file_may_be_in_capitals(recipe, tmp_path):
    np.save(tmp_path / "x.npy", images())
    (tmp_path / "x.npy").rename(tmp_path / "x.NPY")
    (score,) = ganframe.evaluate(tmp_path / "x.NPY", ["means"], data=recipe("use = 'digits'"))
    assert score["n"] == 6


def test_samples_of_a_file_in_an_order_are_taken_from_all_of_it(recipe, tmp_path):
    greys = np.linspace(-1, 1, 400, dtype=np.float32)
    np.save(tmp_path / "x.npy", np.broadcast_to(greys[:, None, None, None], (400, 1, 8, 8)))
    (score,) = ganframe.evaluate(tmp_path / "x.npy", ["means"], data=recipe("use = 'digits'"), samples=100)
    assert score["n"] == 100
    assert abs(score["mean"]) < 0.2


def test_kernel_takes_the_place_of_frechet_where_samples_are_few(recipe, tmp_path, capsys):
    folder = tmp_path / "few"
    folder.mkdir()
    for index, image in enumerate(images(50)):
        write_png(torch.from_numpy(image), str(folder / f"{index}.png"))
    np.save(tmp_path / "x.npy", images(200))
    text = recipe(f"use = 'image_folder'\nroot = '{folder}'\nchannels = 1")
    scores = ganframe.evaluate(tmp_path / "x.npy", data=text)
    assert [score["metric"] for score in scores] == ["kernel", "precision_recall"]
    assert "singular covariance" in capsys.readouterr().err


def test_scores_of_a_folder_that_cannot_be_written_are_returned(recipe, monkeypatch, capsys):
    folder = ganframe.run(ganframe.load_recipe(recipe("use = 'ring'"))).folder
    RunFolder(folder).evaluations.mkdir()
    assert ganframe.evaluate(folder, ["means"])
    assert "the scores are not kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (images() / 255.0, "its values are from 0 to 1, and those of the data from -1 to 1"),
        (images().astype(np.float32), "[-1, 1]"),
        (images().astype(np.int64), "its values are int64: give floats, or uint8"),
        (images()[:, :, :4], "its samples have shape (1, 4, 8), and those of the data (1, 8, 8)"),
        (np.full((5, 1, 8, 8), np.nan), "non-finite: item 0 has nan"),
        (images()[:0], "it has no samples"),
        (np.float32(3), "its samples have shape"),
        (np.array([{}]), "Python objects"),
    ],
    ids=["0 to 1", "0 to 255", "integers", "shape", "nan", "empty", "scalar", "objects"],
)
def test_arrays_that_are_no_samples_of_the_data_are_refused(recipe, tmp_path, array, message):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ganframe.RequestError) as caught:
        ganframe.evaluate(tmp_path / "x.npy", ["means"], data=recipe("use = 'digits'"))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nothing", {}, "nothing: there is no such file or folder"),
        ("nothing", {"data": "own.toml"}, "nothing: not an array"),
        ("own.toml", {}, "give the recipe of their data: --data"),
        ("own.toml", {"data": "own.toml"}, "not an array (.npy), nor a folder of images"),
        ("own.toml", {"data": "own.toml", "step": 3}, "not the folder of a run, so it has no checkpoint of step 3"),
        (".", {"data": "own.toml"}, "a folder holds images"),
    ],
)
def test_what_is_no_run_and_no_samples_is_refused(recipe, name, options, message):
    recipe("use = 'ring'")
    with pytest.raises(ganframe.RequestError) as caught:
        ganframe.evaluate(name, **options)
    assert message in str(caught.value)


def test_run_is_judged_by_other_data_of_its_shape_only(recipe):
    folder = ganframe.run(ganframe.load_recipe(recipe("use = 'ring'"))).folder
    (score,) = ganframe.evaluate(folder, data=recipe("use = 'grid'", name="grid.toml"))
    assert score["protocol"]["metric"] == "builtin:modes"
    with pytest.raises(ganframe.RequestError, match=r"have shape \(2,\), and those of the data \(1, 8, 8\)"):
        ganframe.evaluate(folder, ["means"], data=recipe("use = 'digits'", name="digits.toml"))


def test_failed_metric_writes_nothing(recipe):
    folder = ganframe.run(ganframe.load_recipe(recipe("use = 'ring'"))).folder
    with pytest.raises(ganframe.RequestError) as caught:
        ganframe.evaluate(folder, ["means", "failing"])
    assert str(caught.value) == f"{folder}: failing: the samples are all the same"
    assert not RunFolder(folder).evaluations.exists()


def test_scores_of_truncated_samples_say_so_and_stand_beside_others(recipe, install):
    install(
        "ganframe-scaled",
        """
import attrs
from torch import nn
from ganframe import Generator, hookimpl

class Network(nn.Linear):
    truncates_latent = True
    def forward(self, z, y):
        return super().forward(z)

@attrs.frozen
class Scaled(Generator):
    "A linear generator that truncates z."
    def build(self, data, latent_dim):
        return Network(latent_dim, 2)

@hookimpl
def ganframe_generators():
    return {"scaled": Scaled}
""",
    )
    text = recipe("use = 'ring'", "[[metrics]]\nuse = 'means'\n")
    folder = ganframe.run(ganframe.load_recipe(text, ["generator={use='scaled'}"])).folder
    plain, narrow, wide = ganframe.evaluate(folder) + ganframe.evaluate(folder, truncation=np.array([0.01, 3.0]))
    assert "truncation" not in plain["protocol"]
    assert [narrow["protocol"]["truncation"], wide["protocol"]["truncation"]] == [0.01, 3.0]
    (one,) = ganframe.evaluate(folder, truncation=0.01)
    assert one == narrow
    assert narrow["protocol"] == {**plain["protocol"], "truncation": 0.01}
    assert narrow["mean"] != plain["mean"]
    assert differences([plain, narrow]) == ["truncation is None in one and 0.01 in another"]
    assert described(narrow["protocol"]).endswith("truncation 0.01")
    assert len(read_evaluations(RunFolder(folder))) == 5  # the run's own first
    own = final_scores(RunFolder(folder), ganframe.load_recipe(folder / "recipe.toml"))
    assert [(score["judged"]["by"], "truncation" in score["protocol"]) for score in own] == [("run", False)]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(score) + "\n" for score in (narrow, plain)))
    (found,) = final_scores(RunFolder(folder), ganframe.load_recipe(folder / "recipe.toml"))
    assert found["mean"] == plain["mean"]


def test_precision_of_the_generator_stands_in_the_protocol(recipe, tmp_path):
    folder = ganframe.run(ganframe.load_recipe(recipe("use = 'ring'")), tmp_path / "run").folder
    plain, half = (ganframe.evaluate(folder, ["modes"], precision=precision)[0] for precision in ("no", "bf16"))
    assert "precision" not in plain["protocol"]
    assert half["protocol"] == {**plain["protocol"], "precision": "bf16"}
    assert described(half["protocol"]).endswith("the generator in bf16")
    assert not is_of_training(half)


def test_files_have_no_generator_to_truncate(recipe, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((9, 2), np.float32))
    for options in ({"truncation": 0.5}, {"standing_statistics": 3}, {"precision": "bf16"}):
        with pytest.raises(ganframe.RequestError, match="not the folder of a run, so truncation"):
            ganframe.evaluate(tmp_path / "x.npy", data=recipe("use = 'ring'"), **options)
