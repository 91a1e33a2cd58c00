"""Tests of the perceptrons: shapes, ranges, conditioning and independence of samples."""

import pytest
import torch

from ganframe import DataSpec, mixes_samples
from ganframe.builtin.mlp import MLPDiscriminator, MLPGenerator

SHAPES = [(1,), (2,), (3,), (1, 8, 8)]


def randomised(network):
    """Redraws every parameter: a conditional scale initialised to 1 for all classes would not depend on the label."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    return network


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_generator_output_has_data_shape(shape, batch_norm):
    torch.manual_seed(0)
    G = MLPGenerator(hidden=(8, 6), batch_norm=batch_norm).build(DataSpec(shape), 5)
    assert G.train()(torch.randn(4, 5), torch.zeros(4, dtype=torch.long)).shape == (4, *shape)
    for n in (1, 4):
        assert G.eval()(torch.randn(n, 5), torch.zeros(n, dtype=torch.long)).shape == (n, *shape)


def test_output_range_is_bounded_for_images_only():
    torch.manual_seed(0)
    z, y = 100 * torch.randn(16, 5), torch.zeros(16, dtype=torch.long)
    images = randomised(MLPGenerator(hidden=(8,)).build(DataSpec((1, 8, 8)), 5))(z, y)
    assert 0.9 < images.abs().max() <= 1
    points = DataSpec((2,))
    assert randomised(MLPGenerator(hidden=(8,)).build(points, 5))(z, y).abs().max() > 2
    assert randomised(MLPGenerator(hidden=(8,), output="tanh").build(points, 5))(z, y).abs().max() <= 1
    linear = randomised(MLPGenerator(hidden=(8,), output="linear").build(DataSpec((1, 8, 8)), 5))(z, y)
    assert linear.abs().max() > 2


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_discriminator_returns_one_score_per_sample(shape, norm):
    torch.manual_seed(0)
    D = MLPDiscriminator(hidden=(8, 6), norm=norm).build(DataSpec(shape))
    assert D.train()(torch.randn(4, *shape), torch.zeros(4, dtype=torch.long)).shape == (4,)
    for n in (1, 4):
        assert D.eval()(torch.randn(n, *shape), torch.zeros(n, dtype=torch.long)).shape == (n,)


@pytest.mark.parametrize(("condition", "matters"), [("none", False), ("concat", True), ("batch_norm", True)])
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_label_changes_output_only_if_generator_is_conditional(shape, condition, matters):
    torch.manual_seed(0)
    G = randomised(MLPGenerator(hidden=(8,), batch_norm=True, condition=condition).build(DataSpec(shape, 3), 5)).eval()
    z = torch.randn(4, 5)
    first, second = (G(z, torch.full((4,), label)) for label in (0, 2))
    assert all((a != b).any() for a, b in zip(first, second, strict=True)) if matters else torch.equal(first, second)


@pytest.mark.parametrize(("condition", "matters"), [("none", False), ("concat", True), ("projection", True)])
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_label_changes_score_only_if_discriminator_is_conditional(shape, condition, matters):
    torch.manual_seed(0)
    D = randomised(MLPDiscriminator(hidden=(8,), condition=condition).build(DataSpec(shape, 3)))
    x = torch.randn(4, *shape)
    first, second = (D(x, torch.full((4,), label)) for label in (0, 2))
    assert (first != second).all() if matters else torch.equal(first, second)


@pytest.mark.parametrize(
    "build",
    [
        lambda data: MLPGenerator(condition="concat").build(data, 5),
        lambda data: MLPGenerator(condition="batch_norm", batch_norm=True).build(data, 5),
        lambda data: MLPDiscriminator(condition="concat").build(data),
        lambda data: MLPDiscriminator(condition="projection").build(data),
    ],
)
def test_condition_without_classes_is_refused(build):
    with pytest.raises(ValueError, match=r"needs labels or conditions, and the data has neither"):
        build(DataSpec((2,)))
    build(DataSpec((2,), classes=3))


def test_conditional_batch_norm_needs_batch_norm():
    with pytest.raises(ValueError, match="needs batch_norm = true"):
        MLPGenerator(condition="batch_norm").build(DataSpec((2,), classes=3), 5)


@pytest.mark.parametrize(("norm", "mixes"), [("none", False), ("layer", False), ("batch", True)])
def test_only_batch_norm_mixes_samples(norm, mixes, other_samples_gradient):
    torch.manual_seed(0)
    D = MLPDiscriminator(hidden=(8, 8), norm=norm).build(DataSpec((2,)))
    assert mixes_samples(D) is mixes
    assert (other_samples_gradient(D, torch.randn(4, 2)) > 0) is mixes


def test_dropout_is_active_in_training_mode_only():
    torch.manual_seed(0)
    D = MLPDiscriminator(hidden=(64,), dropout=0.5).build(DataSpec((2,)))
    x, y = torch.randn(4, 2), torch.zeros(4, dtype=torch.long)
    assert not torch.equal(D.train()(x, y), D(x, y))
    assert torch.equal(D.eval()(x, y), D(x, y))


@pytest.mark.parametrize(
    ("activation", "function"),
    [("relu", torch.relu), ("tanh", torch.tanh), ("leaky_relu", lambda h: torch.where(h > 0, h, 0.2 * h))],
)
def test_discriminator_computes_perceptron_with_activation(activation, function):
    torch.manual_seed(0)
    D = MLPDiscriminator(hidden=(8, 6), activation=activation).build(DataSpec((3,)))
    x = torch.randn(4, 3)
    first, second = (layer for layer in D.layers if isinstance(layer, torch.nn.Linear))
    expected = D.head.linear(function(second(function(first(x)))))[:, 0]
    torch.testing.assert_close(D(x, torch.zeros(4, dtype=torch.long)), expected)


def test_options_out_of_range_are_refused():
    for make in (
        lambda: MLPGenerator(hidden=(0,)),
        lambda: MLPDiscriminator(hidden=(8, -1)),
        lambda: MLPDiscriminator(dropout=1.0),
    ):
        with pytest.raises(ValueError, match=r"must be"):
            make()


def test_networks_without_hidden_layers_are_affine():
    G = MLPGenerator(hidden=()).build(DataSpec((2,)), 2)
    D = MLPDiscriminator(hidden=()).build(DataSpec((2,)))
    z, y = torch.randn(3, 2), torch.zeros(3, dtype=torch.long)
    torch.testing.assert_close(G(z, y) + G(-z, y), 2 * G(0 * z, y))
    torch.testing.assert_close(D(z, y) + D(-z, y), 2 * D(0 * z, y))


# ---------------------------------------------------------------------------------------------------- rows of a table

ROWS = DataSpec((8,), columns=(1, 3, 4))


def rows_of(probabilities, n=20_000, latent_dim=16, distribution="normal"):
    """Rows of a generator whose categories have the given probabilities for every z, in evaluation mode."""
    G = MLPGenerator(hidden=()).build(ROWS, latent_dim).eval()
    torch.nn.init.zeros_(G.last.weight)
    G.last.bias.data = torch.cat([torch.tensor([2.5]), *(torch.tensor(p).log() for p in probabilities)])
    z = torch.randn(n, latent_dim) if distribution == "normal" else (torch.rand(n, latent_dim) - 0.5) * 12**0.5
    return G(z, torch.zeros(n, dtype=torch.long)).detach()


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_categories_have_the_probabilities_of_the_softmax_and_are_independent(distribution):
    town, job = [0.7, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]
    rows = rows_of([town, job], distribution=distribution)
    assert (rows[:, 0] == 2.5).all()
    assert ((rows[:, 1:] == 0) | (rows[:, 1:] == 1)).all()
    both = rows[:, 1:4].T @ rows[:, 4:] / len(rows)
    expected = torch.outer(torch.tensor(town), torch.tensor(job))
    deviations = (both - expected) / (expected * (1 - expected) / len(rows)).sqrt()
    assert deviations.abs().max() < 4  # of twelve, in standard errors


def test_categories_are_soft_in_training_and_pass_gradients():
    G = MLPGenerator(hidden=(8,)).build(ROWS, 5)
    z, y = torch.randn(64, 5), torch.zeros(64, dtype=torch.long)
    soft = G.train()(z, y)
    hard = G.eval()(z, y)
    for block in (slice(1, 4), slice(4, 8)):
        torch.testing.assert_close(soft[:, block].sum(1), torch.ones(64))
        assert ((soft[:, block] > 0) & (soft[:, block] < 1)).any()
        assert torch.equal(soft[:, block].argmax(1), hard[:, block].argmax(1))
    of_soft, of_hard = (torch.autograd.grad((x[:, 1:] * torch.arange(7)).sum(), G.last.weight)[0] for x in (soft, hard))
    assert of_hard[1:].abs().max() > 0
    torch.testing.assert_close(of_hard, of_soft)
