"""Sizes, channels, attention, embeddings and initialisation."""

import pytest
import torch
from ganframe_biggan import BigGANDiscriminator, BigGANGenerator
from ganframe_biggan.layers import attention_at, embedded, embedding_for, sizes_and_channels
from torch import nn

from ganframe import DataSpec
from ganframe.layers import SelfAttention


@pytest.mark.parametrize(
    ("shape", "multiples"),
    [
        ((1, 8, 8), [4] * 2),
        ((1, 28, 28), [4] * 4),
        ((3, 32, 32), [4] * 4),
        ((3, 64, 64), [16, 16, 8, 4, 2]),
        ((3, 96, 150), [16, 16, 8, 4, 2]),
        ((3, 128, 128), [16, 16, 8, 4, 2, 1]),  # Brock et al. 2019, table 4
        ((3, 256, 256), [16, 16, 8, 8, 4, 2, 1]),  # table 5
        ((3, 512, 512), [16, 16, 8, 8, 4, 2, 1, 1]),  # table 6
        ((3, 1024, 1024), [16, 16, 8, 8, 4, 2, 1, 1, 1]),
    ],
    ids=str,
)
def test_channels_at_each_resolution(shape, multiples):
    sizes, channels = sizes_and_channels(DataSpec(shape), 3)
    assert channels == [3 * m for m in multiples]
    assert len(sizes) == len(channels)
    assert sizes[-1] == shape[1:]


def test_attention_is_at_the_block_that_ends_at_its_side():
    sizes, channels = ((8, 10), (16, 20), (32, 40)), [8, 16, 24]
    kinds = [type(module) for module in attention_at(16, sizes, channels)]
    assert kinds == [nn.Identity, SelfAttention, nn.Identity]
    assert attention_at(16, sizes, channels)[1].query.in_channels == 16
    assert {type(module) for module in attention_at(0, sizes, channels)} == {nn.Identity}


@pytest.mark.parametrize(("cls", "sides"), [(BigGANGenerator, "7, 14, 28"), (BigGANDiscriminator, "4, 7, 14")])
def test_attention_at_another_side_raises_value_error_with_the_sides(cls, sides):
    with pytest.raises(ValueError, match=rf"attention = 16: no block .* choose one of {sides}, or 0"):
        build(cls, DataSpec((1, 28, 28)), attention=16)


def build(cls, data, **options):
    config = cls(**{"width": 4, **options})
    return config.build(data, 8) if cls is BigGANGenerator else config.build(data)


@pytest.mark.parametrize("cls", [BigGANGenerator, BigGANDiscriminator])
def test_attention_is_the_identity_at_the_start_and_not_later(cls):
    data = DataSpec((1, 16, 16))
    plain, attending = (build(cls, data, attention=side).eval() for side in (0, 8))
    left = attending.load_state_dict(plain.state_dict(), strict=False)
    assert {name.split(".")[2] for name in left.missing_keys} == {"attention"}
    assert not left.unexpected_keys
    inputs = torch.randn(3, 8) if cls is BigGANGenerator else torch.randn(3, 1, 16, 16)
    y = data.blank(3)
    assert torch.equal(attending(inputs, y), plain(inputs, y))
    (attention,) = (module for module in attending.modules() if isinstance(module, SelfAttention))
    nn.init.ones_(attention.gamma)
    assert not torch.allclose(attending(inputs, y), plain(inputs, y), atol=1e-4)


@pytest.mark.parametrize("cls", [BigGANGenerator, BigGANDiscriminator])
def test_weights_start_orthogonal_and_biases_at_0(cls):
    condition = "shared" if cls is BigGANGenerator else "projection"
    network = build(cls, DataSpec((3, 16, 16), classes=5), condition=condition, attention=8)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            W = module.weight.flatten(1)
            gram = W @ W.T if len(W) <= W.shape[1] else W.T @ W
            torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-4, rtol=0)
            assert isinstance(module, nn.Embedding) or module.bias is None or not module.bias.any()


def test_embedding_is_a_table_of_labels_or_a_map_of_vectors():
    table = embedding_for("shared", 6, DataSpec((1, 8, 8), classes=4))
    assert torch.equal(embedded(table, torch.tensor([3, 0]), torch.zeros(2)), table.weight[[3, 0]])
    linear = embedding_for("shared", 6, DataSpec((1, 8, 8), condition=(5,)))
    y = torch.randn(2, 5, dtype=torch.float64)
    torch.testing.assert_close(embedded(linear, y, torch.zeros(2)), y.float() @ linear.weight.T)
    assert embedding_for("none", 6, DataSpec((1, 8, 8), classes=4)) is None


@pytest.mark.parametrize(("cls", "condition"), [(BigGANGenerator, "shared"), (BigGANDiscriminator, "projection")])
def test_data_that_does_not_fit_raises_value_error(cls, condition):
    for data, cause in (
        (DataSpec((1, 8, 8)), f"condition = '{condition}' needs labels or vectors, .* use condition = 'none'"),
        (DataSpec((1, 8, 8), condition=(1, 8, 8)), r"labels or vectors .* have shape \(1, 8, 8\); use condition"),
        (DataSpec((6,)), r"at least 8×8 pixels; the data has shape \(6,\)"),
        (DataSpec((1, 7, 20)), r"at least 8×8 pixels; the data has shape \(1, 7, 20\)"),
    ):
        with pytest.raises(ValueError, match=cause) as raised:
            build(cls, data, condition=condition)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cls", [BigGANGenerator, BigGANDiscriminator])
def test_condition_none_ignores_labels_and_images(cls):
    for data in (DataSpec((1, 8, 8), classes=3), DataSpec((1, 8, 8), condition=(1, 8, 8))):
        network = build(cls, data).eval()
        inputs = torch.stack([torch.randn([8] if cls is BigGANGenerator else data.shape)] * 2)
        y = torch.tensor([0, 2]) if data.classes else torch.randn(2, 1, 8, 8)
        one, other = network(inputs, y)
        assert torch.equal(one, other)
