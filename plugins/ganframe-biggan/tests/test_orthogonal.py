"""The term `orthogonal`: its value, gradient, whose weights it reads, and errors."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ganframe_biggan import BigGANGenerator, Orthogonal
from torch import nn

import ganframe
from ganframe import DataSpec


def term(G, weight=1.0):
    return Orthogonal(weight=weight).generator_term(SimpleNamespace(G=G))


def by_numpy(W):
    """‖WWᵀ ⊙ (1 - I)‖²_F for W (filters, rest), in float64."""
    W = W.detach().double().numpy()
    return np.square((W @ W.T) * (1 - np.eye(len(W)))).sum()


@pytest.mark.parametrize("layer", [nn.Linear(7, 4), nn.Linear(4, 9), nn.Conv2d(3, 5, 3), nn.Conv2d(1, 12, 2)], ids=str)
def test_value_is_the_equation_of_the_paper(layer):
    """Eq. 3, for matrices with fewer rows than columns and with more."""
    assert term(layer).item() == pytest.approx(by_numpy(layer.weight.flatten(1)), rel=1e-5)
    assert term(layer, 1e-4).item() == pytest.approx(1e-4 * by_numpy(layer.weight.flatten(1)), rel=1e-5)


def test_values_of_layers_are_added():
    G = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 6))
    assert term(G).item() == pytest.approx(by_numpy(G[0].weight) + by_numpy(G[2].weight), rel=1e-5)


@pytest.mark.parametrize("shape", [(4, 7), (9, 4)])
def test_gradient_is_4_times_the_overlaps_times_the_filters(shape):
    layer = nn.Linear(shape[1], shape[0]).double()
    term(layer).backward()
    W = layer.weight.detach()
    expected = 4 * ((W @ W.T) * (1 - torch.eye(len(W)))) @ W
    torch.testing.assert_close(layer.weight.grad, expected)
    assert layer.bias.grad is None


def test_orthogonal_filters_of_any_norm_have_no_penalty_and_no_gradient():
    layer = nn.Conv2d(3, 5, 3)
    nn.init.orthogonal_(layer.weight)
    with torch.no_grad():
        layer.weight.mul_(torch.arange(1.0, 6.0)[:, None, None, None])
    value = term(layer)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-8)
    assert layer.weight.grad.abs().max() < 1e-4
    parallel = nn.Linear(2, 2)
    nn.init.ones_(parallel.weight)
    assert term(parallel).item() == 8  # <w₁, w₂> = 2, twice


def test_descent_makes_filters_orthogonal():
    layer = nn.Linear(8, 4)
    start = term(layer).item()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        term(layer).backward()
        optimizer.step()
    assert term(layer).item() < 1e-3 * start
    assert layer.weight.norm(dim=1).min() > 0.1  # not by making them 0


def test_filters_of_transposed_and_grouped_convolutions():
    transposed = nn.ConvTranspose2d(3, 4, 2)
    assert term(transposed).item() == pytest.approx(by_numpy(transposed.weight.transpose(0, 1).flatten(1)), rel=1e-5)
    grouped = nn.Conv2d(4, 6, 3, groups=2)
    expected = sum(by_numpy(W) for W in grouped.weight.flatten(1).split(3))
    assert term(grouped).item() == pytest.approx(expected, rel=1e-5)
    both = nn.ConvTranspose2d(4, 6, 3, groups=2)
    expected = sum(by_numpy(W.transpose(0, 1).flatten(1)) for W in both.weight.split(2))
    assert term(both).item() == pytest.approx(expected, rel=1e-5)


def test_every_weight_of_the_generator_but_the_embedding_is_regularised():
    data = DataSpec((1, 8, 8), classes=3)
    for spectral_norm in (True, False):
        G = BigGANGenerator(width=2, condition="shared", embedding=4, spectral_norm=spectral_norm, attention=8)
        G = G.build(data, 6)
        with torch.no_grad():
            for parameter in G.parameters():
                parameter.normal_()
        term(G).backward()
        reached = {name for name, p in G.named_parameters() if p.grad is not None and p.grad.any()}
        matrices = {name for name, p in G.named_parameters() if p.ndim >= 2 and len(p) > 1}
        assert "embedding.weight" in matrices
        assert reached == matrices - {"embedding.weight"}


def test_weights_under_spectral_norm_are_those_that_the_optimiser_moves():
    G = BigGANGenerator(width=2).build(DataSpec((1, 8, 8)), 6)
    with torch.no_grad():
        for parameter in G.parameters():
            parameter.normal_()
    before = {name: buffer.clone() for name, buffer in G.named_buffers()}
    raw = [p for name, p in G.named_parameters() if name.endswith("original")]
    assert term(G).item() == pytest.approx(sum(by_numpy(W.flatten(1)) for W in raw), rel=1e-4)
    assert all(torch.equal(buffer, before[name]) for name, buffer in G.named_buffers())  # no power iteration


def test_generator_without_layers_raises_value_error():
    with pytest.raises(ValueError, match="needs linear or convolution layers in the generator, and it has none"):
        Orthogonal().prepare(nn.Embedding(3, 2), nn.Linear(1, 1), DataSpec((2,)))


def test_negative_weight_raises_value_error():
    with pytest.raises(ValueError, match="weight"):
        Orthogonal(weight=-1.0)


def test_component_is_registered():
    assert ganframe.component("term", "orthogonal") is Orthogonal
