"""The generator: pieces of z, the shared embedding, conditional BatchNorm, its blocks, spectral normalisation."""

import pytest
import torch
from ganframe_biggan import BigGANGenerator
from ganframe_biggan.generator import ConditionalBatchNorm, _UpBlock
from torch import nn
from torch.nn import functional as F

import ganframe
from ganframe import DataSpec
from ganframe.layers import upsampled

DATA = DataSpec((3, 32, 32), classes=4)


def make(data=DATA, latent_dim=10, **options):
    options = {"width": 4, "embedding": 6, "condition": "shared", **options}
    return BigGANGenerator(**options).build(data, latent_dim)


def conditions(G, z, y):
    """What the first layer and each conditional BatchNorm read, {name: (N, given)}, in one call of G."""
    found = {}

    def keep(name, at):
        return lambda module, args: found.update({name: args[at]})

    hooks = [G.first.register_forward_pre_hook(keep("first", 0))]
    for name, module in G.named_modules():
        if isinstance(module, ConditionalBatchNorm):
            hooks.append(module.register_forward_pre_hook(keep(name, 1)))
    G(z, y)
    for hook in hooks:
        hook.remove()
    return found


# ------------------------------------------------------------------------------------------------------------ latents


def test_each_piece_of_z_reaches_only_its_block():
    G, z, y = make().eval(), torch.randn(2, 10), torch.tensor([0, 3])
    assert G.pieces == [3, 3, 2, 2]
    before = conditions(G, z, y)
    owners = ["first", "blocks.0", "blocks.1", "blocks.2"]
    assert len(before) == 7  # one of the first layer, two of each block
    for owner, piece in zip(owners, torch.arange(10).split(G.pieces), strict=True):
        moved = z.clone()
        moved[:, piece] += 1
        after = conditions(G, moved, y)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {name for name in before if name.startswith(owner)}
        assert not torch.allclose(G(moved, y), G(z, y), atol=1e-4)


def test_pieces_beside_the_embedding_are_those_of_z_in_order():
    G, z, y = make().eval(), torch.randn(2, 10), torch.tensor([0, 3])
    read = conditions(G, z, y)
    shared = G.embedding(y)
    joined = [read[name] for name in ("first", "blocks.0.norm1", "blocks.1.norm2", "blocks.2.norm1")]
    assert torch.equal(torch.cat([c[:, :-6] for c in joined], 1), z)
    assert all(torch.equal(c[:, -6:], shared) for c in joined)


def test_latent_with_fewer_numbers_than_pieces_raises_value_error():
    with pytest.raises(ValueError, match=r"splits z into 4 pieces .* latent.dim is 3; set latent.dim to 4 or more"):
        make(latent_dim=3)
    assert make(latent_dim=4).pieces == [1] * 4


def test_pieces_of_the_paper_have_20_numbers():
    """z has 120 numbers for 128×128 pixels, 140 for 256×256 (Brock et al. 2019, appendix B)."""
    for size, latent_dim in ((128, 120), (256, 140)):
        assert set(make(DataSpec((3, size, size), classes=2), latent_dim, width=1).pieces) == {20}


# ---------------------------------------------------------------------------------------------------------- conditions


def test_shared_embedding_is_one_parameter_that_every_block_reads():
    G, y = make(), torch.tensor([1, 1])
    embeddings = [module for module in G.modules() if isinstance(module, nn.Embedding)]
    assert embeddings == [G.embedding]
    for name, read in conditions(G, torch.randn(2, 10), y).items():
        (slope,) = torch.autograd.grad(read.sum(), G.embedding.weight, retain_graph=True)
        assert slope[1].eq(2).all(), name
        assert not slope[[0, 2, 3]].any()


def test_embedding_of_a_label_changes_the_samples_of_that_label_alone():
    G, z, y = make().eval(), torch.randn(4, 10), torch.arange(4)
    before = G(z, y)
    with torch.no_grad():
        G.embedding.weight[2] += 1
    changed = (G(z, y) - before).abs().amax((1, 2, 3)) > 1e-4
    assert changed.tolist() == [False, False, True, False]


def test_vectors_enter_by_a_linear_map():
    G = make(DataSpec((1, 8, 8), condition=(5,))).eval()
    z, y = torch.randn(2, 10), torch.randn(2, 5)
    torch.testing.assert_close(conditions(G, z, y)["blocks.0.norm1"][:, -6:], y @ G.embedding.weight.T)
    assert not torch.allclose(G(z, y), G(z, -y), atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_conditional_batch_norm_is_its_formula(training):
    norm = ConditionalBatchNorm(3, 5).train(training)
    norm.norm.running_mean.normal_()
    norm.norm.running_var.uniform_(0.5, 2)
    h, c = 2 * torch.randn(4, 3, 6, 7) + 1, torch.randn(4, 5)
    if training:
        mean, var = h.mean((0, 2, 3)), h.var((0, 2, 3), correction=0)
    else:
        mean, var = norm.norm.running_mean.clone(), norm.norm.running_var.clone()
    found = norm(h, c)
    for n in range(4):
        scale, shift = 1 + norm.scale.weight @ c[n], norm.shift.weight @ c[n]
        for k in range(3):
            expected = scale[k] * (h[n, k] - mean[k]) / (var[k] + 1e-5).sqrt() + shift[k]
            torch.testing.assert_close(found[n, k], expected, rtol=1e-4, atol=1e-5)
    assert norm.scale.bias is None
    assert norm.shift.bias is None


# ------------------------------------------------------------------------------------------------------- architecture


@pytest.mark.parametrize("size", [(10, 12), (9, 11)])
def test_block_is_its_definition(size):
    """Figure 15b, with the upsampling before the convolutions, and cropped where the size is odd."""
    block = _UpBlock(4, 3, 2, nn.Identity())
    h, c = torch.randn(2, 4, 5, 6), torch.randn(2, 2)
    # The convolution of the whole upsampled map, zeros around it, is cropped.
    branch = upsampled(block.norm1(h, c).relu(), (10, 12))
    branch = F.conv2d(branch, block.conv1.weight, block.conv1.bias, padding=1)[..., : size[0], : size[1]]
    branch = F.conv2d(block.norm2(branch, c).relu(), block.conv2.weight, block.conv2.bias, padding=1)
    shortcut = F.conv2d(upsampled(h, size), block.shortcut.weight, block.shortcut.bias)
    torch.testing.assert_close(block(h, c, size), branch + shortcut, rtol=1e-4, atol=1e-5)


def test_samples_are_in_the_range_of_images():
    G = make(spectral_norm=False)
    for parameter in G.parameters():
        nn.init.normal_(parameter, 0.0, 2.0)
    x = G(torch.randn(4, 10), torch.arange(4))
    assert x.min() < -0.99
    assert x.max() > 0.99
    assert x.abs().max() <= 1


def test_generator_declares_that_z_may_be_truncated():
    assert make().truncates_latent


# -------------------------------------------------------------------------------------------------- spectral norm


def normalised(network):
    return {name: module for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}


def test_spectral_norm_of_every_layer_is_1_after_some_forwards():
    G = make(DataSpec((1, 8, 8), classes=2), width=2, attention=8)
    with torch.no_grad():
        for module in normalised(G).values():
            module.parametrizations.weight.original.normal_()
        for _ in range(200):
            G(torch.randn(2, 10), torch.tensor([0, 1]))
    assert len(normalised(G.eval())) == 1 + 7 + 1 + 4  # first, one block, last, attention
    for name, module in normalised(G).items():
        sigma = torch.linalg.matrix_norm(module.weight.flatten(1), 2).item()
        assert sigma == pytest.approx(1, abs=5e-3), name


def test_spectral_norm_is_an_option_and_leaves_the_embedding_free():
    assert not hasattr(make().embedding, "parametrizations")
    for module in make(spectral_norm=False).modules():
        assert not hasattr(module, "parametrizations")


def test_evaluation_changes_no_buffer_and_training_moves_the_power_iteration():
    G, z, y = make(), torch.randn(2, 10), torch.tensor([0, 1])
    with torch.no_grad():
        for module in normalised(G).values():
            module.parametrizations.weight.original.normal_()
    before = {name: buffer.clone() for name, buffer in G.named_buffers()}
    G.eval()(z, y)
    assert all(torch.equal(buffer, before[name]) for name, buffer in G.named_buffers())
    G.train()(z, y)
    moved = {name for name, buffer in G.named_buffers() if not torch.equal(buffer, before[name])}
    assert {"first.parametrizations.weight.0._u", "blocks.0.norm1.norm.running_mean"} <= moved


# ------------------------------------------------------------------------------------------------------------ export


@pytest.mark.parametrize("condition", ["none", "shared"])
def test_generator_is_exported_with_a_free_batch_size(condition):
    G = make(DataSpec((3, 12, 12), classes=4), condition=condition).eval()
    batch = torch.export.Dim("batch", min=1)
    two, seven = ((torch.randn(n, 10), torch.arange(n) % 4) for n in (2, 7))
    graph = torch.export.export(G, two, dynamic_shapes=({0: batch}, {0: batch})).module()
    for run in (graph, torch.jit.trace(G, two)):
        torch.testing.assert_close(run(*seven), G(*seven), rtol=1e-4, atol=1e-5)


def test_component_is_registered():
    assert ganframe.component("generator", "biggan") is BigGANGenerator
