"""The discriminator patch."""

import pytest
import torch
from ganframe_translate import Patch
from ganframe_translate.patch import STRIDED, resized, smallest_image
from torch.nn import functional as F

import ganframe
from ganframe import DataSpec, Scored
from ganframe.testing import check_discriminator


def data(x, y):
    return DataSpec(x, condition=y)


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (Patch(width=4), data((1, 8, 8), (1, 8, 8))),
        (Patch(width=4, norm="none"), data((3, 13, 29), (6, 13, 29))),
        (Patch(width=4, norm="batch"), data((3, 32, 32), (1, 8, 8))),
        (Patch(width=4, receptive_field=1), data((1, 9, 9), (1, 27, 27))),
        (Patch(width=4, scales=2), data((1, 16, 16), (1, 16, 16))),
        (Patch(width=4, condition="none"), DataSpec((3, 16, 16), classes=4)),
    ],
)
def test_conformance(config, spec):
    check_discriminator(config, spec)


@pytest.mark.parametrize("field", STRIDED)
def test_a_score_depends_on_its_receptive_field(field):
    size = 2 * field + 64
    D = Patch(width=2, receptive_field=field, norm="none").build(data((1, size, size), (1, size, size))).double()
    x = torch.randn(1, 1, size, size, dtype=torch.double, requires_grad=True)
    scores = D(x, torch.randn_like(x))
    row, column = scores.shape[2] // 2, scores.shape[3] // 2
    (slope,) = torch.autograd.grad(scores[0, 0, row, column], x)
    rows, columns = (slope[0, 0].abs().sum(axis).nonzero().flatten() for axis in (1, 0))
    assert rows[-1] - rows[0] + 1 == columns[-1] - columns[0] + 1 == field


def test_scores_of_the_paper():
    """70×70 patches of 256×256 images: 30×30 scores, 2.77 million weights."""
    with torch.device("meta"):
        spec = data((3, 256, 256), (3, 256, 256))
        D = Patch(receptive_field=70).build(spec)
        assert D(torch.empty(1, *spec.shape), torch.empty(1, *spec.condition)).shape == (1, 1, 30, 30)
    assert abs(sum(parameter.numel() for parameter in D.parameters()) - 2.77e6) < 0.01e6


@pytest.mark.parametrize(("size", "field"), [(4, 1), (8, 16), (12, 34), (28, 70), (256, 70)])
def test_receptive_field_follows_the_size(size, field):
    with torch.device("meta"):
        D = Patch(width=1).build(data((1, size, size), (1, size, size)))
    assert len(D.scales[0]) == max(1, STRIDED[field]) + 2


@pytest.mark.parametrize("field", STRIDED)
def test_smallest_images_have_a_score_and_smaller_ones_are_refused(field):
    size = smallest_image(field)
    spec = data((1, size, size), (1, size, size))
    D = Patch(width=2, receptive_field=field).build(spec)
    scores = D(torch.randn(2, *spec.shape), torch.randn(2, *spec.shape))
    assert scores.shape == (2, 1, 1, 1)
    if field > 1:
        with pytest.raises(ValueError, match=f"receptive_field = {field} needs images of {size} pixels or more"):
            Patch(receptive_field=field).build(data((1, size, size - 1), (1, size, size - 1)))


def test_scales_count_the_same_and_see_half_the_size():
    spec = data((1, 32, 40), (1, 32, 40))
    D = Patch(width=2, scales=2, receptive_field=16, norm="none").build(spec).eval()
    x, y = torch.randn(3, *spec.shape), torch.randn(3, *spec.shape)
    scores = D(x, y)
    assert scores.shape == (3, 2, 14, 18)
    half = F.avg_pool2d(torch.cat([x, y], 1), 3, 2, 1, count_include_pad=False)
    for layer in D.scales[1]:
        half = layer(half)
    torch.testing.assert_close(scores[:, 1].unique().sort().values, half.unique().sort().values, atol=1e-6, rtol=1e-5)


def test_features_of_every_layer_are_extras():
    spec = data((1, 32, 32), (1, 32, 32))
    D = Patch(width=2, scales=2, receptive_field=34).build(spec)
    extras = {}
    D(torch.randn(2, *spec.shape), torch.randn(2, *spec.shape), extras)
    assert list(extras) == ["features", "layer0", "layer1", "layer2", "layer3", "layer4", "layer5"]
    assert torch.equal(extras["features"], extras["layer2"])
    assert extras["layer0"].shape == (2, 2, 16, 16)
    assert extras["layer3"].shape == (2, 2, 8, 8)


def test_condition_none_does_not_see_y():
    spec = data((1, 16, 16), (1, 16, 16))
    x = torch.randn(2, *spec.shape)
    for condition, same in (("concat", False), ("none", True)):
        D = Patch(width=4, condition=condition).build(spec).eval()
        assert torch.equal(D(x, torch.zeros_like(x)), D(x, torch.ones_like(x))) == same


def test_smaller_inputs_are_repeated_and_larger_ones_averaged():
    y, x = torch.randn(2, 3, 4, 4), torch.empty(2, 1, 12, 8)
    torch.testing.assert_close(resized(y, x), y.repeat_interleave(3, 2).repeat_interleave(2, 3))
    torch.testing.assert_close(resized(y, torch.empty(2, 1, 2, 2)), F.avg_pool2d(y, 2))


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (DataSpec((1, 16, 16)), "no conditions"),
        (DataSpec((1, 16, 16), classes=3), "labels of 3 classes"),
        (DataSpec((1, 16, 16), condition=(5,)), r"conditions of shape \(5,\)"),
        (DataSpec((4,), condition=(1, 16, 16)), "patch judges images"),
    ],
)
def test_data_without_images_is_refused(spec, found):
    with pytest.raises(ValueError, match=found):
        Patch().build(spec)


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_gradient_penalty_and_spectral_norm(norm):
    spec = data((1, 16, 16), (1, 16, 16))
    D = Patch(width=4, norm=norm).build(spec)
    x, y = torch.randn(4, *spec.shape), torch.randn(4, *spec.shape)
    penalty = ganframe.component("constraint", "gradient_penalty")()
    penalty.check(D)
    sides = [Scored(x, y, D(x, y)) for _ in range(2)]
    loss = penalty.penalty(D, *sides)
    loss.backward()
    assert loss.isfinite()
    assert any(parameter.grad.abs().max() > 0 for parameter in D.parameters() if parameter.grad is not None)
    D = ganframe.component("constraint", "spectral_norm")().wrap(D)
    assert D(x, y).shape == (4, 1, *D(x, y).shape[2:])
    for _ in range(200):
        D(x, y)
    weights = [module.weight for module in D.modules() if isinstance(module, torch.nn.Conv2d)]
    assert all(abs(torch.linalg.matrix_norm(w.flatten(1), 2) - 1) < 0.02 for w in weights)


def test_gradient_penalty_refuses_batch_norm():
    D = Patch(width=4, norm="batch").build(data((1, 16, 16), (1, 16, 16)))
    with pytest.raises(ValueError, match="BatchNorm2d mixes samples"):
        ganframe.component("constraint", "gradient_penalty")().check(D)
