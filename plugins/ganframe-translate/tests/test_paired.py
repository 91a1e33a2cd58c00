"""The metrics paired and kept_class: numbers by hand, which partner is meant, what is refused."""

import functools
import json
import math

import attrs
import pytest
import torch
from ganframe_translate import KeptClass, Paired, classifier, paired
from torch.utils.data import TensorDataset

import ganframe
from ganframe import Dataset, DataSpec, Judging, RecipeError, component, option
from ganframe.testing import check_metric

DIGITS = component("dataset", "digits")


@attrs.frozen
class Negatives(Dataset):
    """Digits: the scan is y, and its negative x; the labels are not told."""

    split: str = option("train", help="part of the scans")
    half: bool = option(False, help="whether y has half the size")
    channels: int = option(1, help="channels of y")

    @property
    def spec(self):
        size = 4 if self.half else 8
        return DataSpec((1, 8, 8), condition=(self.channels, size, size))

    def build(self):
        x = DIGITS(split=self.split).build().tensors[0]
        y = x[:, :, ::2, ::2] if self.half else x
        return TensorDataset(255 - x, y.expand(-1, self.channels, -1, -1).contiguous())

    def held_out(self):
        return attrs.evolve(self, split="test").build() if self.split == "train" else None


@attrs.frozen
class Plates(Dataset):
    """The negatives with their labels."""

    split: str = option("train", help="part of the scans")

    @property
    def spec(self):
        return DataSpec((1, 8, 8), classes=10)

    def build(self):
        x, y = DIGITS(split=self.split).build().tensors
        return TensorDataset(255 - x, y)

    def held_out(self):
        return attrs.evolve(self, split="test").build() if self.split == "train" else None


def judging_of(x, y, spec=None):
    """What a metric sees of real samples x with conditions y."""
    spec = spec or DataSpec(tuple(x.shape[1:]), condition=tuple(y.shape[1:]))
    draw = lambda n: (x[:n], y[:n])  # noqa: E731
    names = dict.fromkeys(("real", "training", "held_out"), draw)
    return Judging(
        dataset=None,
        spec=spec,
        data=TensorDataset(x, y),
        against="test",
        samples=len(x),
        seed=0,
        device=torch.device("cpu"),
        features=None,
        **names,
    )


def pairs(n=6, size=4):
    return torch.rand(n, 1, size, size) * 2 - 1, torch.rand(n, 1, size, size) * 2 - 1


# -------------------------------------------------------------------------------------------------------------- paired


def test_psnr_and_l1_by_hand():
    x, y = pairs()
    x = x / 2
    measure = Paired().build(judging_of(x, y))
    found = measure(x + 0.2, y)
    assert found["l1"] == pytest.approx(0.2, rel=1e-5)
    assert found["psnr"] == pytest.approx(20, rel=1e-5)  # 10 log10(4 / .04)
    assert measure(x, y)["psnr"] == pytest.approx(10 * math.log10(4e8))
    assert found["identity_l1"] == pytest.approx((x - y).abs().mean().item(), rel=1e-5)
    one = measure(torch.cat([x[:1] + 0.02, x[1:2] + 0.2]), y[:2])
    assert one["psnr"] == pytest.approx((40 + 20) / 2, rel=1e-4)  # of each image, then the mean


def test_the_partner_is_found_in_any_order():
    x, y = pairs(20)
    order = torch.randperm(20)
    measure = Paired().build(judging_of(x, y))
    assert measure(x[order], y[order])["l1"] == 0
    assert measure(x[order], y)["l1"] > 0.1


def test_the_nearest_of_several_right_answers_counts():
    x, y = pairs()
    both = torch.cat([x, -x]), torch.cat([y, y])
    measure = Paired().build(judging_of(*both))
    assert measure(x + 0.01, y)["l1"] == pytest.approx(0.01, rel=1e-3)
    assert measure(-x, y)["l1"] == 0


def test_minus_zero_is_zero():
    x, y = pairs()
    y[:, :, 0] = 0.0
    assert Paired().build(judging_of(x, y))(x, torch.where(y == 0, -0.0, y))["l1"] == 0


def test_a_smaller_y_is_enlarged_as_an_answer_and_other_forms_are_none():
    x, y = torch.full((3, 1, 8, 8), 0.5), torch.full((3, 1, 4, 4), 0.25)
    y = y + torch.arange(3).view(3, 1, 1, 1) / 1000
    found = Paired().build(judging_of(x, y))(x, y)
    assert found["identity_l1"] == pytest.approx(0.249, rel=1e-3)
    for other in (y.expand(3, 2, 4, 4), y[..., :3]):
        assert set(Paired().build(judging_of(x, other))(x, other)) == {"psnr", "l1"}


def test_samples_without_a_real_one_of_their_y_are_refused(monkeypatch):
    x, y = pairs()
    measure = Paired().build(judging_of(x, y))
    with pytest.raises(ValueError, match="no real sample has the y of 2 of 6 samples"):
        measure(x, torch.cat([y[:4], y[4:] + 0.1]))
    with pytest.raises(ValueError, match="these were made for none"):
        measure(x, None)
    monkeypatch.setattr(paired, "NUMBERS", 32 * 4)
    with pytest.raises(ValueError, match=r"of 2 of 6 samples.*the first 4 are looked at"):
        Paired().build(judging_of(x, y))(x, y)


@pytest.mark.parametrize("data", [None, Negatives(), Negatives(half=True)], ids=["clusters", "negatives", "smaller"])
def test_paired_passes_the_kit(data):
    check_metric(Paired, data)


# ---------------------------------------------------------------------------------------------------------- kept_class


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", (60, 60))


def test_kept_class_passes_the_kit(few_steps):
    check_metric(KeptClass(of=Plates()), Negatives())


def test_kept_class_counts_samples_of_the_right_class(few_steps):
    x, y = (tensor.float() / 127.5 - 1 for tensor in Negatives().held_out().tensors)
    labels = DIGITS(split="test").build().tensors[1]
    measure = KeptClass(of=Plates()).build(judging_of(x, y))
    found = measure(x, y)
    assert found["kept_class"] == 1.0
    assert found["classifier"] > 0.85
    assert found["identity_kept_class"] < 0.5  # positives, to a classifier of negatives
    other = torch.stack([x[labels != label][0] for label in labels])
    assert measure(other, y)["kept_class"] < 0.2
    half = torch.cat([x[:100], other[100:200]])
    assert measure(half, y[:200])["kept_class"] == pytest.approx(0.5, abs=0.1)


def test_a_classifier_of_other_images_is_refused():
    with pytest.raises(ValueError, match=r"of: its images have the shape \(1, 16, 16\), and samples \(1, 8, 8\)"):
        KeptClass(of=DIGITS(size=16)).build(judging_of(*pairs(size=8)))


def test_data_without_labels_for_the_classifier_is_refused():
    with pytest.raises(ValueError, match="of: a classifier is trained on labelled images"):
        KeptClass(of=Negatives()).build(judging_of(*pairs(size=8)))


# ------------------------------------------------------------------------------------------------------------ in a run

RECIPE = """
[dataset]
use = "completion"
of = {{ use = "digits", split = "train" }}
[latent]
dim = 2
[generator]
use = "mlp"
hidden = [16]
condition = "{condition}"
[discriminator]
use = "mlp"
hidden = [16]
condition = "{condition}"
[objective]
use = "non_saturating"
[[metrics]]
use = "paired"
[train]
steps = 1
batch_size = 8
"""


def load(tmp_path, condition="concat"):
    pytest.importorskip("ganframe_terms")
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE.format(condition=condition))
    return functools.partial(ganframe.load_recipe, file)


def test_a_run_is_judged_on_held_out_pairs(tmp_path):
    run = ganframe.run(load(tmp_path)(), out=tmp_path / "run")
    (score,) = map(json.loads, (run.folder / "evaluations.jsonl").read_text().splitlines())
    assert score["protocol"]["against"] == "test"
    assert {"psnr", "l1", "identity_psnr", "identity_l1"} <= score.keys()
    assert score["protocol"]["counts"] == {"real": 359}


def test_data_without_conditions_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(RecipeError, match=r"metrics\[0\]: it needs data with conditions"):
        ganframe.run(load(tmp_path, "none")(["dataset={use='digits'}"]), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
