"""The networks: each stage equals its neighbours where they meet, costs what its resolution costs, and takes labels."""

import functools
import math

import pytest
import torch
from ganframe_progressive import ProgressiveDiscriminator, ProgressiveGenerator
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ganframe import DataSpec, Scored, component, score_gradients
from ganframe.layers import downsampled, resolutions, upsampled

SHAPES = [(1, 32, 32), (3, 28, 28), (2, 50, 37)]  # 4, 8, 16, 32; 4, 7, 14, 28; 7×5, 13×10, 25×19, 50×37
STAGE, FADE = 10, 8
LATENT = 6


def generator(shape, **options):
    return ProgressiveGenerator(**{"width": 4, "stage_steps": STAGE, "fade_steps": FADE, **options}).build(
        DataSpec(shape), LATENT
    )


def discriminator(shape, **options):
    D = ProgressiveDiscriminator(**{"width": 4, "stage_steps": STAGE, "fade_steps": FADE, **options})
    return D.build(DataSpec(shape))


def at(network, step):
    """The network as it is at a training step."""
    network.growth.training_step.fill_(step)
    return network


def inputs(shape):
    return torch.randn(4, LATENT), torch.rand(4, *shape) * 2 - 1


def outputs(shape, step, G, D, z, x):
    return at(G, step)(z, None), at(D, step)(x, None)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_stage_begins_as_the_one_before_it(shape, stage):
    """At α = 0 both networks compute what they computed a step before, with the same gradients for the old layers."""
    G, D = generator(shape), discriminator(shape)
    z, x = inputs(shape)
    begins = stage * STAGE
    for before, now in zip(outputs(shape, begins - 1, G, D, z, x), outputs(shape, begins, G, D, z, x), strict=True):
        assert torch.equal(before, now)
    for network, given in ((G, z), (D, x)):
        slopes = []
        for step in (begins - 1, begins):
            network.zero_grad()
            at(network, step)(given, None).square().sum().backward()
            slopes.append({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
        before, now = slopes
        for name, slope in before.items():
            torch.testing.assert_close(now[name], slope, rtol=1e-4, atol=1e-6, msg=name)
        assert now.keys() > before.keys()
        assert not any(now[name].any() for name in now.keys() - before.keys())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_stage_ends_fading_as_a_network_without_the_old_branch(shape, stage):
    """A network that has never been smaller computes the same with the same weights."""
    G, D = generator(shape), discriminator(shape)
    z, x = inputs(shape)
    alone = {"stage_steps": (0,) * stage + (STAGE,) * (3 - stage)}
    G_alone, D_alone = generator(shape, **alone), discriminator(shape, **alone)
    for network, without in ((G, G_alone), (D, D_alone)):
        missing, left_over = without.load_state_dict(network.state_dict(), strict=False)
        assert not missing
        assert all(name.startswith("images.") for name in left_over)  # those of earlier stages
    after = outputs(shape, stage * STAGE + FADE, G, D, z, x)
    for found, expected in zip(after, outputs(shape, 0, G_alone, D_alone, z, x), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_new_resolution_is_faded_in_linearly(shape):
    """G's image and the features that D's lower blocks see are (1 - α) · old + α · new."""
    G, D = generator(shape), discriminator(shape)
    z, x = inputs(shape)
    seen = {}
    D.blocks[0].register_forward_pre_hook(lambda _module, given: seen.update(h=given[0]))

    def both(step):
        image, _ = outputs(shape, step, G, D, z, x)
        return image, seen["h"]

    for old, new, *between in zip(*(both(2 * STAGE + passed) for passed in (0, FADE, 2, 5)), strict=True):
        assert not torch.allclose(old, new)
        for alpha, found in zip((2 / FADE, 5 / FADE), between, strict=True):
            torch.testing.assert_close(found, (1 - alpha) * old + alpha * new, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_images_of_a_stage_are_enlarged_and_reduced_without_loss(shape, stage):
    """G's full images are those of its stage, enlarged, and D's scores of enlarged images do not depend on the rest."""
    G, D = generator(shape), discriminator(shape)
    z, x = inputs(shape)
    step = stage * STAGE + FADE
    sizes = resolutions("test", DataSpec(shape))
    image = at(G, step)(z, None)
    small = functools.reduce(lambda h, _: downsampled(h), range(3 - stage), image)
    assert small.shape[2:] == sizes[stage]
    assert torch.equal(functools.reduce(upsampled, sizes[stage + 1 :], small), image)
    reduced = functools.reduce(lambda h, _: downsampled(h), range(3 - stage), x)
    again = functools.reduce(upsampled, sizes[stage + 1 :], reduced)
    assert torch.equal(at(D, step)(x, None), D(again, None))
    assert not torch.equal(at(D, 3 * STAGE + FADE)(x, None), D(again, None))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pixel_counts_for_the_discriminator(shape):
    x = inputs(shape)[1].requires_grad_()
    for stage in range(4):
        for passed in (0, FADE):
            (slope,) = torch.autograd.grad(at(discriminator(shape), stage * STAGE + passed)(x, None).sum(), x)
            assert slope.any(0).all()


def test_stages_cost_what_their_resolution_costs():
    """Counted operations of forward and backward passes grow with the pixels; enlarging and reducing count little."""

    def operations(network, step, given):
        counter = FlopCounterMode(display=False)
        with counter:
            at(network, step)(given, None).sum().backward()
        return counter.get_total_flops()

    shape = (1, 64, 64)
    z, x = inputs(shape)
    for network, given in ((generator(shape, width=16), z), (discriminator(shape, width=16), x)):
        costs = [operations(network, stage * STAGE + FADE, given) for stage in range(5)]
        assert costs == sorted(costs)
        assert costs[0] < costs[-1] / 30  # 16 of 4,096 pixels
        assert costs[2] < costs[-1] / 4
        fading = operations(network, 3 * STAGE + FADE // 2, given)  # adds two convolutions of one pixel
        assert costs[3] < fading < 1.05 * costs[3]


def test_layers_of_stages_that_have_not_begun_get_no_gradient():
    shape = (1, 32, 32)
    z, x = inputs(shape)
    for network, given in ((generator(shape), z), (discriminator(shape), x)):
        for stage in range(4):
            network.zero_grad()
            at(network, stage * STAGE + FADE)(given, None).sum().backward()
            idle = {".".join(name.split(".")[:2]) for name, p in network.named_parameters() if p.grad is None}
            images = {f"images.{i}" for i in range(4) if i != stage}
            assert idle == images | {f"blocks.{i}" for i in range(stage, 3)}


def test_samples_do_not_depend_on_the_length_of_z():
    G = at(generator((1, 32, 32)), 10**6)
    z = torch.randn(3, LATENT)
    torch.testing.assert_close(G(z, None), G(7 * z, None), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(G(z, None), G(-z, None))


def test_features_of_the_generator_have_unit_mean_square_at_each_pixel():
    G = at(generator((1, 28, 28), width=8), 10**6)
    found = []
    for module in (G.first, *G.blocks):
        module.register_forward_hook(lambda _module, _given, h: found.append(h.square().mean(1)))
    G(torch.randn(3, LATENT), None)
    for mean_square in found:
        torch.testing.assert_close(mean_square, torch.ones_like(mean_square), rtol=1e-3, atol=1e-3)


def test_features_of_the_discriminator_keep_their_scale():
    """Equalised layers with the gain √2: the features have about the same size after two layers and after ten."""
    D = at(discriminator((1, 64, 64), width=64), 10**6)
    scales = []
    for module in D.blocks:
        module.conv2.register_forward_hook(lambda _module, _given, h: scales.append(h.square().mean().sqrt().item()))
    D(torch.randn(8, 1, 64, 64), None)
    assert len(scales) == 4
    assert min(scales) > 0.2
    assert max(scales) < 3


def test_minibatch_deviation_stands_at_the_smallest_grid():
    """D scores a sample by how the others of its group differ, and by no other group."""
    shape = (1, 32, 32)
    x = torch.rand(8, *shape)
    D = discriminator(shape, minibatch_stddev=4)
    scores = D(x, None)
    other = torch.cat([x[:7], torch.rand(1, *shape)])
    changed = D(other, None)
    assert torch.equal(scores[:4], changed[:4])
    assert not torch.isclose(scores[4:], changed[4:]).any()
    alone = discriminator(shape, minibatch_stddev=0)
    torch.testing.assert_close(alone(x, None)[:7], alone(other, None)[:7])
    assert D.last.conv1.in_channels == alone.last.conv1.in_channels + 1


def test_group_of_samples_counts_as_one_in_the_gradient_penalty():
    """λ (‖∇‖ - 1)² of single samples is written with weight λ·m and target 1/√m for groups of m.

    The gradient of a group's mean score has a norm of 1/√m times the root mean square of those of its samples, where
    samples are independent: here the deviation is there but its weights are zero.
    """
    m, shape = 4, (1, 16, 16)
    D = discriminator(shape, minibatch_stddev=m)
    with torch.no_grad():
        D.last.conv1.parametrizations.weight.original[:, -1] = 0
    x = torch.rand(1, *shape).expand(8, *shape).clone()  # one norm in all groups
    y = torch.zeros(8, dtype=torch.long)
    given = x.clone().requires_grad_()
    scores = D(given, y)
    (single,) = torch.autograd.grad(scores.sum(), given, retain_graph=True)
    norms = single.flatten(1).norm(dim=1)
    torch.testing.assert_close(score_gradients(D, scores, given).norm(dim=1), norms[:2] / math.sqrt(m))
    side = Scored(x, y, scores)
    penalty = component("constraint", "gradient_penalty")
    found = penalty(weight=10.0 * m, target=1 / math.sqrt(m)).penalty(D, side, side)
    torch.testing.assert_close(found, 10 * (norms - 1).square().mean())
    # As it stands, λ = 10 around 1 is λ/m around √m.
    plain = penalty(weight=10.0, target=1.0).penalty(D, side, side)
    torch.testing.assert_close(plain, 10 / m * (norms - math.sqrt(m)).square().mean())


def test_penalty_does_not_change_where_a_stage_begins():
    """It differentiates by images of full size, so its unit is the same in all stages."""
    shape = (1, 32, 32)
    D, x = discriminator(shape), torch.rand(4, 1, 32, 32).requires_grad_()
    before, now = (torch.autograd.grad(at(D, step)(x, None).sum(), x)[0] for step in (2 * STAGE - 1, 2 * STAGE))
    torch.testing.assert_close(before, now)
    # By the pixels of its own stage the norm would be twice as large for each halving.
    small = downsampled(downsampled(x)).detach().requires_grad_()
    enlarged = F.interpolate(small, scale_factor=4)
    (by_small,) = torch.autograd.grad(at(D, 2 * STAGE - 1)(enlarged, None).sum(), small)
    torch.testing.assert_close(by_small.flatten(1).norm(dim=1), 4 * before.flatten(1).norm(dim=1))


def test_labels_enter_both_networks_in_each_stage():
    data = DataSpec((1, 16, 16), classes=3)
    schedule = {"width": 4, "stage_steps": STAGE, "fade_steps": FADE}
    G = ProgressiveGenerator(condition="concat", **schedule).build(data, LATENT)
    D = ProgressiveDiscriminator(condition="projection", **schedule).build(data)
    z, x = torch.randn(4, LATENT), torch.rand(4, *data.shape)
    first, second = torch.zeros(4, dtype=torch.long), torch.full((4,), 2)
    for step in (0, STAGE, STAGE + 3, 2 * STAGE + FADE):
        for network, given in ((G, z), (D, x)):
            assert not torch.isclose(at(network, step)(given, first), network(given, second)).all(0).any()


def test_projection_is_the_product_of_features_and_embedding():
    data = DataSpec((1, 16, 16), classes=3)
    D = ProgressiveDiscriminator(width=4, condition="projection").build(data)
    x, extras = torch.rand(4, *data.shape), {}
    y = torch.tensor([0, 1, 2, 1])
    scores = D(x, y, extras)
    h = extras["features"]
    assert h.shape == (4, 4)
    torch.testing.assert_close(scores, D.score(h)[:, 0] + (D.embedding.weight[y] * h).sum(1) / 2)


@pytest.mark.parametrize("component", [ProgressiveGenerator, ProgressiveDiscriminator])
@pytest.mark.parametrize(
    ("data", "condition", "message"),
    [
        (DataSpec((2,)), False, "progressive takes images"),
        (DataSpec((1, 7, 32)), False, "at least 8×8"),
        (DataSpec((1, 16, 16)), True, "needs labels, and the data has no classes; use condition = 'none'"),
        (DataSpec((1, 16, 16), condition=(3,)), True, "needs labels, and the data has no classes"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_one_line(component, data, condition, message):
    given = "none" if not condition else "concat" if component is ProgressiveGenerator else "projection"
    config = component(width=4, condition=given)
    arguments = (data, LATENT) if component is ProgressiveGenerator else (data,)
    with pytest.raises(ValueError, match=message) as caught:
        config.build(*arguments)
    assert "\n" not in str(caught.value)
