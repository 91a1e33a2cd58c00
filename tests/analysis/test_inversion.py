"""Inversion: latents of a generator's own samples are found again, and `ganframe invert` with what it writes."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ganframe import DataSpec, RequestError, RunError, invert, load_generator
from ganframe.analysis.interpolation import find_paths, interpolate_samples
from ganframe.analysis.inversion import invert_samples, typical_norm
from ganframe.analysis.trained import TrainedGenerator
from ganframe.recipes.tables import Prior


class Network(nn.Module):
    """Two layers from (z, y) to 6 numbers; y is added to the hidden layer, as labels or as conditions."""

    def __init__(self, dim=4, classes=1, condition=0):
        super().__init__()
        self.first, self.last = nn.Linear(dim, 32), nn.Linear(32, 6)
        self.classes = nn.Embedding(classes, 32)
        self.conditions = nn.Linear(condition, 32) if condition else None

    def map(self, z, y):
        return 3 + 5 * self.first(z).tanh()

    def synthesize(self, w, y):
        more = self.classes(y) if self.conditions is None else self.conditions(y)
        return self.last((w + 3 * more).tanh())

    def forward(self, z, y):
        return self.synthesize(self.map(z, y), y)


def trained(network=None, classes=None, condition=None, dim=4, distribution="normal", shape=(6,)):
    spec = DataSpec(shape, classes=classes, condition=condition)
    torch.manual_seed(3)
    network = network or Network(dim, classes or 1, condition[0] if condition else 0)
    kept = torch.randn(3, *condition) if condition else None
    return TrainedGenerator(network, spec, Prior(dim=dim, distribution=distribution), conditions=kept)


def said(file):
    return json.loads(Path(file).read_text(encoding="utf-8"))


def made_by(function, dim=2, shape=(2,)):
    network = nn.Module()
    network.forward = function
    return trained(network, dim=dim, shape=shape)


# ------------------------------------------------------------------------------------------------------- own samples


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_search_on_a_gpu_finds_own_samples_and_returns_to_the_cpu():
    for space in ("z", "w"):
        G = trained(classes=3).to("cuda")
        x = G.sample(20, seed=5)
        found = invert_samples(G, x, space=space)
        assert {t.device.type for t in (found.latents, found.y, found.samples, found.errors)} == {"cpu"}
        assert (found.errors < 1e-5).float().mean() > 0.9


def test_own_samples_are_found_again_and_each_error_is_that_of_its_sample():
    G = trained()
    x = G.sample(20, seed=5)
    found = invert_samples(G, x)
    assert (found.errors < 1e-6).all()
    assert found.latents.shape == (20, 4)
    assert torch.equal(found.samples, G.decode(found.latents, found.y))
    torch.testing.assert_close(found.errors, (found.samples - x).square().mean(1))


def test_an_image_that_the_generator_cannot_make_gets_the_nearest_that_it_can():
    G = made_by(lambda z, y: torch.cat([z[:, :1], 0 * z[:, :1]], 1))
    found = invert_samples(G, torch.tensor([[0.5, 2.0], [-0.3, 0.0]]))
    torch.testing.assert_close(found.latents[:, 0], torch.tensor([0.5, -0.3]), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.errors, torch.tensor([2.0, 0.0]), atol=1e-5, rtol=0)


def test_result_depends_on_the_seed_alone_and_not_on_the_other_images(monkeypatch):
    G = trained()
    x = G.sample(9, seed=5) + 0.1
    first = invert_samples(G, x, steps=20)
    assert torch.equal(first.latents, invert_samples(G, x, steps=20).latents)
    monkeypatch.setattr("ganframe.analysis.inversion.TOGETHER", 8)  # two images at a time
    torch.testing.assert_close(invert_samples(G, x, steps=20).latents, first.latents, atol=1e-3, rtol=1e-3)
    assert not torch.equal(invert_samples(G, x, steps=1, seed=1).latents, invert_samples(G, x, steps=1).latents)


def test_more_restarts_and_steps_never_find_worse():
    G = trained()
    x = torch.randn(12, 6)
    errors = [invert_samples(G, x, restarts=r, steps=s, prior=0.0).errors for r, s in ((1, 5), (1, 60), (6, 60))]
    assert (errors[1] <= errors[0] + 1e-6).all()
    assert (errors[2] <= errors[1] + 1e-6).all()
    assert errors[2].sum() < errors[1].sum() < errors[0].sum()


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_pull_keeps_latents_as_far_out_as_random_ones(distribution):
    G = trained(nn.Linear(4, 6, bias=False), distribution=distribution)
    G.network.forward = lambda z, y: nn.functional.linear(z, G.network.weight)
    far = G.decode(torch.full((1, 4), 9.0))
    free, held = (invert_samples(G, far, prior=weight).latents for weight in (0.0, 100.0))
    assert free.abs().min() > 8.9
    if distribution == "uniform":
        assert held.abs().max() < 1.1 * math.sqrt(3)
    else:
        assert 3.5 < held.norm() < 4.2  # 99 % of normal latents of 4 numbers are within 3.65
    near = G.sample(3, seed=2)
    torch.testing.assert_close(invert_samples(G, near, prior=100.0).samples, near, atol=0.02, rtol=0)


def test_one_start_of_one_image_is_enough_to_run():
    found = invert_samples(trained(), torch.zeros(1, 6), restarts=1, steps=1)
    assert found.latents.shape == (1, 4)


def test_typical_norm_of_z_is_that_of_the_prior():
    G = trained(dim=9)
    assert typical_norm(G) == 3
    assert G.latents(2000)[0].norm(dim=1).mean().item() == pytest.approx(3, rel=0.05)


# ------------------------------------------------------------------------------------------------ classes, conditions


def test_classes_are_found_too():
    G = trained(classes=4)
    z, y = G.latents(24, seed=5)
    found = invert_samples(G, G.decode(z, y))
    assert (found.errors < 1e-5).float().mean() > 0.9
    assert (found.y == y).float().mean() > 0.9


def test_given_classes_are_kept():
    G = trained(classes=4)
    asked = torch.tensor([0, 3, 3, 1, 0])
    found = invert_samples(G, G.sample(5, seed=5), asked)
    assert torch.equal(found.y, asked)
    x = G.decode(G.latents(5, seed=5)[0], asked)
    found = invert_samples(G, x, asked)
    assert (found.errors < 1e-5).all()
    assert torch.equal(found.samples, G.decode(found.latents, asked))


def test_images_have_the_first_condition_or_their_own():
    G = trained(condition=(2,))
    z = G.latents(6, seed=5)[0]
    first = G.conditions[:1].expand(6, 2)
    found = invert_samples(G, G.decode(z, first))
    assert torch.equal(found.y, first)
    assert (found.errors < 1e-5).all()
    own = torch.randn(6, 2)
    found = invert_samples(G, G.decode(z, own), own)
    assert torch.equal(found.y, own)
    assert (found.errors < 1e-5).all()


# ------------------------------------------------------------------------------------------------------------------- w


def test_latents_w_are_found_and_reach_what_no_z_reaches():
    G = trained()
    x = G.sample(6, seed=5)
    found = invert_samples(G, x, space="w")
    assert found.latents.shape == (6, 32)
    assert (found.errors < 1e-6).all()
    y = torch.zeros(6, dtype=torch.long)
    torch.testing.assert_close(G.network.synthesize(found.latents, y), found.samples)
    other = torch.tanh(torch.randn(3, 32)) @ G.network.last.weight.T + G.network.last.bias
    in_z, in_w = (invert_samples(G, other, space=space).errors for space in ("z", "w"))
    assert in_w.max() < 1e-3 < in_z.min()


def test_w_of_a_network_without_it_is_refused(generators):
    with pytest.raises(RequestError, match=r"no map\(z, y\) and synthesize\(w, y\)"):
        invert_samples(generators["ring"], torch.zeros(1, 2), space="w")


# ------------------------------------------------------------------------------------------------------------- refused


def test_generators_without_gradients_are_refused_in_one_line():
    for function in (
        lambda z, y: z.detach(),
        lambda z, y: z.sign(),
        lambda z, y: torch.from_numpy(z.detach().numpy()),
        lambda z, y: torch.from_numpy(z.numpy()),
        lambda z, y: torch.zeros(len(z), 2),
    ):
        with pytest.raises(RequestError, match="this generator cannot be inverted") as refused:
            invert_samples(made_by(function), torch.zeros(2, 2))
        assert len(str(refused.value).splitlines()) == 1


def test_generators_that_mix_samples_are_refused():
    for attribute, value in (("mixes_samples", True), ("mixes_groups_of", 2)):
        G = trained()
        setattr(G.network.last, attribute, value)
        with pytest.raises(RequestError, match="depends on the other latents of its batch"):
            invert_samples(G, torch.zeros(2, 6))


def test_batch_norm_in_evaluation_mode_is_inverted(generators):
    G = generators["in_norm"]
    found = invert_samples(G, G.sample(4, seed=5))
    assert (found.errors < 1e-3).all()


def test_values_and_gradients_that_are_not_finite_fail_in_one_line():
    with pytest.raises(RunError, match="samples of this generator are not all finite"):
        invert_samples(made_by(lambda z, y: z.log()), torch.zeros(2, 2))
    with pytest.raises(RunError, match="gradient of this generator is not finite"):
        invert_samples(made_by(lambda z, y: z * 0 + (z * 0).sqrt()), torch.zeros(2, 2))


@pytest.mark.parametrize("x", [torch.zeros(6), torch.zeros(2, 5), torch.zeros(0, 6), torch.full((1, 6), math.nan)])
def test_images_of_another_form_are_refused(x):
    with pytest.raises(RequestError):
        invert_samples(trained(), x)


def test_python_call_takes_tensors_files_and_pixels(runs, tmp_path):
    G = load_generator(runs["shades"])
    pixels = torch.full((1, 1, 8, 8), 200, dtype=torch.uint8)
    found = invert(runs["shades"], pixels)
    torch.testing.assert_close(found.samples, pixels / 127.5 - 1, atol=1e-3, rtol=0)
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "x.png")
    assert torch.equal(invert(str(runs["shades"]), [tmp_path / "x.png"]).latents, found.latents)
    assert torch.equal(G.decode(found.latents), found.samples)
    labelled = load_generator(runs["labelled"])
    assert invert(runs["labelled"], labelled.sample(3), y=1, steps=2).y.tolist() == [1, 1, 1]


# ------------------------------------------------------------------------------------------------------------- command


def test_invert_command_writes_latents_picture_and_errors(call, runs, greys, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["shades"], run)
    for i, value in enumerate((60, 130, 190)):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(tmp_path / f"{i}.png")
    result = call("invert", run, "0.png", "1.png", "2.png")
    file = run / "samples" / "inverted.npy"
    lines = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["0.png", "1.png", "2.png"]
    assert all("(RMS " in line and "|z| " in line and line.endswith("(random: 1)") for line in lines[:3])
    assert lines[3].startswith("mean squared error below 0.001: 3 of 3, median ")
    assert lines[4] == f"3 latents: {file}, inverted.png, inverted.json"
    wanted = torch.tensor([60, 130, 190]) / 127.5 - 1
    torch.testing.assert_close(torch.from_numpy(np.load(file))[:, 0].tanh(), wanted, atol=0.01, rtol=0)
    shown = greys(run / "samples" / "inverted.png", 3, 2)  # image and reconstruction
    torch.testing.assert_close(shown, wanted[:, None].expand(3, 2), atol=0.02, rtol=0)
    about = said(run / "samples" / "inverted.json")
    assert (about["space"], about["shape"], about["labels"]) == ("z", [3, 1], None)
    assert [row["image"] for row in about["images"]] == ["0.png", "1.png", "2.png"]
    assert all(row["mean_squared_error"] < 1e-3 for row in about["images"])


def test_points_are_inverted_from_an_array_and_drawn(call, runs):
    np.save("ring.npy", np.array([[1.0, 0.5], [-2.0, 0.1]], np.float32))
    call("invert", runs["ring"], "ring.npy", "--out", "new/found.npy")
    np.testing.assert_allclose(np.load("new/found.npy"), np.load("ring.npy"), atol=1e-3)  # its samples are its latents
    with Image.open("new/found.png") as picture:
        assert min(picture.size) > 100


def test_class_found_or_given_is_said_and_kept(call, runs):
    G = load_generator(runs["labelled"])
    z, y = G.latents(6, seed=3)
    np.save("x.npy", G.decode(z, y).numpy())
    result = call("invert", runs["labelled"], "x.npy", "--out", "found.npy")
    call("invert", runs["labelled"], "x.npy", "--out", "FOUND.NPY")
    np.testing.assert_array_equal(np.load("FOUND.NPY"), np.load("found.npy"))
    labels = said("found.json")["labels"]
    names = {0: "class 'dark' (label 0)", 1: "class 'light' (label 1)"}
    assert all(names[label] in line for label, line in zip(labels, result.stdout.splitlines(), strict=False))
    assert sum(a == b for a, b in zip(labels, y.tolist(), strict=True)) >= 5
    call("invert", runs["labelled"], "x.npy", "--label", "light", "--out", "given.npy", "--steps", 1)
    assert said("given.json")["labels"] == [1] * 6


def test_conditions_are_kept_beside_latents_and_a_path_begins_at_the_reconstruction(call, conditional):
    call("run", conditional("vectors"), "--out", "run")
    G = load_generator("run")
    own = torch.randn(3, 3)
    np.save("y.npy", own.numpy())
    np.save("x.npy", G.decode(G.latents(3, seed=5)[0], own).numpy())
    call("invert", "run", "x.npy", "--condition", "y.npy", "--out", "found.npy")
    assert torch.equal(torch.from_numpy(np.load("found.y.npy")), own)
    made = interpolate_samples(G, [("found.npy:1", "7")])
    again = G.decode(torch.from_numpy(np.load("found.npy")), own)
    torch.testing.assert_close(made[0, 0], again[1])
    call("interpolate", "run", "--between", "found.npy:1", "7", "--condition", "y.npy", "--out", "i.npy")
    made = torch.from_numpy(np.load("i.npy"))
    torch.testing.assert_close(made[0, 0], G.decode(torch.from_numpy(np.load("found.npy"))[1:2], own[:1])[0])
    result = call("invert", "run", "x.npy", "--condition", "x.npy", code=2)
    assert "--condition x.npy" in result.stderr
    assert "first condition that the run keeps" in call("invert", "run", "x.npy", "--steps", "1").stderr


WITH_W = """
import attrs
from torch import nn
from ganframe import Generator, hookimpl

class Network(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.first, self.last = nn.Linear(dim, dim), nn.Linear(dim, 2)

    def map(self, z, y):
        return 2 * self.first(z).tanh()

    def synthesize(self, w, y):
        return self.last(w)

    def forward(self, z, y):
        return self.synthesize(self.map(z, y), y)

@attrs.frozen
class WithW(Generator):
    "A generator with latents w, of as many numbers as z."

    def build(self, data, latent_dim):
        return Network(latent_dim)

@hookimpl
def ganframe_generators():
    return {"with_w": WithW}
"""


def test_w_is_inverted_interpolated_and_added_through_synthesize(call, tiny, install):
    install("ganframe-with-w", WITH_W, plugin="with_w")
    call("run", tiny(), "--set", "generator={use='with_w'}", "--out", "run")
    G = load_generator("run")
    np.save("x.npy", G.sample(3, seed=5).numpy())
    result = call("invert", "run", "x.npy", "--space", "w", "--out", "found.w.npy")
    assert "|w| " in result.stdout
    w, y = torch.from_numpy(np.load("found.w.npy")), torch.zeros(1, dtype=torch.long)
    decoded = G.network.synthesize(w, y)
    made = interpolate_samples(G, [("found.w.npy:1", "7"), ("0", "found.w.npy:2")], steps=3)
    torch.testing.assert_close(made[0, 0], decoded[1])
    torch.testing.assert_close(made[1, 2], decoded[2])
    z = G.latents(64)[0]
    torch.testing.assert_close(made[0, 2], G.decode(z[7:8])[0])
    middle = G.network.synthesize((w[1:2] + G.network.map(z[7:8], y)) / 2, y)
    torch.testing.assert_close(made[0, 1], middle[0])  # a straight line in w
    call("arithmetic", "run", "found.w.npy:0 - 3 + 4", "--out", "sum.npy")
    total = w[:1] - G.network.map(z[3:4], y) + G.network.map(z[4:5], y)
    torch.testing.assert_close(torch.from_numpy(np.load("sum.npy")), G.network.synthesize(total, y)[0])
    for out in ("x2.npy", "x2.w.npy.png"):
        assert "must end in .w.npy" in call("invert", "run", "x.npy", "--space", "w", "--out", out, code=2).stderr
    assert "must end in .npy" in call("invert", "run", "x.npy", "--out", "x2.w.npy", code=2).stderr
    shutil.copy("found.w.npy", "found.npy")
    shutil.copy("found.w.json", "found.json")
    refused = call("interpolate", "run", "--between", "found.npy:0", "1", code=2)
    assert "found.npy: found.json says that it holds w, and its name that it holds z" in refused.stderr


REFUSED = [
    ("shades none.png", "none.png: there is no such file or folder"),
    ("shades small.png", "small.png: has 4×4 pixels, and the run's images have 8×8"),
    ("shades text.png", "text.png: cannot be read as an image"),
    ("shades empty", "empty: the folder has no images"),
    ("shades points.npy", "points.npy: its samples have shape"),
    ("shades text.npy", "text.npy: "),
    ("ring small.png", "small.png: samples of shape (2,) are no images; give a .npy"),
    ("ring nan.npy", "nan.npy: some samples are non-finite"),
    ("ring points.npy --label 9", "y = 9: the data has classes 0 to 7"),
    ("plain roll.npy --label 0", "y = 0: the data has no classes"),
    ("ring points.npy --condition points.npy", "--condition points.npy: this generator takes no conditions"),
    ("ring points.npy --space w --out x.w.npy", "this generator has no latents w"),
    ("ring points.npy --out x.png", "--out x.png: the name must end in .npy"),
    ("ring points.npy --out x.W.npy", "--out x.W.npy: the name must end in .npy, and not in .w.npy"),
    ("none points.npy", "none: not the folder of a run"),
    ("ring points.npy --out text.npy/x.npy", "--out text.npy/x.npy: cannot be written"),
    ("ring points.npy --out folder.npy", "--out folder.npy: is a folder"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_invert_command_refuses_in_one_line_and_writes_nothing(refused, tmp_path, arguments, message):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save("small.png")
    for name in ("text.png", "text.npy"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.npy").mkdir()
    np.save("points.npy", np.zeros((2, 2), np.float32))
    np.save("roll.npy", np.zeros((2, 2), np.float32))
    np.save("nan.npy", np.array([[0, math.nan]], np.float32))
    before = {*tmp_path.iterdir()}
    assert refused("invert", *arguments.split()).startswith(message)
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("flags", ["", "x.npy --restarts 0", "x.npy --steps 0", "x.npy --space v", "x.npy --prior -1"])
def test_invert_command_refuses_wrong_flags(call, runs, flags):
    assert "Error" in call("invert", runs["ring"], *flags.split(), code=2).stderr


def test_path_from_an_inverted_image_begins_at_its_reconstruction(call, runs):
    G = load_generator(runs["labelled"])
    np.save("x.npy", G.sample(4, seed=5).numpy())
    call("invert", runs["labelled"], "x.npy", "--out", "found.npy")
    z, labels = torch.from_numpy(np.load("found.npy")), torch.tensor(said("found.json")["labels"])
    paths = find_paths(G, [("found.npy:2", "7"), ("found.npy:0", "found.npy:1")])
    again = G.decode(z, labels)
    torch.testing.assert_close(paths.samples()[:, 0], again[[2, 0]])
    assert torch.equal(paths.y, labels[[2, 0]])
