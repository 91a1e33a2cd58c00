"""Built-in networks as graphs, by torch.export and torch.jit.trace: the same values at any batch size."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.export import Dim, export

import ganframe
from ganframe import DataSpec

POINTS, VOLUME = DataSpec((2,), classes=5), DataSpec((1, 8, 8, 8), classes=5)
VECTORS = DataSpec((2,), condition=(3,))
TABLE = DataSpec((6,), columns=(1, 3, 2))
LABELLED = DataSpec((3, 32, 32), classes=5)
UNDER_VECTORS = DataSpec((3, 32, 32), condition=(4,))
UNDER_IMAGES = DataSpec((3, 32, 32), condition=(1, 32, 32))
ODD = DataSpec((2, 13, 30), classes=5)
IN_NORM = {"batch_norm": True, "condition": "batch_norm"}

GENERATORS = [
    ("mlp", TABLE, {"batch_norm": True}),
    ("mlp", POINTS, {"condition": "concat"}),
    ("mlp", VECTORS, {"condition": "concat"}),
    ("mlp", VOLUME, IN_NORM),
    ("mlp", VECTORS, IN_NORM),
    ("mlp", UNDER_IMAGES, IN_NORM),
    *(
        (name, data, {"width": 4, "condition": condition})
        for name in ("dcgan", "resnet")
        for data in (LABELLED, UNDER_VECTORS)
        for condition in ("none", "concat", "batch_norm")
    ),
    ("dcgan", ODD, {"width": 4}),
    ("resnet", ODD, {"width": 4, "attention": 7}),
]
DISCRIMINATORS = [
    *(("mlp", POINTS, {"norm": norm, "dropout": 0.3}) for norm in ("none", "batch", "layer")),
    *(("mlp", data, {"condition": c}) for data in (POINTS, VECTORS, VOLUME) for c in ("concat", "projection")),
    *(("dcgan", LABELLED, {"width": 4, "norm": norm}) for norm in ("none", "batch", "layer")),
    *(
        (name, data, {"width": 4, "condition": condition})
        for name in ("dcgan", "resnet")
        for data in (LABELLED, UNDER_VECTORS, UNDER_IMAGES)
        for condition in ("none", "concat", "projection")
        if (data, condition) != (UNDER_IMAGES, "projection")
    ),
    ("dcgan", ODD, {"width": 4, "norm": "none"}),
    ("resnet", ODD, {"width": 4, "attention": 7}),
]


def given(data, n):
    """The y of n samples."""
    return data.blank(n) if data.classes is None else torch.randint(data.classes, (n,))


def spread(network):
    """The network in evaluation mode, with weights that make every input count: some are zero at the start."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return network.eval()


def traced(network, inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and in use
        return torch.jit.trace(network, inputs, check_trace=False)


def exported(network, inputs):
    batch = Dim("batch", min=1)
    return export(network, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs)).module()


def assert_same_at_other_sizes(network, inputs, first):
    """`inputs(n)`; the graph is made at the size `first`."""
    for graph in (traced(network, inputs(first)), exported(network, inputs(2))):
        for n in (1, 3, 7):
            with torch.no_grad():
                torch.testing.assert_close(graph(*inputs(n)), network(*inputs(n)), rtol=1e-4, atol=1e-5)


def labels(case):
    name, data, options = case
    kind = "classes" if data.classes else f"condition{len(data.condition)}" if data.condition else "plain"
    return "-".join([name, f"{len(data.shape)}d", kind, *(f"{k}={v}" for k, v in options.items() if k != "width")])


@pytest.mark.parametrize("case", GENERATORS, ids=labels)
def test_generator_is_exported_with_a_free_batch_size(case):
    name, data, options = case
    G = spread(ganframe.component("generator", name)(**options).build(data, 5))
    fixed = torch.randn(8, 5), torch.randn(8, *data.condition) if data.condition else given(data, 8)
    assert_same_at_other_sizes(G, lambda n: tuple(part[:n] for part in fixed), first=4)


@pytest.mark.parametrize("case", DISCRIMINATORS, ids=labels)
def test_discriminator_is_exported_with_a_free_batch_size(case):
    name, data, options = case
    D = spread(ganframe.component("discriminator", name)(**options).build(data))
    fixed = torch.randn(8, *data.shape), torch.randn(8, *data.condition) if data.condition else given(data, 8)
    assert_same_at_other_sizes(D, lambda n: tuple(part[:n] for part in fixed), first=1)


@pytest.mark.parametrize("generator", ["{use='mlp'}", "{use='mlp', batch_norm=true, condition='batch_norm'}"])
def test_generator_of_a_run_is_exported_and_gives_its_samples(tiny, tmp_path, generator):
    recipe = ganframe.load_recipe(tiny(), [f"generator={generator}", "train.one_sided_labels=true"])
    run = ganframe.run(recipe, out=tmp_path / "run")
    G = ganframe.load_generator(run.folder)
    with torch.no_grad():
        for graph in (traced(G, G.latents(2)), exported(G, G.latents(2))):
            torch.testing.assert_close(graph(*G.latents(9, seed=3)), G.sample(9, seed=3), rtol=1e-5, atol=1e-6)
        z, _ = G.latents(9)
        for graph in (traced(G, (z[:2],)), exported(G, (z[:2],))):  # y is blank
            torch.testing.assert_close(graph(z), G(z), rtol=1e-5, atol=1e-6)
