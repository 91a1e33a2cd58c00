"""Names of classes: which label a user means, and where the names are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

import ganframe
from ganframe import DataSpec
from ganframe.data.classes import label_of, shown_classes
from ganframe.storage.weights import generator_spec, save_generator


def named(*names):
    return DataSpec((3,), len(names), class_names=names)


@pytest.mark.parametrize(
    ("spec", "text", "label"),
    [
        (named("cat", "dog"), "dog", 1),
        (named("cat", "dog"), "0", 0),
        (named("cat", "dog"), "-1", -1),  # out of range, which the caller says
        (named("1", "2", "3"), "3", 2),  # the name is meant
        (named("cat", "7"), "7", 1),
        (DataSpec((3,), 4), "3", 3),
    ],
)
def test_class_is_given_by_name_or_by_label(spec, text, label):
    assert label_of(spec, text) == label


@pytest.mark.parametrize(
    ("spec", "text", "message"),
    [
        (named("cat", "dog"), "cats", "'cats': no class has this name; the classes are 0 'cat', 1 'dog'"),
        (named("1", "2", "3"), "0", "'0': no class has this name; the classes are 0 '1', 1 '2', 2 '3'"),
        (DataSpec((3,), 4), "cat", "the classes of this data have no names; give a label"),
        (named(*(f"kind{i}" for i in range(99))), "kin7", "did you mean 'kind7'"),
    ],
)
def test_name_that_no_class_has_is_refused(spec, text, message):
    with pytest.raises(ValueError, match=message):
        label_of(spec, text)


def test_many_names_are_shortened():
    assert shown_classes(named(*"abcdefghijklmnopqrstuvwxyz")).endswith("10 'k', …, 25 'z'")
    assert shown_classes(named("a\nb", "\udcff")) == "0 'a?b', 1 '?'"


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (2, ("a",), "class_names has 1 names, and classes is 2"),
        (None, ("a",), "class_names has 1 names, and classes is None"),
        (2, ("a", "a"), "class_names must differ: a"),
        (2, "ab", "class_names must be a name for each class"),
        (2, (1, 2), "class_names must be a name for each class"),
        (2, ("a", ""), "class_names must be a name for each class"),
    ],
)
def test_dataspec_refuses_names_that_do_not_fit(classes, names, message):
    with pytest.raises(ValueError, match=message):
        DataSpec((3,), classes, class_names=names)


def test_names_are_kept_with_the_weights_and_do_not_count_in_equality(tmp_path):
    file = tmp_path / "generator.safetensors"
    for spec in (named("cat", "größer"), DataSpec((3,), 2)):  # the second as in files without names
        save_generator(file, torch.nn.Linear(1, 1), spec)
        assert generator_spec(file) == named("a", "b")
        assert generator_spec(file).class_names == spec.class_names
    with safe_open(file, framework="pt") as opened:
        assert "class_names" not in json.loads(opened.metadata()["spec"])


@pytest.mark.parametrize(
    ("folders", "wanted"),
    [
        ([str(i) for i in range(12)], [str(i) for i in range(12)]),
        (["kind10", "kind2", "kind1"], ["kind1", "kind2", "kind10"]),
        (["b", "a10c2", "a10c10", "a9", "02", "2", "B"], ["02", "2", "B", "a9", "a10c2", "a10c10", "b"]),
    ],
)
def test_class_folders_are_in_natural_order(tmp_path, folders, wanted):
    for index, name in enumerate(folders):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8), index).save(tmp_path / name / "a.png")
    dataset = ganframe.component("dataset", "image_folder")(root=str(tmp_path), channels=1)
    assert dataset.spec.class_names == tuple(wanted)
    x, y = dataset.build().tensors
    assert [folders[int(image.max())] for image in x] == [wanted[label] for label in y]


def test_known_datasets_name_their_classes():
    torchvision = ganframe.component("dataset", "torchvision")
    for name in ("MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "SVHN", "STL10"):
        spec = torchvision(name=name).spec
        assert len(spec.class_names) == spec.classes
    assert torchvision(name="CelebA").spec.class_names is None
    assert ganframe.component("dataset", "digits")().spec.class_names == tuple("0123456789")


@pytest.fixture
def animals(call, tiny):
    """A run of four steps on folders of images with names that hold signs, numbers and spaces."""
    for index, name in enumerate(("kind10", "kind2", "t-shirt", "big cat")):
        Path("img", name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (8, 8), 60 * index + i).save(Path("img", name, f"{i}.png"))
    changes = ["dataset={use='image_folder', root='img', channels=1}", "train.steps=2", "generator.condition=concat"]
    changes.append("discriminator.condition=projection")
    words = [word for change in changes for word in ("--set", change)]
    said = call("check", tiny(), *words).stdout
    assert "classes        0 'big cat', 1 'kind2', 2 'kind10', 3 't-shirt'" in said
    call("run", tiny(), "--out", "run", *words)
    G = ganframe.load_generator("run")
    with torch.no_grad():
        for parameter in G.network.parameters():  # after two steps the classes hardly differ
            parameter.normal_(0, 0.5)
    save_generator(Path("run/generator.safetensors"), G.network, G.spec)
    return G


def test_class_is_asked_for_by_its_name(call, animals):
    names = ["big cat", "kind2", "kind10", "t-shirt"]
    assert json.loads(Path("run/environment.json").read_text())["classes"] == names
    assert ganframe.load_generator("run").spec.class_names == tuple(names)
    z, y = animals.latents(64)
    for label, name in enumerate(names):
        said = call("sample", "run", "-n", 4, "--label", name, "--out", f"{label}.npy").stdout
        assert said == f"4 samples of class '{name}' (label {label}): {label}.npy\n"
        by_label = animals.sample(4, y=label)
        assert torch.equal(animals.sample(4, y=name), by_label)
        assert torch.equal(animals.sample(4, y=[name] * 4), by_label)
        call("interpolate", "run", "--label", name, "--out", "x.npy")
        found = ganframe.arithmetic("run", f"class={name} - class=kind2 + class=kind2")
        assert found.y == label
        assert torch.equal(found.groups[0].z, z[y == label])
    assert (
        "no class has this name; the classes are 0 'big cat'" in call("sample", "run", "--label", "cat", code=2).stderr
    )
    assert "'class=cat': 'cat': no class has this name" in call("arithmetic", "run", "class=cat", code=2).stderr
    call("sample", "run", "--label", "t-shirt", "-n", 2)
    assert Path("run/samples/seed-0-label-3.png").exists()


def test_name_in_decomposed_unicode_is_found_by_what_a_keyboard_gives():
    spec = DataSpec((2,), classes=2, class_names=("cafe\u0301", "tea"))
    assert label_of(spec, "caf\u00e9") == 0
