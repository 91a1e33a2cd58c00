"""Tests of shared layers: label conditioning as in the papers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ganframe
from ganframe import DataSpec
from ganframe.builtin.layers import (
    ConditionalBatchNorm,
    Head,
    JoinLabel,
    given_for,
    joined_channels,
    make_activation,
    make_norm,
)


@pytest.mark.parametrize(("dims", "shape"), [(1, (12, 4)), (2, (12, 4, 3, 3))])
def test_conditional_batch_norm_scales_and_shifts_by_class(dims, shape):
    torch.manual_seed(0)
    norm = ConditionalBatchNorm(4, given=3, dims=dims)
    nn.init.normal_(norm.scale.weight)
    nn.init.normal_(norm.shift.weight)
    h, y = torch.randn(shape), torch.tensor([0, 1, 2] * 4)
    ones = (1,) * (len(shape) - 2)
    axes = (0, *range(2, len(shape)))
    plain = (h - h.mean(axes, keepdim=True)) / (h.var(axes, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = norm.scale.weight[y].view(12, 4, *ones) * plain + norm.shift.weight[y].view(12, 4, *ones)
    torch.testing.assert_close(norm(h, y), expected, rtol=1e-4, atol=1e-5)


def test_conditional_batch_norm_gradient_reaches_only_present_classes():
    norm = ConditionalBatchNorm(4, given=3, dims=1)
    norm(torch.randn(6, 4), torch.tensor([1, 1, 1, 2, 2, 2])).square().sum().backward()
    for table in (norm.scale, norm.shift):
        assert table.weight.grad[0].abs().max() == 0
        assert table.weight.grad[1:].abs().min() > 0


@pytest.mark.parametrize(("dims", "plain"), [(1, nn.BatchNorm1d(4)), (2, nn.BatchNorm2d(4))])
def test_conditional_batch_norm_equals_batch_norm_at_start_and_without_classes(dims, plain):
    h, y = torch.randn(6, 4, *[5] * (2 * dims - 2)), torch.arange(6) % 3
    expected = plain(h)
    torch.testing.assert_close(ConditionalBatchNorm(4, given=3, dims=dims)(h, y), expected)
    without = ConditionalBatchNorm(4, given=None, dims=dims)
    torch.testing.assert_close(without(h, y), expected)
    assert {name: p.shape for name, p in without.norm.named_parameters()} == {"weight": (4,), "bias": (4,)}


def test_join_label_appends_one_hot_features():
    x = torch.randn(3, 2)
    got = JoinLabel(4)(x, torch.tensor([3, 0, 1]))
    assert torch.equal(got, torch.cat([x, torch.tensor([[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]).float()], 1))


def test_join_label_appends_constant_channels_to_images():
    x = torch.randn(2, 3, 4, 5)
    got = JoinLabel(2)(x, torch.tensor([1, 0]))
    assert got.shape == (2, 5, 4, 5)
    assert torch.equal(got[:, :3], x)
    assert (got[0, 3] == 0).all()
    assert (got[0, 4] == 1).all()
    assert (got[1, 3] == 1).all()
    assert (got[1, 4] == 0).all()


def test_join_label_keeps_dtype():
    assert JoinLabel(2)(torch.randn(2, 3, dtype=torch.bfloat16), torch.tensor([1, 0])).dtype == torch.bfloat16


def test_join_label_without_classes_returns_input():
    x = torch.randn(2, 3)
    assert JoinLabel(None)(x, torch.tensor([0, 0])) is x


def test_head_is_linear_score_plus_label_projection():
    torch.manual_seed(0)
    head = Head(5, given=3)
    h, y = torch.randn(4, 5), torch.tensor([2, 0, 1, 2])
    embedded = head.embedding.weight[y]
    expected = torch.stack([head.linear(h[i])[0] + torch.dot(embedded[i], h[i]) for i in range(4)])
    torch.testing.assert_close(head(h, y), expected)
    assert head(h, y).shape == (4,)


def test_head_embedding_is_initialised_like_linear_layer():
    torch.manual_seed(0)
    head = Head(400, given=10)
    assert 0.9 * 400**-0.5 < head.embedding.weight.abs().max() <= 400**-0.5
    assert abs(head.embedding.weight.mean()) < 0.1 * 400**-0.5


def test_head_without_classes_is_linear():
    head = Head(5, given=None)
    h = torch.randn(1, 5)
    assert head.embedding is None
    assert torch.equal(head(h, torch.tensor([0])), head.linear(h)[:, 0])


def test_make_norm_returns_requested_norm():
    x = 3 + 2 * torch.randn(4, 6, 5, 5)
    assert isinstance(make_norm("batch", 6, 1), nn.BatchNorm1d)
    by_batch = make_norm("batch", 6, 2)(x)
    torch.testing.assert_close(by_batch.mean((0, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)
    by_layer = make_norm("layer", 6, 2)(x)
    torch.testing.assert_close(by_layer, F.layer_norm(x, x.shape[1:]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(make_norm("layer", 6, 1)(x[:, :, 0, 0]), F.layer_norm(x[:, :, 0, 0], (6,)))
    assert make_norm("none", 6, 2)(x) is x


LABELLED, UNLABELLED = DataSpec((2,), classes=10), DataSpec((2,))


def test_given_for_matches_the_option_and_refuses_data_without_labels_and_conditions():
    assert given_for("concat", "concat", LABELLED) == 10
    assert given_for("batch_norm", "concat", LABELLED) is None
    assert given_for("none", "concat", LABELLED) is None
    assert given_for("none", "concat", UNLABELLED) is None
    assert given_for("concat", "concat", DataSpec((2,), condition=(3, 4))) == (3, 4)
    assert given_for("none", "concat", DataSpec((2,), condition=(3, 4))) is None
    with pytest.raises(ValueError, match="condition = 'concat' needs labels or conditions, and the data has neither"):
        given_for("concat", "projection", UNLABELLED)


@pytest.mark.parametrize("condition", [(3,), (2, 3), (2, 4, 5)])
def test_join_label_appends_conditions_to_points_as_features(condition):
    x, y = torch.randn(6, 2), torch.randn(6, *condition)
    assert torch.equal(JoinLabel(condition)(x, y), torch.cat([x, y.flatten(1)], 1))


def test_join_label_appends_vectors_to_images_as_constant_channels():
    x, y = torch.randn(2, 3, 4, 5), torch.randn(2, 6)
    got = JoinLabel((6,))(x, y)
    assert got.shape == (2, 3 + joined_channels((6,), (3, 4, 5)), 4, 5)
    assert torch.equal(got[:, :3], x)
    for i, j in ((0, 0), (3, 4)):
        assert torch.equal(got[:, 3:, i, j], y)


def test_join_label_appends_images_of_the_same_size_as_channels():
    x, y = torch.randn(2, 3, 4, 5), torch.randn(2, 1, 4, 5)
    assert torch.equal(JoinLabel((1, 4, 5))(x, y), torch.cat([x, y], 1))
    assert joined_channels((1, 4, 5), (3, 4, 5)) == 1
    with pytest.raises(ValueError, match=r"4×5 .* the data's have shape \(1, 5, 4\)"):
        joined_channels((1, 5, 4), (3, 4, 5))


def test_head_projects_conditions_linearly():
    """Miyato & Koyama 2018: ψ(h) + yᵀ Vᵀ h."""
    head = Head(5, (3,))
    h, y = torch.randn(4, 5), torch.randn(4, 3)
    expected = head.linear(h)[:, 0] + torch.einsum("nd,fd,nf->n", y, head.embedding.weight, h)
    torch.testing.assert_close(head(h, y), expected)
    assert head(h, 0 * y).equal(head.linear(h)[:, 0])


@pytest.mark.parametrize(("dims", "shape"), [(1, (12, 4)), (2, (12, 4, 3, 3))])
def test_conditional_batch_norm_scales_and_shifts_linearly_in_conditions(dims, shape):
    norm = ConditionalBatchNorm(4, (3,), dims)
    h, y = torch.randn(shape), torch.randn(12, 3)
    plain = norm.norm(h)
    assert torch.equal(norm(h, y), plain)  # at the start
    for part in (norm.scale, norm.shift):
        nn.init.normal_(part.weight)
    ones = (1,) * (len(shape) - 2)
    scale, shift = (y @ part.weight.T for part in (norm.scale, norm.shift))
    torch.testing.assert_close(norm(h, y), (1 + scale).view(12, 4, *ones) * plain + shift.view(12, 4, *ones))


ACTIVATIONS = {
    "relu": torch.relu,
    "leaky_relu": lambda h: torch.where(h > 0, h, 0.2 * h),
    "tanh": torch.tanh,
    "maxmin": lambda h: h.unflatten(1, (-1, 2)).sort(2).values.flatten(1, 2),
    "groupsort": lambda h: h.unflatten(1, (-1, 4)).sort(2).values.flatten(1, 2),
    "fullsort": lambda h: h.sort(1).values,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_its_formula(name):
    h = torch.randn(3, 8, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(make_activation(name)(h), ACTIVATIONS[name](h))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("network", "uses"), [("mlp", 2), ("dcgan", 2), ("resnet", 8)])
def test_discriminators_use_the_activation_that_the_recipe_names_everywhere(name, network, uses):
    """And their weights have the same names and shapes with each of them."""
    component = ganframe.component("discriminator", network)
    small = {"hidden": (8, 8)} if network == "mlp" else {"width": 4}
    D = component(activation=name, **small).build(DataSpec((3, 16, 16)))
    found = []
    for module in D.modules():
        if type(module) is type(make_activation(name)):
            module.register_forward_hook(lambda *given: found.append(given[0]))
    D(torch.randn(2, 3, 16, 16), torch.zeros(2, dtype=torch.long))
    assert len(found) == uses
    assert {repr(module) for module in found} == {repr(make_activation(name))}
    assert D.state_dict().keys() == component(**small).build(DataSpec((3, 16, 16))).state_dict().keys()
