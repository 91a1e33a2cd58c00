"""The classes of samples, by a classifier: histograms, accuracy where labels are heeded, modes of stacked images."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, option
from ganframe.builtin import classes, small_classifier
from ganframe.builtin.classes import Classes
from ganframe.builtin.images import Digits
from ganframe.builtin.stacked import Stacked
from ganframe.judging.features import Extractor
from ganframe.judging.judge import Judge, JudgedData
from ganframe.judging.protocol import numbers
from ganframe.plugins.registry import load
from ganframe.recipes.tables import Evaluation


@attrs.frozen
class Levels(Dataset):
    """Images of one grey level, which is the class; `often` of class 0 for one of each other."""

    levels: int = option(10, help="classes")
    often: int = option(1, help="how frequent class 0 is")

    @property
    def spec(self):
        return DataSpec((1, 8, 8), classes=self.levels)

    def build(self):
        y = torch.arange((self.levels - 1 + self.often) * 20) % (self.levels - 1 + self.often)
        y = (y - self.often + 1).clamp(min=0)
        return TensorDataset(images(y, self.levels), y)


def images(y, levels=10):
    return (2 * y[:, None, None, None] / (levels - 1) - 1).expand(-1, 1, 8, 8).contiguous()


class Levelled(nn.Module):
    """The logits of each channel's level: a perfect classifier."""

    def __init__(self, levels):
        super().__init__()
        self.levels = levels

    def forward(self, x):
        level = ((x.mean((2, 3)) + 1) / 2 * (self.levels - 1))[..., None]
        return -50 * (level - torch.arange(self.levels)).square().flatten(1).unflatten(1, (-1, self.levels)).flatten(1)


@pytest.fixture
def perfect(monkeypatch):
    """Classifiers name levels without error, so that numbers can be told beforehand."""

    def made(name, judging, registry):
        inner = getattr(judging.dataset, "dataset", judging.dataset)
        features = small_classifier.Features(Levelled(inner.levels), about={"accuracy": 1.0})
        return Extractor(name, features, judging.spec, judging.device)

    monkeypatch.setattr("ganframe.judging.judge.find_features", made)


def score(dataset, x, y=None):
    data = JudgedData(dataset, dataset.spec, dataset.build(), dataset.held_out())
    judge = Judge({"classes": Evaluation(Classes())}, data, load(), torch.device("cpu"), "test")
    return numbers(judge.scores(x, y)[0])


def test_samples_of_all_classes_as_in_the_data_have_no_divergence(perfect):
    found = score(Levels(), images(torch.arange(200) % 10))
    assert found["classes"] == 10
    assert found["kl"] == pytest.approx(0, abs=1e-12)
    assert found["certainty"] == pytest.approx(1)
    assert "modes" not in found


@pytest.mark.parametrize("often", [1, 11])
def test_the_divergence_is_that_of_generated_shares_from_the_data_s(perfect, often):
    """Half of the samples are 0 and half 1."""
    found = score(Levels(often=often), images(torch.arange(200) % 2))
    p = torch.tensor([often, 1.0]) / (often + 9)
    assert found["classes"] == 2
    assert found["kl"] == pytest.approx((0.5 * (0.5 / p).log()).sum().item(), rel=1e-6)
    assert found["kl_floor"] == pytest.approx(9 / 2 * (1 / 200 + 1 / (20 * (often + 9))))


def test_a_class_that_no_real_sample_has_counts_as_half_a_sample(perfect, monkeypatch):
    monkeypatch.setattr(
        Levels, "build", lambda self: TensorDataset(images(torch.zeros(99).long()), torch.zeros(99).long())
    )
    assert score(Levels(levels=2), images(torch.ones(10).long(), 2))["kl"] == pytest.approx(
        torch.tensor(99.5 / 0.5).log().item()
    )


def test_accuracy_is_given_where_labels_are_heeded_alone(perfect):
    y = torch.arange(100) % 10
    x = images(torch.where(torch.arange(100) < 30, (y + 1) % 10, y))
    assert score(Levels(), x, y)["accuracy"] == pytest.approx(0.7)
    assert "accuracy" not in score(Levels(), x, None)


def test_modes_of_stacked_images_are_combinations_and_a_uniform_sampler_has_the_known_divergence(perfect):
    """26,000 samples of 1,000 modes: .0193 ± .0009 (the floor is .0192)."""
    stacked = Stacked(Levels(), channels=3)
    x, y = stacked.build().draw(26_000, torch.Generator().manual_seed(3))
    found = score(stacked, x, y)
    assert found["modes"] == found["classes"] == 1000
    assert found["kl"] == pytest.approx(0.0193, abs=0.003)
    assert found["kl_floor"] == pytest.approx(999 / 52_000)
    assert found["accuracy"] == 1.0


def test_stacked_images_of_few_modes_are_told(perfect):
    stacked = Stacked(Levels(), channels=3)
    y = torch.tensor([[1, 2, 3], [1, 2, 3], [3, 2, 1], [0, 0, 9]])
    x = torch.cat([images(y[:, channel]) for channel in range(3)], 1)
    found = score(stacked, x)
    assert found["modes"] == 3
    q = torch.tensor([0.5, 0.25, 0.25])
    assert found["kl"] == pytest.approx((q * (q * 1000).log()).sum().item(), rel=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_class_of_stacked_images_is_the_label_that_their_data_gives(channels):
    stacked = Stacked(Digits(), channels=channels)
    y = torch.arange(stacked.spec.classes)
    logits = torch.nn.functional.one_hot(stacked.parts(y), 10).float().flatten(1) * 9
    found, certainty = classes.classified(logits, channels)
    assert torch.equal(found, y)
    share = (logits[0, :10].softmax(0)).max().item()
    assert certainty == pytest.approx(share**channels)


def test_the_classifier_of_stacked_images_is_trained_on_their_channels(monkeypatch):
    given = []
    monkeypatch.setattr(small_classifier, "_known_or_trained", lambda *data: given.append(data) or (made(*data), 0.9))

    def made(x, y, number, images):
        return small_classifier.Classifier(tuple(x.shape[1:]), number, images)

    stacked = Stacked(Levels(levels=7), channels=3)
    x, y = stacked.build().draw(50, torch.Generator().manual_seed(3))
    found = score(stacked, x, y)
    (channels, labels, number, _), *_ = given
    assert number == 7
    assert channels.shape[1:] == (1, 8, 8)
    assert torch.allclose(channels.mean((1, 2, 3)), 2 * labels / 6 - 1, atol=1e-5)
    assert 1 <= found["modes"] <= 50


def test_digits_are_found_again(judged):
    x, y = Digits().build().tensors
    found = judged(Classes(), Digits(), x.float() / 127.5 - 1, y)
    assert found["accuracy"] > 0.96
    assert found["classes"] == 10
    assert found["kl"] < 0.01
    assert found["certainty"] > 0.9


def test_data_without_labels_is_refused(judged):
    from ganframe.builtin.distributions import SwissRoll

    with pytest.raises(ValueError, match="it needs data with labels"):
        judged(Classes(), SwissRoll(), torch.rand(100, 2))
