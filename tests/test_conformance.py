"""The built-in components and those of the packages under plugins/ pass the conformance kit."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch
from torchvision.utils import save_image

from ganframe import DataSpec, testing
from ganframe.builtin.images import Digits
from ganframe.builtin.mlp import MLPDiscriminator
from ganframe.builtin.objectives import NonSaturating
from ganframe.hookspecs import HOOKS
from ganframe.plugins.registry import component, load

PACKAGES = sorted(path.parent for path in (Path(__file__).parent.parent / "plugins").glob("*/pyproject.toml"))

# Options for components whose defaults are too large for a test, and those without a default.
SMALL = MLPDiscriminator(hidden=(8,))
OPTIONS = {
    "discriminator pac": {"of": SMALL},
    "discriminator class_scores": {"of": SMALL},
    "objective terms_only": {"of": NonSaturating()},
    **{
        f"dataset {name}": {"of": Digits()}
        for name in ("subset", "hold_out", "partly_labelled", "completion", "coloured")
    },
    "dataset derived": {"of": Digits(), "condition": "edges"},
    "dataset stacked": {"dataset": Digits(split="train")},
    "term info": {"categories": 3, "continuous": 2},
    **{f"term {name}": {"latent_dim": 8, "hidden": (16,)} for name in ("vae_gan", "bigan", "aae")},
    "generator resnet": {"width": 4},
    "discriminator resnet": {"width": 4},
    "generator r3gan": {"width": 16, "blocks": 1},
    "discriminator r3gan": {"width": 16, "blocks": 1},
    "generator stylegan2": {"width": 4, "w_dim": 8},
    "discriminator stylegan2": {"width": 4},
    "generator biggan": {"width": 4},
    "discriminator biggan": {"width": 4},
    "generator progressive": {"width": 4},
    "discriminator progressive": {"width": 4},
    **{f"discriminator {name}": {"width": 4, "blocks": 1} for name in ("sll", "cpl")},
    "discriminator sorted_branches": {"branches": 4, "hidden": (8,)},
    "generator unet": {"width": 4},
    "generator residual": {"width": 4, "blocks": 1},
    "generator srresnet": {"width": 4, "blocks": 1},
    "discriminator patch": {"width": 4},
    "metric kernel": {"subsets": 2},
}
APART = (
    "image_folder",
    "npz",
    "huggingface",
    "table",
    "zip_folder",
    "torchvision",
    "inception_score",
)  # they need files: see below, and their own tests
# They need files, or data or networks of their package, whose own tests check them.
APART_IN_PACKAGES = (
    *("paired_images", "unpaired_images", "crops", "frames_folder"),
    *("cycle", "futures", "consistent", "kept_class", "path_lengths"),
)
# Terms that need a discriminator of their own package, or one that does not see the label, and the data for them.
DISCRIMINATORS = {
    "term began": ("autoencoder", {}, None),
    "term cramer_penalty": ("embedding", {}, None),
    "term class_head": ("mlp", {"hidden": (8,)}, DataSpec((5,), classes=4)),
    "term semi_supervised": ("class_scores", {"of": SMALL}, DataSpec((5,), classes=4)),
}
VARIANTS = [
    ("generator", "mlp", {"batch_norm": True}, None),
    ("generator", "mlp", {"condition": "concat"}, DataSpec((3,), classes=4)),
    ("generator", "mlp", {"condition": "batch_norm", "batch_norm": True}, DataSpec((3,), classes=4)),
    ("generator", "mlp", {}, DataSpec((8,), columns=(1, 3, 4))),
    ("generator", "dcgan", {"width": 8, "condition": "batch_norm"}, DataSpec((3, 16, 16), classes=4)),
    ("generator", "dcgan", {"width": 2}, DataSpec((1, 128, 128))),
    ("generator", "resnet", {"width": 2, "condition": "batch_norm"}, DataSpec((3, 64, 64), classes=4)),
    ("discriminator", "mlp", {"norm": "batch"}, None),
    ("discriminator", "mlp", {"norm": "layer", "dropout": 0.5}, None),
    ("discriminator", "mlp", {"condition": "projection"}, DataSpec((3,), classes=4)),
    ("discriminator", "dcgan", {"width": 8, "norm": "layer"}, None),
    ("discriminator", "dcgan", {"width": 8, "norm": "none", "condition": "concat"}, DataSpec((3, 16, 16), classes=4)),
    ("discriminator", "resnet", {"width": 2, "condition": "projection"}, DataSpec((3, 64, 64), classes=4)),
    ("discriminator", "mlp", {"activation": "maxmin"}, None),
    ("discriminator", "mlp", {"activation": "fullsort", "hidden": (7, 5)}, None),
    ("discriminator", "dcgan", {"width": 6, "norm": "none", "activation": "groupsort"}, None),
    ("discriminator", "resnet", {"width": 3, "activation": "maxmin"}, None),
    ("dataset", "digits", {"size": 16}, None),
    ("dataset", "digits", {"split": "train"}, None),
    ("dataset", "gaussian_1d", {"means": (-1.0, 2.0), "stds": (0.5, 1.0), "weights": (1.0, 3.0)}, None),
    ("constraint", "gradient_penalty", {"target": 0.0}, None),
    ("constraint", "spectral_norm", {"power_iterations": 3}, None),
]


def check(kind, component, data=None):
    function = getattr(testing, f"check_{kind}")
    function(component) if data is None else function(component, data)


@pytest.mark.parametrize("kind", {*HOOKS.values()} - {"term"})  # no term is built in
def test_built_in_components_conform(kind):
    checked = set()
    for plugin, its_kind, name, cls in load():
        if plugin.name == "builtin" and its_kind == kind and name not in APART:
            check(kind, cls(**OPTIONS.get(f"{kind} {name}", {})))
            checked.add(name)
    assert checked or kind == "term"  # terms are in packages


@pytest.mark.parametrize(("kind", "name", "options", "data"), VARIANTS)
def test_other_options_of_built_in_components_conform(kind, name, options, data):
    check(kind, component(kind, f"builtin:{name}")(**options), data)


@pytest.mark.parametrize("memory", [2.0, 0.0])
def test_image_folder_conforms(tmp_path, memory):
    for i, label in enumerate(["cats", "cats", "dogs", "dogs", "dogs"]):
        (tmp_path / label).mkdir(exist_ok=True)
        save_image(torch.rand(3, 12, 12), tmp_path / label / f"{i}.png")
    check("dataset", component("dataset", "image_folder")(root=str(tmp_path), memory=memory))


def test_torchvision_dataset_conforms():
    dataset = component("dataset", "torchvision")(name="FashionMNIST", size=32)
    try:
        dataset.build()
    except ValueError as absent:
        pytest.skip(str(absent))
    check("dataset", dataset)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_package_components_conform(package, install_package):
    install_package(package)
    (names,) = (tomllib.loads((package / "pyproject.toml").read_text())["project"]["entry-points"]).values()
    registry = load()
    loaded = [p for p in registry.plugins if p.distribution == package.name]
    assert [(p.name, p.status, p.cause) for p in loaded] == [(name, "loaded", "") for name in sorted(names)]
    for plugin in loaded:
        for kind, table in plugin.components.items():
            for name, cls in table.items():
                if name in APART_IN_PACKAGES:
                    continue
                component = cls(**OPTIONS.get(f"{kind} {name}", {}))
                if f"{kind} {name}" in DISCRIMINATORS:
                    D, options, data = DISCRIMINATORS[f"{kind} {name}"]
                    testing.check_term(component, data, discriminator=registry.find("discriminator", D)(**options))
                elif f"{kind} {name}" == "generator dirac":  # one point: the kit must refuse such a generator
                    with pytest.raises(AssertionError, match="returns the same sample for every z"):
                        check(kind, component)
                else:
                    check(kind, component)
