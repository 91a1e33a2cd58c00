"""Tests of DataSpec and of the detection of modules that mix samples."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ganframe
from ganframe import DataSpec, mixes_samples, refuse_mixed_samples
from ganframe.storage.weights import generator_spec, save_generator


def test_shapes_with_three_axes_are_images_by_default():
    assert DataSpec((3, 32, 32)).is_image
    assert not DataSpec((16, 21, 3), is_image=False).is_image
    assert not DataSpec((3,), 10).is_image
    assert not DataSpec((16, 3)).is_image
    assert DataSpec((3, 32, 32)) == DataSpec((3, 32, 32), None, is_image=True)


@pytest.mark.parametrize("shape", [3, [3], (), (0,), (3, -1), (2.0,), ("3",), (True,), None])
def test_dataspec_refuses_invalid_shapes(shape):
    with pytest.raises(ValueError, match=r"shape must be a tuple of sizes, as in \(3,\)"):
        DataSpec(shape)


@pytest.mark.parametrize("classes", [0, -1, 2.0, "two", True])
def test_dataspec_refuses_invalid_classes(classes):
    with pytest.raises(ValueError, match="classes must be a number of classes, or None"):
        DataSpec((3,), classes)


def test_image_networks_refuse_data_with_is_image_false():
    for kind, arguments in (("generator", (8,)), ("discriminator", ())):
        build = ganframe.component(kind, "dcgan")(width=4).build
        build(DataSpec((8, 8, 8)), *arguments)
        with pytest.raises(ValueError, match=r"has shape \(8, 8, 8\), which is not an image; choose another network"):
            build(DataSpec((8, 8, 8), is_image=False), *arguments)
    G = ganframe.component("generator", "mlp")(hidden=()).build(DataSpec((8, 8, 8), is_image=False), 4)
    assert G(torch.full((2, 4), 1e4), torch.zeros(2).long()).abs().max() > 1  # no tanh


def test_generator_file_stores_complete_dataspec(tmp_path):
    file = tmp_path / "generator.safetensors"
    for spec in (DataSpec((2, 3, 4), 5, is_image=False), DataSpec((2, 3, 4)), DataSpec((1,))):
        save_generator(file, torch.nn.Linear(1, 1), spec)
        assert generator_spec(file) == spec


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_every_batch_norm_mixes_samples_at_any_depth(kind):
    network = nn.Sequential(nn.Identity(), nn.Sequential(nn.ReLU(), kind(4)))
    assert mixes_samples(network)
    with pytest.raises(ValueError, match=f"its {kind.__name__} mixes samples"):
        refuse_mixed_samples(network)


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 4), nn.LayerNorm(4), nn.InstanceNorm2d(4)], ids=str)
def test_norms_within_one_sample_do_not_mix_samples(norm):
    assert not mixes_samples(nn.Sequential(norm))
    refuse_mixed_samples(nn.Sequential(norm))
