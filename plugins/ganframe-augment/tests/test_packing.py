"""pac: what D sees of a pack, what each sample is told, and which data it refuses."""

import attrs
import pytest
import torch
from ganframe_augment import Packing
from torch import nn

import ganframe
from ganframe import DataSpec, Discriminator, group_size, score_gradients
from ganframe.testing import check_discriminator

MLP = ganframe.component("discriminator", "mlp")
DCGAN = ganframe.component("discriminator", "dcgan")


@attrs.frozen
class Recording(Discriminator):
    """D(x) = the sum of a pack's numbers; records packs."""

    many: bool = False

    def build(self, data):
        return _Recording(data, self.many)


class _Recording(nn.Module):
    gives_extras = True

    def __init__(self, data, many):
        super().__init__()
        self.data, self.many, self.seen = data, many, []
        self.many_scores = many

    def forward(self, x, y, extras=None):
        assert x.shape[1:] == self.data.shape
        assert y.shape == (len(x),)
        self.seen.append(x)
        if extras is not None:
            extras["features"] = x.flatten(1)
        sums = x.flatten(1).sum(1)
        return torch.stack([sums, -sums], 1) if self.many else sums


def labels(n):
    return torch.zeros(n, dtype=torch.long)


@pytest.mark.parametrize("samples", [2, 4])
@pytest.mark.parametrize(
    "of", [MLP(hidden=(8,)), MLP(hidden=(8,), norm="batch"), DCGAN(width=8, norm="layer")], ids=str
)
def test_conformance(of, samples):
    check_discriminator(Packing(of=of, samples=samples))


def test_component_is_registered():
    assert ganframe.component("discriminator", "pac") is Packing


@pytest.mark.parametrize(
    ("shape", "packed"), [((2,), (6,)), ((3, 4, 5), (9, 4, 5)), ((5, 7), (15, 7))], ids=["points", "images", "paths"]
)
def test_samples_are_joined_along_the_first_axis(shape, packed):
    D = Packing(of=Recording(), samples=3).build(DataSpec(shape, classes=7))
    x = torch.randn(6, *shape)
    scores = D(x, labels(6))
    (seen,) = D.inner.seen
    assert seen.shape == (2, *packed)
    assert torch.equal(seen[0], torch.cat(list(x[:3])))
    assert torch.equal(seen[1], torch.cat(list(x[3:])))
    assert D.inner.data == DataSpec(packed)
    torch.testing.assert_close(scores, torch.stack([x[:3].sum(), x[3:].sum()]).repeat_interleave(3))


@pytest.mark.parametrize(("n", "repeated"), [(1, [0, 0, 0]), (4, [0, 1, 2, 3, 0, 1]), (5, [0, 1, 2, 3, 4, 0])])
def test_last_pack_is_filled_with_earlier_samples(n, repeated):
    D = Packing(of=Recording(), samples=3).build(DataSpec((2,)))
    x = torch.randn(n, 2)
    assert D(x, labels(n)).shape == (n,)
    assert torch.equal(torch.cat([pack.view(3, 2) for pack in D.inner.seen[0]]), x[repeated])


def test_columns_of_a_table_are_repeated():
    D = Packing(of=Recording(), samples=2).build(DataSpec((3,), columns=(1, 2)))
    assert D.inner.data.columns == (1, 2, 1, 2)


def test_groups_of_the_inner_discriminator_are_groups_of_packs():
    class Grouping(Recording):
        def build(self, data):
            network = super().build(data)
            network.mixes_groups_of = 4
            return network

    assert group_size(Packing(of=Recording(), samples=2).build(DataSpec((2,)))) == 2
    assert group_size(Packing(of=Grouping(), samples=2).build(DataSpec((2,)))) == 8


def test_gradient_is_that_of_the_pack():
    """The score of a pack is a mean over its samples' scores: one gradient by all of its numbers."""
    D = Packing(of=Recording(), samples=2).build(DataSpec((3,)))
    x = torch.randn(4, 3, requires_grad=True)
    gradients = score_gradients(D, D(x, labels(4)), x)
    assert torch.equal(gradients, torch.ones(2, 6))


def test_many_scores_and_extras_are_those_of_the_pack():
    D, extras = Packing(of=Recording(many=True), samples=2).build(DataSpec((3,))), {}
    x = torch.randn(4, 3)
    assert D(x, labels(4), extras).shape == (4, 2)
    assert torch.equal(extras["features"], x.view(2, 6).repeat_interleave(2, 0))


def test_conditions_raise_value_error():
    with pytest.raises(ValueError, match="data without conditions"):
        Packing(of=Recording()).build(DataSpec((2,), condition=(4,)))


def test_inner_discriminator_that_needs_labels_raises_value_error():
    with pytest.raises(ValueError, match=r"of: for packs of shape \(4,\), without labels: condition = 'projection'"):
        Packing(of=MLP(condition="projection")).build(DataSpec((2,), classes=3))
