"""Features of samples: their names, resizing and channels, what is computed once, and the hash of the weights."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import ganframe
from ganframe import Dataset, DataSpec, Features, Metric, option
from ganframe.judging import features
from ganframe.judging.features import Extractor, find_features, known_name, weights_hash
from ganframe.judging.judge import Judge, JudgedData, named
from ganframe.plugins.registry import Plugin, Registry
from ganframe.recipes.tables import Evaluation

CPU = torch.device("cpu")


class Seen(nn.Module):
    """Keeps the inputs that it was given."""

    def __init__(self):
        super().__init__()
        self.inputs = []

    def forward(self, x):
        self.inputs.append(x)
        return x.flatten(1)


def extractor(spec, channels=None, size=None, network=None):
    return Extractor("seen", Features(network or Seen(), channels, size), spec, CPU)


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 28, 28), (3, 40, 20)], ids=str)
def test_images_are_resized_to_what_the_network_expects(shape):
    x = torch.linspace(-1, 1, shape[1])[:, None].expand(5, *shape).contiguous()
    extract = extractor(DataSpec(shape), 3, 16)
    assert extract(x).shape == (5, 3 * 16 * 16)
    rows = extract.network.inputs[0][0, 0].mean(1)
    assert (rows.diff() > 0).all()  # neither turned nor mirrored
    assert rows.mean() == pytest.approx(0, abs=1e-5)
    described = extract.described()
    assert (described["size"], described["resizer"]) == (16, features.RESIZER)


def test_images_of_the_right_size_are_passed_as_they_are():
    x = torch.rand(4, 3, 16, 16)
    extract = extractor(DataSpec((3, 16, 16)), 3, 16)
    extract(x)
    assert torch.equal(extract.network.inputs[0], x)


def test_grey_images_get_equal_channels():
    x = torch.rand(4, 1, 8, 8)
    extract = extractor(DataSpec((1, 8, 8)), 3)
    extract(x)
    assert torch.equal(extract.network.inputs[0], x.repeat(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DataSpec((4, 8, 8)), r"of images with 3 channels, and these have 4; use others, as 'pixels' or 'classifier'"),
        (DataSpec((2, 8, 8)), "these have 2"),
        (DataSpec((3,)), r"are of images, and samples have shape \(3,\)"),
        (DataSpec((3, 8, 8), is_image=False), "are of images, and samples have shape"),
    ],
    ids=["with opacity", "two channels", "points", "no images"],
)
@pytest.mark.parametrize("size", [None, 16])
def test_samples_that_the_network_does_not_take_are_refused(spec, message, size):
    with pytest.raises(ValueError, match=message):
        extractor(spec, 3, size)


def test_the_network_is_in_evaluation_mode_and_sees_a_part_of_the_samples_at_a_time():
    class Half(Seen):
        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            return super().forward(x).half()

    extract = extractor(DataSpec((3, 8, 8)), 3, 224, Half())
    found = extract(torch.rand(60, 3, 8, 8))
    assert (found.dtype, len(found)) == (torch.float32, 60)
    assert max(map(len, extract.network.inputs)) * 3 * 224**2 <= features.NUMBERS


def test_features_of_samples_seen_before_are_not_computed_again():
    x = torch.rand(40, 2)
    extract = extractor(DataSpec((2,)))
    assert torch.equal(extract(x), x)
    assert torch.equal(extract(x[:30]), x[:30])
    assert len(extract.network.inputs) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x[::2],
        lambda x: x.transpose(2, 3),
        lambda x: x[5:],
        lambda x: x.clone(),
        lambda x: x.mul_(2),
        lambda x: x[:10].zero_(),
        lambda x: x.as_strided(x.shape, x.stride(), 0).flip(0),
    ],
    ids=["each second", "turned", "later ones", "copy", "changed in place", "changed in part", "reversed"],
)
def test_other_samples_in_the_same_memory_are_not_taken_for_those_seen(other):
    x = torch.rand(40, 1, 4, 4)
    extract = extractor(DataSpec((1, 4, 4)))
    extract(x)
    changed = other(x)
    assert torch.equal(extract(changed), changed.flatten(1))


def test_samples_of_inference_mode_are_taken():
    with torch.inference_mode():
        x = torch.rand(5, 2)
    assert torch.equal(extractor(DataSpec((2,)))(x), x)


def test_hash_of_weights_depends_on_values_names_and_buffers_alone():
    def norm(**changed):
        layer = nn.BatchNorm1d(3)
        for name, value in changed.items():
            getattr(layer, name).data.fill_(value)
        return layer

    assert weights_hash(norm()) == weights_hash(norm().eval().requires_grad_(False))
    others = [norm(weight=2.0), norm(running_mean=1.0), nn.BatchNorm1d(4), nn.Sequential(norm())]
    assert len({weights_hash(network) for network in [norm(), *others]}) == 5
    assert weights_hash(norm().to(torch.float64)) != ""


# ------------------------------------------------------------------------------------------------- names and scores


@attrs.frozen
class Points(Dataset):
    """Points of two classes."""

    @property
    def spec(self):
        return DataSpec((2,), classes=2)

    def build(self):
        y = torch.arange(300) % 2
        return TensorDataset(torch.randn(300, 2, generator=torch.Generator().manual_seed(0)) + y[:, None], y)


@attrs.frozen
class First(Metric):
    """The first feature."""

    features: str = option("seen", help="name")
    better = {"first": "lower"}
    samples = 20

    def build(self, judging):
        extract = judging.features(self.features)
        real = extract(judging.real(30)[0])
        return lambda x, y: {"first": (extract(x) - real[: len(x)]).mean().item()}


def seen(judging):
    """As they are, after the training samples were looked at."""
    judging.training(100)
    judging.real(90)
    torch.rand(3)
    return Features(nn.Linear(2, 2))


def registry_of(*names):
    owners = {name: Plugin(name, "", name, "1.0", "loaded", features={"seen": lambda j: seen(j)}) for name in names}
    owners[names[0]].components["metric"] = {"first": First}
    owners[names[0]].components["dataset"] = {"points": Points}
    return Registry(tuple(owners.values()))


def scores(registry, *metrics):
    data = JudgedData(Points(), Points().spec, Points().build(), None)
    judge = Judge(named([Evaluation(metric) for metric in metrics], registry), data, registry, CPU, "own.toml")
    return judge.scores(torch.zeros(20, 2), None)


def test_scores_name_features_in_one_way_however_a_recipe_does():
    for owner, name in (("builtin", "seen"), ("own", "own:seen")):
        registry = registry_of(owner)
        assert {known_name(asked, registry) for asked in ("seen", f"{owner}:seen")} == {name}
        protocol = scores(registry, First(features="seen"))[0]["protocol"]
        assert list(protocol["features"]) == [name]
        assert protocol["features"][name]["name"] == name
    with pytest.raises(ganframe.RequestError, match="unknown features 'sene'; did you mean 'seen'"):
        known_name("sene", registry)


def test_what_features_are_made_from_is_not_said_of_the_metric_that_names_them_first():
    """Else two scores by the same protocol would differ in it, as the order of the metrics does."""
    first, second = scores(registry_of("own"), First(), First())
    assert first["protocol"]["counts"] == {"real": 30}
    assert first["protocol"] == second["protocol"]


def test_features_are_the_same_whatever_a_metric_drew_before():
    @attrs.frozen
    class Drawing(First):
        def build(self, judging):
            torch.rand(7)
            return super().build(judging)

    registry = registry_of("own")
    registry.plugins[0].components["metric"]["drawing"] = Drawing
    hashes = {
        scores(registry, metric)[0]["protocol"]["features"]["own:seen"]["hash"] for metric in (First(), Drawing())
    }
    assert len(hashes) == 1


def test_features_that_are_none_are_refused():
    registry = registry_of("own")
    registry.plugins[0].features["seen"] = lambda judging: nn.Flatten()
    with pytest.raises(ganframe.RecipeError, match=r"metrics\[0\]: features 'seen' must return ganframe.Features"):
        scores(registry, First())


def test_pixels_are_the_values():
    found = find_features("pixels", _judging(), registry_of("own"))
    x = torch.rand(3, 2, 4)
    assert torch.equal(found(x), x.flatten(1))


def _judging():
    made = []

    @attrs.frozen
    class Keep(First):
        def build(self, judging):
            made.append(judging)
            return lambda x, y: {"first": 0.0}

    registry = registry_of("own")
    registry.plugins[0].components["metric"]["keep"] = Keep
    scores(registry, Keep())
    return made[0]
