"""`orthogonal_layers` and `aol`: exact norms of layers as matrices, what is refused, training, resuming, compiling."""

import copy
import math

import pytest
import torch
from ganframe_lipschitz import AlmostOrthogonal, OrthogonalLayers
from ganframe_lipschitz.matrices import orthonormal
from torch import nn

import ganframe
from ganframe import DataSpec
from ganframe.layers import ConvThenPool, SelfAttention, UpsampleThenConv
from ganframe.testing import check_constraint

CONSTRAINTS = [OrthogonalLayers(), OrthogonalLayers(method="bjorck", iterations=3), AlmostOrthogonal()]
BOTH = [OrthogonalLayers(), AlmostOrthogonal()]

LAYERS = [
    (nn.Linear(7, 4), (7,)),
    (nn.Linear(4, 7), (4,)),
    (nn.Linear(5, 1), (5,)),
    (nn.Linear(1, 1), (1,)),
    (nn.Conv2d(3, 5, 3, padding=1), (3, 6, 5)),
    (nn.Conv2d(5, 3, 3, padding=1), (5, 6, 5)),
    (nn.Conv2d(3, 3, 3, padding=0), (3, 6, 5)),
    (nn.Conv2d(3, 4, 3, padding=4), (3, 4, 4)),
    (nn.Conv2d(3, 4, 3, padding="same"), (3, 5, 5)),
    (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), (4, 6, 5)),
    (nn.Conv2d(3, 6, 4, 2, 1), (3, 7, 8)),
    (nn.Conv2d(3, 16, 4, 2, 1), (3, 8, 8)),
    (nn.Conv2d(4, 4, 3, 2, 1), (4, 7, 7)),
    (nn.Conv2d(4, 6, 2, 2), (4, 8, 8)),
    (nn.Conv2d(4, 3, 2, 3), (4, 8, 8)),
    (nn.Conv2d(4, 6, 1), (4, 5, 5)),
    (nn.Conv2d(4, 6, 3, padding=2, dilation=2), (4, 7, 7)),
    (nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2), (4, 9, 9)),
    (nn.Conv2d(4, 30, 3, stride=4, padding=2, dilation=2), (4, 9, 9)),
    (nn.Conv2d(4, 6, 3, stride=3, padding=2, dilation=2), (4, 9, 9)),
    (nn.Conv2d(4, 8, 3, padding=1, groups=2), (4, 5, 5)),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 5, 5)),
    (nn.Conv2d(1, 1, 3, padding=1), (1, 6, 6)),
    (nn.Conv2d(1, 6, 3, padding=1), (1, 6, 6)),
    (nn.Conv2d(4, 4, (1, 5), (1, 2), (0, 3)), (4, 4, 9)),
    (nn.Conv1d(3, 4, 5, padding=2), (3, 9)),
    (nn.Conv3d(2, 3, 3, padding=1), (2, 4, 4, 4)),
    (nn.ConvTranspose1d(2, 3, 3), (2, 5)),
    (nn.ConvTranspose2d(4, 3, 4, 2, 1), (4, 4, 4)),
    (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), (4, 4, 4)),
    (ConvThenPool(4, 6), (4, 7, 6)),
    (UpsampleThenConv(4, 6), (4, 4, 4)),
]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
def test_conformance(constraint):
    check_constraint(constraint)


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_exact_norm_of_a_layer_is_at_most_1(constraint, layer, shape, norm, moved):
    layer = constraint.wrap(copy.deepcopy(layer).double())
    norms = [norm(layer, shape)]
    for _ in range(2):
        norms.append(norm(moved(layer), shape))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(30)  # no size of the raw weights may matter
    norms.append(norm(layer, shape))
    assert max(norms) <= 1 + 1e-9
    assert min(norms) > 0.05
    # In float32, of the same weights, within its rounding.
    weight = copy.deepcopy(layer).float().weight.detach().double()
    assert (weight - layer.weight.detach()).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(7, 4), (7,)),
        (nn.Linear(4, 7), (4,)),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), (4, 6, 5)),
        (nn.Conv2d(2, 5, 3, padding=1, padding_mode="circular"), (2, 6, 5)),
        (nn.Conv2d(5, 3, 3, padding=1, padding_mode="circular"), (5, 6, 5)),
        (nn.Conv2d(3, 12, 2, 2), (3, 6, 6)),
        (nn.Conv2d(3, 20, 2, 2), (3, 6, 6)),
        (nn.Conv2d(3, 4, 2, 2), (3, 6, 6)),
        (nn.Conv2d(4, 3, 2), (4, 6, 6)),
        (nn.Conv2d(4, 2, 3), (4, 6, 6)),
        (nn.ConvTranspose2d(3, 4, 2, 2), (3, 4, 4)),
        (nn.Conv2d(3, 20, 4, 2, 3), (3, 6, 6)),
        (nn.Conv2d(3, 6, 3, padding=4, dilation=2), (3, 5, 5)),
    ],
    ids=str,
)
def test_orthogonal_layer_keeps_norms_where_no_padding_or_edge_is_in_the_way(layer, shape, matrix, moved):
    """All singular values are 1 where every input, or every output, has its whole kernel."""
    layer = moved(OrthogonalLayers().wrap(copy.deepcopy(layer).double()))
    values = torch.linalg.svdvals(matrix(layer, shape))
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-9)


def test_orthogonal_kernel_uses_all_its_taps():
    for layer in (nn.Conv2d(8, 8, 3), nn.Conv2d(8, 20, 4, 2), nn.Conv2d(3, 16, 4, 2), nn.Conv2d(8, 4, 5)):
        weight = OrthogonalLayers().wrap(layer).weight
        size = weight.square().sum((0, 1))
        assert size.min() > 1e-4 * size.max()


def test_aol_of_a_matrix_by_definition(moved):
    V = torch.randn(5, 4, dtype=torch.float64)
    layer = AlmostOrthogonal().wrap(nn.Linear(4, 5).double())
    layer.parametrizations.weight.original.data = V
    torch.testing.assert_close(layer.weight, V @ (V.T @ V).abs().sum(0).rsqrt().diag())
    # Where there are fewer rows it is Wᵀ that is rescaled: a single row has exactly norm 1.
    row = AlmostOrthogonal().wrap(nn.Linear(9, 1))
    torch.testing.assert_close(moved(row).weight.norm(), torch.ones(()))


def test_aol_starts_orthogonal_and_leaves_orthonormal_columns_as_they_are(matrix):
    for layer, shape in ((nn.Linear(4, 6), (4,)), (nn.Conv2d(4, 4, 3, padding=1), (4, 5, 5))):
        values = torch.linalg.svdvals(matrix(AlmostOrthogonal().wrap(layer.double()), shape))
        torch.testing.assert_close(values, torch.ones_like(values))


@pytest.mark.parametrize("constraint", BOTH, ids=str)
@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(4, 3, 3)], ids=str)
def test_layer_of_zeros_and_its_gradient_stay_finite(constraint, layer):
    layer = copy.deepcopy(layer)
    nn.init.zeros_(layer.weight)
    layer = constraint.wrap(layer)
    if isinstance(constraint, AlmostOrthogonal):
        nn.init.zeros_(layer.parametrizations.weight.original)
    layer.weight.square().sum().backward()
    assert layer.weight.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("constraint", BOTH, ids=str)
def test_rows_of_an_embedding_have_norm_1(constraint, moved):
    D = constraint.wrap(nn.ModuleDict({"e": nn.Embedding(3, 5), "l": nn.Linear(5, 1)}))
    torch.testing.assert_close(moved(D)["e"].weight.norm(dim=1), torch.ones(3))


# ---------------------------------------------------------------------------------------------- matrices by two methods


@pytest.mark.parametrize("shape", [(5, 5), (6, 3), (3, 6), (2, 4, 2), (1, 1)])
def test_qr_and_bjorck_make_rows_or_columns_orthonormal(shape):
    V = torch.randn(shape, dtype=torch.float64)
    for W in (orthonormal(V), orthonormal(V, "bjorck", 60)):
        gram = W.mT @ W if shape[-2] >= shape[-1] else W @ W.mT
        torch.testing.assert_close(gram, torch.eye(gram.shape[-1], dtype=gram.dtype).expand_as(gram))


def test_bjorck_tends_to_the_nearest_orthonormal_matrix_from_below():
    V = torch.randn(6, 4, dtype=torch.float64)
    u, _, v = torch.linalg.svd(V, full_matrices=False)
    torch.testing.assert_close(orthonormal(V, "bjorck", 60), u @ v)
    norms = [torch.linalg.matrix_norm(orthonormal(V, "bjorck", n), 2).item() for n in range(1, 20)]
    assert all(value <= 1 + 1e-12 for value in norms)
    least = [torch.linalg.svdvals(orthonormal(V, "bjorck", n)).min().item() for n in range(1, 8)]
    assert least == sorted(least)


def test_qr_is_smooth_where_a_reflection_would_change_its_sign():
    """R has a positive diagonal, so Q of nearly equal matrices is nearly equal."""
    V = torch.tensor([[1e-9, 1.0], [1.0, 0.3]], dtype=torch.float64)
    W = V.clone()
    W[0, 0] = -1e-9
    torch.testing.assert_close(orthonormal(V), orthonormal(W))


@pytest.mark.parametrize("method", ["qr", "bjorck"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
def test_orthonormal_can_be_differentiated(method, shape):
    V = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda V: orthonormal(V, method, 5), V)


# ------------------------------------------------------------------------------------------------------------- refused


class WithMatrix(nn.Module):
    def __init__(self):
        super().__init__()
        self.mixing = nn.Parameter(torch.eye(3))


REFUSED = [
    (nn.BatchNorm1d(3), "mixes the samples"),
    (nn.LayerNorm(3), "LayerNorm 1 divides"),
    (nn.GroupNorm(1, 3), "GroupNorm 1 divides"),
    (SelfAttention(8), "SelfAttention 1 multiplies"),
    (nn.Bilinear(3, 3, 3), "Bilinear 1 has the weight weight"),
    (WithMatrix(), "WithMatrix 1 has the weight mixing"),
    (nn.GRU(3, 3), "GRU 1 has the weight weight_ih_l0"),
    (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "padding_mode = 'reflect'"),
    (nn.Conv2d(2, 2, 3, padding=1, padding_mode="replicate"), "padding_mode = 'replicate'"),
    (nn.Conv2d(2, 2, 3, padding=2, padding_mode="circular"), "circular padding beyond its kernel"),
    (nn.Conv2d(2, 2, 3, 2, padding=1, padding_mode="circular"), "with a stride"),
    (nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)), "Linear 1 already has a parametrisation"),
]


@pytest.mark.parametrize("constraint", BOTH, ids=str)
@pytest.mark.parametrize(("module", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_not_covered_is_refused_by_name_in_one_line(constraint, module, message):
    D = nn.Sequential(nn.Linear(3, 3), copy.deepcopy(module))
    for call in (constraint.check, constraint.wrap):
        with pytest.raises(ValueError, match=message) as error:
            call(D)
        assert "\n" not in str(error.value)
        assert str(error.value).startswith(("orthogonal_layers", "aol"))


@pytest.mark.parametrize("constraint", BOTH, ids=str)
def test_discriminator_without_layers_is_refused(constraint):
    with pytest.raises(ValueError, match="has none"):
        constraint.check(nn.Sequential(nn.Tanh()))


def test_circular_padding_of_one_that_repeats_outputs_would_be_above_1(norm):
    """What the refusal is for: a 1×1 convolution whose circular padding gives the same output twice."""
    layer = nn.Conv2d(1, 1, 1, padding=1, padding_mode="circular", bias=False).double()
    nn.init.ones_(layer.weight)
    assert norm(layer, (1, 4, 4)) == pytest.approx(2)


# ---------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("constraint", BOTH, ids=str)
@pytest.mark.parametrize(
    ("name", "options", "spec"),
    [
        ("mlp", {"hidden": (8, 6)}, DataSpec((5,))),
        ("mlp", {"hidden": (8,), "condition": "projection"}, DataSpec((3,), classes=4)),
        ("dcgan", {"width": 4, "norm": "none"}, DataSpec((3, 16, 16))),
        ("resnet", {"width": 2, "condition": "projection"}, DataSpec((1, 13, 9), classes=3)),
    ],
)
def test_every_layer_of_a_built_in_discriminator_is_covered(constraint, name, options, spec, moved):
    D = ganframe.component("discriminator", f"builtin:{name}")(**options).build(spec)
    constraint.check(D)
    D = moved(constraint.wrap(D))
    plain = [key for key, p in D.named_parameters() if p.ndim > 1 and "original" not in key]
    assert not plain
    scores = D(torch.rand(4, *spec.shape), torch.zeros(4, dtype=torch.long))
    assert scores.shape == (4,)
    assert scores.isfinite().all()


@pytest.mark.parametrize("constraint", BOTH, ids=str)
def test_perceptron_with_relu_has_no_slope_above_1(constraint, moved):
    D = ganframe.component("discriminator", "mlp")(hidden=(16, 16), activation="relu").build(DataSpec((3,)))
    D = moved(constraint.wrap(D.double()))
    x = (3 * torch.randn(2000, 3, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(D(x, None).sum(), x)
    assert gradient.norm(dim=1).max() <= 1 + 1e-12


@pytest.mark.parametrize("constraint", BOTH, ids=str)
@pytest.mark.parametrize(
    ("name", "options", "spec"),
    [
        ("mlp", {"hidden": (16, 16), "activation": "groupsort"}, DataSpec((5,))),
        ("dcgan", {"width": 4, "norm": "none", "activation": "maxmin"}, DataSpec((3, 16, 16))),
    ],
)
def test_bound_of_the_analysis_is_1(constraint, name, options, spec, moved):
    from ganframe.analysis.bounds import certified_bound

    D = ganframe.component("discriminator", f"builtin:{name}")(**options).build(spec)
    D = moved(constraint.wrap(D)).eval()
    bound = certified_bound(D, torch.zeros(1, *spec.shape), torch.zeros(1, dtype=torch.long)).value
    assert 1e-4 < bound <= 1 + 1e-9


@pytest.mark.parametrize("constraint", BOTH, ids=str)
def test_weights_are_made_in_full_precision_under_autocast(constraint, moved):
    layer = moved(constraint.wrap(nn.Conv2d(8, 8, 3)))
    expected = layer.weight
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight, expected)


# ---------------------------------------------------------------------------------------------------------- training

RECIPE = """
[dataset]
use = "digits"
size = 16
[generator]
use = "mlp"
hidden = [16]
[discriminator]
use = "{}"
[objective]
use = "wgan"
[[constraints]]
use = "{}"
[train]
steps = 4
batch_size = 8
[log]
every = 1
samples_every = 4
checkpoint_every = 2
"""
DCGAN = 'dcgan"\nnorm = "none"\nwidth = 4 #'


@pytest.fixture
def recipe(load):
    return lambda discriminator, constraint, *overrides: load(RECIPE.format(discriminator, constraint), *overrides)


@pytest.mark.parametrize("name", ["orthogonal_layers", "aol"])
@pytest.mark.parametrize("more", [[], ["train.accumulate=2"], ['constraints.0.method="bjorck"']])
def test_resumed_run_matches_the_uninterrupted_one(name, more, recipe, tmp_path):
    if name == "aol" and "bjorck" in str(more):
        pytest.skip("an option of the other constraint")
    full = ganframe.run(recipe(DCGAN, name, *more), out=tmp_path / "full")
    ganframe.run(recipe(DCGAN, name, *more, "train.steps=2"), out=tmp_path / "resumed")
    resumed = ganframe.resume(tmp_path / "resumed", ["train.steps=4"])
    for expected, record in zip(full.log, resumed.log, strict=True):
        assert {**expected, "seconds": 0} == {**record, "seconds": 0}
    assert math.isfinite(full.log[-1]["loss_discriminator"])


@pytest.mark.parametrize("name", ["orthogonal_layers", "aol"])
def test_discriminator_with_batchnorm_raises_recipe_error(name, recipe, tmp_path):
    with pytest.raises(ganframe.RecipeError, match=f"{name} bounds the slope by each sample"):
        ganframe.run(recipe("dcgan", name), out=tmp_path / "run")
