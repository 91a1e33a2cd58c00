"""The discriminator: groups and gradient penalties, every pixel, filtered blocks, features, labels, errors."""

import math

import pytest
import torch
from ganframe_stylegan2 import StyleGAN2Discriminator
from ganframe_stylegan2.discriminator import _Block
from torch import nn
from torch.nn import functional as F

import ganframe
from ganframe import DataSpec, group_size, score_gradients

DATA = DataSpec((2, 12, 9), classes=3)


def build(data=DATA, **options):
    return StyleGAN2Discriminator(**{"width": 8, "full_width_up_to": 16, **options}).build(data)


def inputs(n=8, data=DATA):
    return torch.randn(n, *data.shape), torch.arange(n) % (data.classes or 1)


@pytest.mark.parametrize("size", [0, 2, 4])
def test_scores_depend_on_the_samples_of_their_group_only(size):
    D = build(minibatch_stddev=size).double()
    x, y = inputs()
    x = x.double().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x, y)[2], x)
    reached = gradient.flatten(1).any(1)
    assert reached.nonzero().flatten().tolist() == list(
        range(2 - 2 % max(1, size), 2 - 2 % max(1, size) + max(1, size))
    )
    assert group_size(D) == max(1, size)


@pytest.mark.parametrize("size", [2, 4])
def test_a_penalty_under_groups_of_m_is_an_mth_of_the_papers(size):
    """R1 of a group is the gradient of its mean score by all of its samples; the paper's, of the sum of all scores.

    So γ is m times the paper's: m · E‖∇(mean of a group)‖² = E‖∂(Σ_j D(x)_j)/∂x_i‖², a mean over samples i.
    """
    D = build(minibatch_stddev=size).double()
    x, y = inputs()
    x = x.double().requires_grad_()
    scores = D(x, y)
    (gradient,) = torch.autograd.grad(scores.sum(), x, retain_graph=True)
    papers = gradient.flatten(1).square().sum(1).mean()
    ours = score_gradients(D, scores, x).square().sum(1).mean()
    torch.testing.assert_close(size * ours, papers)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (4, 25, 40)])
def test_scores_depend_on_every_pixel(shape, residual):
    D = build(DataSpec(shape), residual=residual).double()
    x = torch.randn(4, *shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(D(x, torch.zeros(4, dtype=torch.long)).sum(), x)
    assert (gradient.abs().sum((0, 1)) > 1e-9).all()


def test_block_adds_its_branch_to_the_filtered_input_and_divides_by_root_two():
    block = _Block(3, 4, residual=True)
    h = torch.randn(2, 3, 6, 8)
    branch = F.leaky_relu(block.conv1(h), 0.2)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = torch.outer(taps, taps).expand(3, 1, 4, 4)
    branch = F.leaky_relu(block.conv2(F.conv2d(F.pad(branch, (2, 2, 2, 2)), kernel, groups=3)), 0.2)
    skip = F.conv2d(F.conv2d(F.pad(h, (1, 1, 1, 1)), kernel, groups=3)[..., ::2, ::2], block.skip.weight)
    torch.testing.assert_close(block(h), (branch + skip) / math.sqrt(2))
    plain = _Block(3, 4, residual=False)
    plain.load_state_dict({key: value for key, value in block.state_dict().items() if "skip" not in key})
    torch.testing.assert_close(plain(h), branch)


def test_block_ignores_the_highest_frequency_of_its_skip():
    """The filter removes a chequered pattern, which leaving out pixels alone would keep."""
    block = _Block(1, 1, residual=True)
    nn.init.zeros_(block.conv2.parametrizations.weight.original)
    chequered = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8)).expand(1, 1, 8, 8)
    assert block(chequered)[..., 1:-1, 1:-1].abs().max() < 1e-6
    assert block(torch.ones(1, 1, 8, 8))[..., 1:-1, 1:-1].abs().min() > 0


def test_features_and_scores_start_at_unit_scale():
    D = build(DataSpec((3, 32, 32)), width=64)
    x = torch.randn(64, 3, 1, 1) + 0.3 * torch.randn(64, 3, 32, 32)
    with torch.no_grad():
        scores = D(x, torch.zeros(64, dtype=torch.long), extras := {})
    assert extras["features"].shape == (64, 64)
    assert 0.2 < extras["features"].square().mean().sqrt() < 3
    assert 0.2 < scores.std() < 3


def test_projection_adds_the_product_of_the_labels_vector_and_the_features():
    D = build(condition="projection", minibatch_stddev=0)
    x, y = inputs()
    scores = D(x, y, extras := {})
    product = (D.embedding(y) * extras["features"]).sum(1) / math.sqrt(8)
    torch.testing.assert_close(scores, D.score(extras["features"]).squeeze(1) + product)
    assert not torch.allclose(scores, D(x, (y + 1) % 3))
    D = build()
    assert torch.equal(D(x, y), D(x, (y + 1) % 3))


def test_vectors_condition_the_projection():
    data = DataSpec((1, 8, 8), condition=(3,))
    D = build(data, condition="projection", minibatch_stddev=0)
    x = torch.randn(1, 1, 8, 8).expand(4, -1, -1, -1)
    assert D(x, torch.randn(4, 3)).unique().numel() == 4


@pytest.mark.parametrize("data", [DataSpec((2,)), DataSpec((1, 7, 9))], ids=str)
def test_data_that_is_not_an_image_of_at_least_8_pixels_raises_value_error(data):
    with pytest.raises(ValueError, match="stylegan2 takes images of at least 8×8 pixels"):
        build(data)


@pytest.mark.parametrize("options", [{"width": 0}, {"minibatch_stddev": -1}, {"full_width_up_to": 2}], ids=str)
def test_option_out_of_range_raises_value_error(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        build(**options)


def test_discriminator_is_registered():
    assert ganframe.component("discriminator", "stylegan2") is StyleGAN2Discriminator


def test_blocks_are_numbered_from_the_smallest_grid_up():
    """So that `train.from` a run at half the size finds the same resolutions under the same names."""
    seen = []
    for size in (16, 32):
        D = StyleGAN2Discriminator(width=8, full_width_up_to=16).build(DataSpec((3, size, size)))
        heights = [0] * len(D.blocks)
        for i, block in enumerate(D.blocks):
            block.register_forward_hook(
                lambda _, given, __, i=i, heights=heights: heights.__setitem__(i, given[0].shape[2])
            )
        D(torch.zeros(4, 3, size, size), torch.zeros(4, dtype=torch.long))
        seen.append(heights)
    small, large = seen
    assert large[: len(small)] == small
    assert large[-1] == 32
