"""The term perceptual: distances by hand, whose features, weights from files and never by a download unasked."""

import shutil

import attrs
import pytest
import torch
from ganframe_translate import Perceptual, classifier
from torch import nn
from torchvision.models import squeezenet1_1

import ganframe
from ganframe import DataSpec, RecipeError, Scored, Turn, component
from ganframe.testing import check_term

IMAGES = DataSpec((1, 8, 8), condition=(1, 8, 8))
DIGITS = component("dataset", "digits")()
SQUEEZE = "squeezenet1_1"  # five megabytes


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", (12, 12))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights of a small network of torchvision, and the network."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    network = squeezenet1_1(weights=None).eval()
    torch.save(network.state_dict(), file)
    return file, network


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of torch.hub; a download fails the test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("a download"))
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


def turn_of(term, spec, parts=None, extras=({}, {}), n=3):
    """A generator turn on random images, with fakes that require gradients."""
    x, fake, y = torch.rand(n, *spec.shape) * 2 - 1, torch.rand(n, *spec.shape) * 2 - 1, spec.blank(n)
    sides = Scored(x, y, None, extras=extras[0]), Scored(fake.requires_grad_(), y, None, torch.randn(n, 2), extras[1])
    if parts is None:
        parts = term.prepare(nn.Identity(), nn.Identity(), spec)
    return Turn(nn.Identity(), nn.Identity(), *sides, None, 0, parts)


# ---------------------------------------------------------------------------------------- features of the discriminator


def test_feature_matching_by_hand():
    term = Perceptual(weight=3.0, layers=("layer0", "layer1"))
    assert (term.needs_real, term.needs_extras) == ("scores", ("layer0", "layer1"))
    real = {"layer0": torch.zeros(2, 4, 2, 2), "layer1": torch.ones(2, 3)}
    fake = {"layer0": torch.full((2, 4, 2, 2), 0.5), "layer1": torch.tensor([[1.0, 1, 1], [1, 1, 4]])}
    value = term.generator_term(turn_of(term, IMAGES, extras=(real, fake), n=2))
    assert value.item() == pytest.approx(3 * (0.5 + 3 / 6))  # each layer's own mean, then their sum
    squared = attrs.evolve(term, distance="l2").generator_term(turn_of(term, IMAGES, extras=(real, fake), n=2))
    assert squared.item() == pytest.approx(3 * (0.25 + 9 / 6))


def test_real_features_are_a_target_and_get_no_gradient():
    real, fake = (torch.rand(2, 3, requires_grad=True) for _ in range(2))
    term = Perceptual()
    term.generator_term(turn_of(term, IMAGES, extras=({"features": real}, {"features": fake}), n=2)).backward()
    assert real.grad is None
    assert fake.grad is not None


@pytest.mark.parametrize("term", [Perceptual, Perceptual(layers=("layer0", "features"), distance="l2")])
def test_features_of_the_discriminator_pass_the_kit(term):
    check_term(term)


# --------------------------------------------------------------------------------------------- features of a classifier


def test_features_of_a_classifier_by_hand():
    term = Perceptual(features="classifier", of=DIGITS, layers=("1", "3"), weight=2.0)
    assert (term.needs_real, term.needs_extras) == ("x", ())
    turn = turn_of(term, IMAGES)
    network = classifier.trained_classifier(DIGITS)
    both = zip(network.features(turn.real.x), network.features(turn.fake.x), strict=True)
    first, _, third = ((a - b).square().mean() for a, b in both)
    value = term.generator_term(turn)
    torch.testing.assert_close(value, 2 * (first + third))
    value.backward()
    assert turn.fake.x.grad.abs().sum() > 0


def test_features_of_a_classifier_pass_the_kit():
    check_term(Perceptual(features="classifier", of=DIGITS), IMAGES)


# --------------------------------------------------------------------------------------------- features of torchvision


def test_features_of_torchvision_by_hand(weights):
    file, network = weights
    spec = DataSpec((1, 32, 32), condition=(1, 8, 8))
    term = Perceptual(features=SQUEEZE, layers=("features.0", "features.3"), weights=str(file))
    turn = turn_of(term, spec)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        a, b = (((x + 1) / 2).expand(-1, 3, -1, -1).sub(mean).div(std) for x in (turn.real.x, turn.fake.x))
        expected = sum((network.features[:end](a) - network.features[:end](b)).square().mean() for end in (1, 4))
    torch.testing.assert_close(term.generator_term(turn).detach(), expected)


def test_features_of_torchvision_pass_the_kit(weights):
    term = Perceptual(features=SQUEEZE, layers=("features.3",), weights=str(weights[0]))
    check_term(term, DataSpec((3, 16, 16), condition=(2,)))


def test_the_layer_of_srgan_is_the_default_of_vgg19():
    from torchvision.models import vgg19

    with torch.device("meta"):
        network = vgg19(weights=None, init_weights=False)
    convolutions = [i for i, layer in enumerate(network.features) if isinstance(layer, nn.Conv2d)]
    pools = [i for i, layer in enumerate(network.features) if isinstance(layer, nn.MaxPool2d)]
    (name,) = Perceptual(features="vgg19").compared
    index = int(name.removeprefix("features."))
    assert isinstance(network.features[index], nn.ReLU)
    assert (convolutions[-1], pools[-1]) == (index - 1, index + 1)  # the 4th of block 5, before the 5th pooling


def test_weights_are_read_from_the_folder_of_torch_hub(weights, hub):
    (hub / "squeezenet1_1-b8a52dc0.pth").write_bytes(weights[0].read_bytes())
    term = Perceptual(features=SQUEEZE, layers=("features.3",))
    spec = DataSpec((3, 16, 16), condition=(2,))
    found = term.prepare(nn.Identity(), nn.Identity(), spec).frozen(torch.ones(1, 3, 16, 16))
    named = attrs.evolve(term, weights=str(weights[0])).prepare(nn.Identity(), nn.Identity(), spec).frozen
    torch.testing.assert_close(found, named(torch.ones(1, 3, 16, 16)))


def test_weights_may_be_safetensors(weights, tmp_path):
    from safetensors.torch import save_file

    save_file(weights[1].state_dict(), tmp_path / "w.safetensors")
    term = Perceptual(features=SQUEEZE, layers=("features.3",), weights=str(tmp_path / "w.safetensors"))
    assert term.prepare(nn.Identity(), nn.Identity(), DataSpec((3, 16, 16), condition=(2,))).frozen is not None


def test_nothing_is_downloaded_unasked(hub):
    term = Perceptual(features="vgg19")
    with pytest.raises(
        ValueError, match=r"weights of vgg19 are not here: put https://.*vgg19-.*pth into .*checkpoints"
    ):
        term.prepare(nn.Identity(), nn.Identity(), DataSpec((3, 64, 64), condition=(2,)))


def test_a_download_that_was_asked_for_and_fails_is_one_line(hub, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    term = Perceptual(features=SQUEEZE, layers=("features.3",), download=True)
    with pytest.raises(ValueError, match=r"squeezenet1_1-b8a52dc0.pth cannot be downloaded: no network"):
        term.prepare(nn.Identity(), nn.Identity(), DataSpec((3, 16, 16), condition=(2,)))


# ------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"features": "classifier"}, "of: labelled images belong to"),
        ({"of": DIGITS}, "of: labelled images belong to"),
        ({"features": "classifier", "of": DIGITS, "layers": ("4",)}, 'layers: those of the classifier are "1"'),
        ({"features": SQUEEZE}, f"layers: name those of {SQUEEZE}"),
        ({"download": True}, "weights, download: only for networks of torchvision"),
        ({"weights": "file"}, "weights, download: only for networks of torchvision"),
    ],
)
def test_options_that_contradict_are_refused(options, cause):
    with pytest.raises(ValueError, match=cause):
        Perceptual(**options)


@pytest.mark.parametrize(
    ("term", "spec", "cause"),
    [
        (Perceptual(), DataSpec((1, 8, 8)), "this data has no conditions"),
        (Perceptual(features="classifier", of=DIGITS), DataSpec((5,), condition=(2,)), "needs images"),
        (
            Perceptual(features="classifier", of=DIGITS),
            DataSpec((1, 9, 9), condition=(2,)),
            r"of: its images have shape",
        ),
        (Perceptual(features="vgg19"), DataSpec((2, 64, 64), condition=(2,)), "1 or 3 channels, and samples have 2"),
        (Perceptual(features="vgg99", layers=("1",)), DataSpec((3, 8, 8), condition=(2,)), '"vgg99" is not'),
        (Perceptual(features="vgg19", weights="none.pth"), IMAGES, r"weights: none\.pth is no file"),
    ],
)
def test_what_does_not_fit_is_refused(term, spec, cause, hub):
    with pytest.raises(ValueError, match=cause):
        term.prepare(nn.Identity(), nn.Identity(), spec)


def test_files_that_hold_no_such_weights_are_refused(weights, tmp_path):
    spec = DataSpec((3, 16, 16), condition=(2,))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"text\.pth: it cannot be read as weights"):
        Perceptual(features="vgg16", weights=str(tmp_path / "text.pth")).prepare(nn.Identity(), nn.Identity(), spec)
    with pytest.raises(ValueError, match="not those of torchvision's resnet18"):
        Perceptual(features="resnet18", weights=str(weights[0])).prepare(nn.Identity(), nn.Identity(), spec)
    unknown = Perceptual(features=SQUEEZE, layers=("features.99",), weights=str(weights[0]))
    with pytest.raises(ValueError, match=r"layers: squeezenet1_1 has no features\.99; it has classifier"):
        unknown.prepare(nn.Identity(), nn.Identity(), spec)
    small = Perceptual(features=SQUEEZE, layers=("features.12",), weights=str(weights[0]))
    with pytest.raises(ValueError, match=r"squeezenet1_1 cannot be used on images \(3, 4, 4\)"):
        small.prepare(nn.Identity(), nn.Identity(), DataSpec((3, 4, 4), condition=(2,)))


# ------------------------------------------------------------------------------------------------------------ in a run


RECIPE = """
[dataset]
use = "derived"
condition = "noise"
of = { use = "digits", size = 16 }
[latent]
dim = 2
[generator]
use = "mlp"
hidden = [16]
condition = "concat"
[discriminator]
use = "mlp"
hidden = [16]
condition = "concat"
[objective]
use = "non_saturating"
[[terms]]
use = "perceptual"
weight = { from = 1.0, to = 0.5, steps = 4 }
[train]
steps = 4
batch_size = 8
[log]
every = 1
checkpoint_every = 2
"""


@pytest.mark.parametrize(
    "more",
    [[], ["terms[0].features='classifier'", "terms[0].of={use='digits',size=16}"]],
    ids=["discriminator", "classifier"],
)
def test_a_run_resumes_exactly(more, tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE)
    run = ganframe.run(ganframe.load_recipe(file, more), out=tmp_path / "run")
    assert all(record["term_perceptual"] > 0 for record in run.log)
    shutil.copytree(run.folder, tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed/checkpoints/step-000004")
    ganframe.resume(tmp_path / "killed")
    for name in ("generator.safetensors", "discriminator.safetensors"):
        one, other = (tmp_path / folder / "checkpoints/step-000004" / name for folder in ("run", "killed"))
        assert one.read_bytes() == other.read_bytes()


def test_a_discriminator_without_the_layer_is_refused(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE)
    with pytest.raises(RecipeError, match=r"terms\[0\].*layer7"):
        ganframe.run(ganframe.load_recipe(file, ["terms[0].layers=['layer7']"]), out=tmp_path / "run")
