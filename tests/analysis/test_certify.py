"""`ganframe.certify`: bounds below known distances, the data against itself, a memoriser, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ganframe
from ganframe import DataSpec
from ganframe.analysis import critics
from ganframe.analysis.certify import SideSamples, certify, compare, divided, halves, points_of, seeds_of
from ganframe.analysis.critics import Nearest, constant, scores
from ganframe.analysis.sources import of_dataset, of_run
from ganframe.analysis.trained import load_generator
from ganframe.data.latents import sample_prior
from ganframe.data.seeds import derive_seeds
from ganframe.errors import RequestError
from ganframe.plugins.registry import load
from ganframe.recipes.reading import load_critic

CPU = torch.device("cpu")
QUICK = ("train.steps=150", "train.batch_size=128")


def quick(*overrides):
    return load_critic(critics.DEFAULT, (*QUICK, "discriminator.hidden=[32]", *overrides), load(), "critic")


def dataset(tmp_path, name, **options):
    """A recipe with a dataset alone."""
    file = tmp_path / f"{name}.toml"
    file.write_text("[dataset]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items()))
    return file


def shifted(shift, n=2_000, seed=0):
    """Two sides of normal samples in the plane, whose means are `shift` apart: W1 is `shift`."""
    draws = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, 2, generator=draws), torch.randn(n, 2, generator=draws)
    return divided(x + torch.tensor([shift, 0.0]), n // 2), divided(y, n // 2)


# -------------------------------------------------------------------------------------------------------------- critics


def test_nearest_is_the_distance_to_the_nearest_point_and_its_slope_is_1():
    points, x = torch.randn(40, 3) * 5 + 1e4, torch.randn(200, 3) * 5 + 1e4
    found = scores(Nearest(points, -1), x, DataSpec((3,)), CPU)
    apart = np.linalg.norm(x.double().numpy()[:, None] - points.double().numpy(), axis=2).min(1)
    np.testing.assert_allclose(found.numpy(), -apart, rtol=1e-12)
    slopes = (found[:, None] - found).abs() / torch.cdist(x.double(), x.double()).fill_diagonal_(torch.inf)
    assert slopes.max() <= 1 + 1e-9
    assert constant(Nearest(points), DataSpec((3,))).value == pytest.approx(1, rel=1e-12)


def test_trained_critic_has_the_scale_of_its_samples():
    """Where the samples are a thousand times larger, so are the scores, and the constant stays."""
    (x, y), spec = (side.other for side in shifted(2.0)), DataSpec((2,))
    small, large = (critics.train(quick(), a * x, a * y, spec, 0, shown=False) for a in (1, 1000))
    assert constant(large, spec).value == pytest.approx(constant(small, spec).value, rel=1e-3)
    apart = [(scores(D, a * x, spec, CPU) - scores(D, a * y, spec, CPU)).mean() for D, a in ((small, 1), (large, 1000))]
    assert apart[1] / apart[0] == pytest.approx(1000, rel=0.02)


def test_constant_of_a_trained_critic_holds_for_its_slopes():
    (x, y), spec = (side.other for side in shifted(2.0)), DataSpec((2,))
    D = critics.train(quick(), x, y, spec, 0, shown=False)
    a, b = torch.randn(10_000, 2) * 3, torch.randn(10_000, 2) * 3
    slopes = (scores(D, a, spec, CPU) - scores(D, b, spec, CPU)).abs() / torch.linalg.vector_norm(a - b, dim=1)
    assert 0.5 < slopes.max() <= constant(D, spec).value


def test_critic_without_a_certificate_is_refused_in_one_line():
    class Square(nn.Module):
        def forward(self, x, y):
            return (x * x).sum(1)

    with pytest.raises(RequestError, match=r"the critic has no certificate: .*--set discriminator.use=…"):
        constant(Square(), DataSpec((2,)))


# --------------------------------------------------------------------------------------------------------- whole method


def test_bound_is_below_the_distance_and_above_half_of_it():
    """N(0, I) against N((2, 0), I) in the plane: W1 = 2. With 1,000 judged samples of each side."""
    found, networks = compare(*shifted(2.0), quick(), DataSpec((2,)), 0.05, 0, CPU)
    assert 1.0 < found.certified <= 2.0
    assert found.best == "trained"
    assert networks.keys() == found.critics.keys() == {"trained", "nearest_against", "nearest_data"}


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_bounds_do_not_exceed_the_distance(shift):
    for seed in range(8):
        sides = shifted(shift, 400, seed)
        found, _ = compare(*sides, quick("train.steps=30"), DataSpec((2,)), 0.05, seed, CPU)
        assert found.certified <= shift


def test_result_is_the_bound_of_its_own_scores():
    """Computed anew in numpy from the critic, the interval and the judged samples."""
    data, against = shifted(1.0, 600)
    found, networks = compare(data, against, quick(), DataSpec((2,)), 0.1, 0, CPU)
    for name, critic in found.critics.items():
        a, b = (
            np.clip(scores(networks[name], side.judged, DataSpec((2,)), CPU).numpy(), critic.low, critic.high)
            for side in (data, against)
        )
        log, width = np.log(3 / (0.1 / 3 / 2)), critic.high - critic.low
        radii = sum(np.sqrt(2 * s.var() * log / len(s)) + 3 * width * log / len(s) for s in (a, b))
        expected = max(0.0, (a.mean() - b.mean() - radii) / critic.constant)
        assert critic.certified == pytest.approx(expected, abs=1e-9)


def test_judged_samples_touch_nothing_but_the_means():
    """With other judged samples the critics, their constants and their intervals are the same."""
    data, against = shifted(1.0, 400)
    results = []
    for judged in (data.judged, data.judged + 100):
        side = SideSamples(judged, data.other)
        found, networks = compare(side, against, quick("train.steps=20"), DataSpec((2,)), 0.05, 0, CPU)
        results.append((found, networks))
    (one, first), (two, second) = results
    for name in one.critics:
        a, b = one.critics[name], two.critics[name]
        assert (a.constant, a.low, a.high) == (b.constant, b.low, b.high)
        assert all(
            torch.equal(p, q)
            for p, q in zip(first[name].state_dict().values(), second[name].state_dict().values(), strict=True)
        )
        assert a.data.mean != b.data.mean
        assert a.against == b.against


def test_parts_share_no_sample():
    sequence = torch.arange(101.0)[:, None]
    one, other = halves(sequence)
    stored = points_of(one, other)
    parts = [one.judged, one.other, other.judged, other.other]
    values = torch.cat(parts).flatten().tolist()
    assert len(values) == len({*values}) == 100
    judged = {*one.judged.flatten().tolist(), *other.judged.flatten().tolist()}
    assert not judged & {*stored["nearest_data"].flatten().tolist(), *stored["nearest_against"].flatten().tolist()}


def test_seeds_are_none_of_a_run():
    """Else a run with the same seed has trained with the latents, or with the samples of a distribution, that judge."""
    of_runs = {seed for rank in range(100) for seed in derive_seeds(0, rank)}
    assert not of_runs & {*seeds_of(0)}


def test_data_against_itself_is_never_told_apart():
    """Skewed data, and few samples: 40 certificates at a total risk of 5 %, of which two may be above 0."""
    above = 0
    for seed in range(40):
        draws = torch.Generator().manual_seed(seed)
        sequence = (torch.rand(200, 1, generator=draws) < 0.05).float() * 10
        found, _ = compare(*halves(sequence), quick("train.steps=10"), DataSpec((1,)), 0.05, seed, CPU)
        above += found.certified > 0
    assert above <= 2


def test_memoriser_is_told_from_the_data_that_frechet_calls_perfect(tmp_path, monkeypatch):
    """The example of README.md, with its figures."""
    root = Path(__file__).parents[2]
    recipe = (root / "recipes" / "dcgan_digits.toml").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.toml").write_text(
        recipe.replace('use = "digits"', 'use = "digits"\nsplit = "train"'), encoding="utf-8"
    )
    training = ganframe.load_recipe("digits.toml").dataset.build().tensors[0]
    np.save("copies.npy", training.numpy())
    table = {"use": "frechet", "features": "pixels"}
    (score,) = ganframe.evaluate("copies.npy", [table], data="digits.toml", against="train", samples=len(training))
    assert score["frechet"] < 1e-6
    found = certify(data="digits.toml", against="copies.npy", overrides=("train.steps=10",), out="out")
    assert found.found.best == "nearest_data"
    assert found.found.critics["nearest_data"].against.mean == 0
    assert found.null.certified == 0
    assert found.share == pytest.approx(found.certified / found.spread)
    said = f"{found.says}: {found.share:.1%} of the mean distance between two samples of the data, {found.spread:.5g}"
    assert said in (root / "README.md").read_text(encoding="utf-8")


def test_repeats_are_enough_to_expose_a_memoriser(tmp_path, monkeypatch):
    """Without training data to store: 40 samples, repeated, are at distance 0 from the other ones of their own side."""
    monkeypatch.chdir(tmp_path)
    draws = np.random.RandomState(0)
    np.save("data.npy", draws.randn(1000, 8))
    np.save("repeats.npy", draws.randn(40, 8)[draws.randint(40, size=1000)])
    found = certify(data="data.npy", against="repeats.npy", overrides=QUICK, out="out")
    assert found.found.best == "nearest_against"
    assert found.certified > 1


def test_run_is_judged_by_what_its_data_holds_out(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    digits = 'dataset = { use = "digits", split = "train" }'
    run = ganframe.run(ganframe.load_recipe(tiny(), [digits.replace("dataset = ", "dataset=")])).folder
    found = certify(run, overrides=("train.steps=20",))
    assert found.folder.parent.parent.name == "certificates"
    assert found.identities["data"]["samples"] == "held out"
    assert found.found.data.judged + found.found.data.other == 359
    assert found.certified > 1
    assert "warning" not in capsys.readouterr().err


def test_warns_where_one_side_has_copies_of_the_other(tmp_path, monkeypatch, capsys):
    """Else they prove a distance of a set from itself: many judged samples are at distance 0 from stored ones."""
    monkeypatch.chdir(tmp_path)
    draws = np.random.RandomState(0)
    x = draws.randn(1000, 8).astype(np.float32)
    np.save("x.npy", x)
    np.save("copies.npy", np.concatenate([x[draws.permutation(1000)], draws.randn(10, 8)]).astype(np.float32))
    assert certify(data="x.npy", against="copies.npy", overrides=("train.steps=5",)).certified > 0
    said = capsys.readouterr().err
    assert re.search(r"warning: x.npy: [45]\d% of its judged samples are among those of copies.npy", said)
    assert re.search(r"warning: copies.npy: [45]\d% of its judged samples are among those of x.npy", said)


@pytest.mark.parametrize("values", [lambda draws: draws.randint(3, size=(1000, 2)), lambda draws: draws.randn(1000, 2)])
def test_does_not_warn_of_samples_that_are_equal_by_chance(values, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("x", "y"):
        np.save(f"{name}.npy", values(np.random.RandomState(ord(name))).astype(np.float32))
    certify(data="x.npy", against="y.npy", overrides=("train.steps=5",))
    assert "warning" not in capsys.readouterr().err


def test_classes_of_a_generator_are_as_frequent_as_in_training_data(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [
        'dataset={use="digits", split="train"}',
        'generator.condition="concat"',
        'discriminator.condition="concat"',
    ]
    run = ganframe.run(ganframe.load_recipe(tiny(), options)).folder
    found = certify(run, overrides=("train.steps=5",), samples=60)
    labels = ganframe.load_recipe(run / "recipe.toml").dataset.build().tensors[1]
    assert found.identities["against"]["frequencies"] == labels.bincount().tolist()
    assert found.certified == ganframe.verify_certificate(found.folder).certificate.certified

    generator = load_generator(run)
    x = of_run(run, load(), CPU, [0, 5] + [0] * 8).draw(32, 3)
    z = sample_prior(generator.prior, 32, torch.Generator().manual_seed(3))
    torch.testing.assert_close(x, generator.decode(z, torch.ones(32, dtype=torch.long)))
    for wrong in (None, [1, 1], "abc", [-1] + [1] * 9, [0] * 10):  # as a certificate's file may have
        assert "frequencies" not in of_run(run, load(), CPU, wrong).identity


def test_warns_where_the_generator_has_seen_the_data(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ganframe.run(ganframe.load_recipe(tiny(), ['dataset={use="digits"}'])).folder
    certify(run, overrides=("train.steps=5",), samples=100)
    assert "its dataset holds out no samples" in capsys.readouterr().err


def test_warns_where_the_data_is_not_that_of_the_run(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ganframe.run(ganframe.load_recipe(tiny(), ['dataset={use="digits", split="train"}'])).folder
    for file in run.rglob("checkpoint.json"):
        manifest = json.loads(file.read_text())
        manifest["data"]["values"] = "of other data"
        file.write_text(json.dumps(manifest))
    certify(run, overrides=("train.steps=5",), samples=100)
    assert "the data is not that of the run (values differ)" in capsys.readouterr().err


def test_features_are_compared_where_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = dataset(tmp_path, "digits", use="digits", split="train")
    np.save("noise.npy", np.random.RandomState(0).uniform(-1, 1, (400, 1, 8, 8)).astype(np.float32))
    found = certify(data=data, against="noise.npy", features="classifier", overrides=("train.steps=20",), out="out")
    assert found.features["name"] == "classifier"
    assert found.features["hash"]
    assert "W1 of the features classifier" in found.says
    assert found.shape != (1, 8, 8)
    assert found.certified > 0


def test_data_of_another_unit_scales_the_bound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draws = np.random.RandomState(0)
    x, y = draws.randn(600, 3), draws.randn(600, 3) + 2
    found = []
    for scale in (1, 1e4):
        np.save("x.npy", scale * x), np.save("y.npy", scale * y)
        found.append(certify(data="x.npy", against="y.npy", overrides=QUICK, out=f"out{scale:g}"))
    assert found[1].certified == pytest.approx(1e4 * found[0].certified, rel=0.05)
    assert found[1].share == pytest.approx(found[0].share, rel=0.05)


def test_labelled_distribution_is_judged_without_its_labels(tmp_path):
    source = of_dataset(ganframe.component("dataset", "ring")(), load(), "ring")
    assert source.spec == DataSpec((2,))
    assert source.size is None
    assert torch.equal(source.draw(50, 3), source.draw(50, 3))
    assert not torch.equal(source.draw(50, 3), source.draw(50, 4))


# -------------------------------------------------------------------------------------------------------------- refused


@pytest.fixture
def sides(tmp_path, monkeypatch):
    """sides(x, y): two arrays as files of the folder in which the test runs."""
    monkeypatch.chdir(tmp_path)

    def write(x, y):
        np.save("x.npy", x), np.save("y.npy", y)
        return {"data": "x.npy", "against": "y.npy", "overrides": ("train.steps=2",)}

    return write


NORMAL = np.random.RandomState(0).randn(400, 2)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (NORMAL, NORMAL[:20], r"y.npy: 10 judged samples can never .* at least 36 of each side"),
        (NORMAL, NORMAL[:, :1] + 1, r"shape"),
        (NORMAL, np.where(NORMAL > 2, np.nan, NORMAL), r"y.npy: some samples are non-finite"),
        (NORMAL, np.zeros((0, 2)), r"y.npy: .*it has no samples"),
        (NORMAL, np.ones((400, 2), dtype=int), r"y.npy: its values are int64: give floats"),
        (NORMAL, NORMAL, r"both sides are the same set of samples"),
        (NORMAL, np.float64(3.0), r"y.npy: .*it has no samples"),
    ],
)
def test_what_samples_cannot_be_is_said_in_one_line(sides, tmp_path, x, y, said):
    asked = sides(x, y)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RequestError, match=said) as raised:
        certify(**asked)
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"delta": 0.0}, "between 0 and 1"),
        ({"delta": float("nan")}, "between 0 and 1"),
        ({"samples": 399}, "399 samples cannot be judged: it has 400"),
        ({"samples": 12}, "12 judged samples can never show a difference"),
        ({"overrides": ("generator.use=mlp",)}, r"a critic has no table \[generator\]"),
        ({"overrides": ("discriminator.use=nothing",)}, "unknown discriminator"),
        ({"overrides": ("dataset.use=ring",)}, "is no recipe, so it has no"),
        ({"features": "nothing"}, "unknown features"),
        ({"features": "classifier"}, "features"),
        ({"data": "nothing"}, "there is no such file or folder"),
        ({"against": None}, "two sides"),
        ({"run": "runs/x"}, "not both"),
    ],
)
def test_wrong_requests_are_one_line(sides, more, said):
    with pytest.raises(RequestError, match=said) as raised:
        certify(**{**sides(NORMAL, NORMAL + 1), **more})
    assert "\n" not in str(raised.value)


def test_another_critic_takes_the_place_of_the_default_one_whole():
    """The default's options are of the default's network."""
    recipe = load_critic(critics.DEFAULT, ["discriminator.use=dcgan", "constraints=[]"], load(), "critic")
    assert recipe.discriminator == ganframe.component("discriminator", "dcgan")()
    assert recipe.constraints == ()


def test_array_of_numbers_is_of_samples_with_one_dimension(sides):
    found = certify(**sides(NORMAL[:, 0], NORMAL[:, 1] + 9))
    assert found.shape == (1,)
    assert found.certified > 4


def test_images_in_another_range_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("unit.npy", np.random.RandomState(0).rand(400, 1, 8, 8).astype(np.float32))
    data = dataset(tmp_path, "digits", use="digits", split="train")
    with pytest.raises(RequestError, match=r"unit.npy: its values are from .* to 1, and .* from -1 to 1"):
        certify(data=data, against="unit.npy")
