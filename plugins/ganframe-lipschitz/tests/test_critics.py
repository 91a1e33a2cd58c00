"""The discriminators `sll` and `cpl`: for data of any shape, certified, conditional, trained, resumed, compiled."""

import shutil

import pytest
import torch
from ganframe_lipschitz import CPL, SLL

import ganframe
from ganframe import DataSpec
from ganframe.testing import check_discriminator

BOTH = [SLL, CPL]
SPECS = [
    DataSpec((1,)),
    DataSpec((2,)),
    DataSpec((5, 7)),
    DataSpec((1, 8, 8)),
    DataSpec((3, 32, 32)),
    DataSpec((2, 9, 13)),
    DataSpec((1, 40, 20)),
]


def critic(kind, spec, condition="none", noise=0.1):
    """A network in float64 whose weights have moved."""
    D = kind(width=4, blocks=2, condition=condition).build(spec).double()
    with torch.no_grad():
        for parameter in D.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return D


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("spec", [DataSpec((3,)), DataSpec((1, 8, 8), classes=3)], ids=lambda spec: str(spec.shape))
def test_conformance(kind, spec):
    check_discriminator(kind(width=4, blocks=1, condition="concat" if spec.classes else "none"), spec)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec.shape))
def test_no_slope_is_above_1(kind, spec, random_slope, adversarial_slope):
    D = critic(kind, spec)
    n = 10_000 if len(spec.shape) == 1 else 200
    slopes = random_slope(lambda x: D(x, None), spec.shape, n, 100 if n == 200 else 2000)
    assert 0 < max(slopes, adversarial_slope(lambda x: D(x, None), spec.shape, 4, 10)) <= 1 + 1e-9


@pytest.mark.parametrize("kind", BOTH)
def test_score_is_steep_at_the_start(kind):
    """A network that is 1-Lipschitz because it is flat would teach nothing."""
    for spec in (DataSpec((2,)), DataSpec((3, 32, 32))):
        D = kind(width=16).build(spec)
        x = torch.randn(64, *spec.shape).requires_grad_()
        (gradient,) = torch.autograd.grad(D(x, None).sum(), x)
        assert gradient.flatten(1).norm(dim=1).mean() > 0.1


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("spec", [DataSpec((2,)), DataSpec((1, 9, 13))], ids=lambda spec: str(spec.shape))
def test_bound_of_the_analysis_is_1(kind, spec):
    from ganframe.analysis.bounds import certified_bound

    bound = certified_bound(critic(kind, spec).eval(), torch.zeros(1, *spec.shape), torch.zeros(1, dtype=torch.long))
    assert 1 - 1e-9 <= bound.value <= 1 + 1e-6


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("spec", "y"),
    [
        (DataSpec((2,), classes=3), torch.tensor([0, 1, 2, 2])),
        (DataSpec((1, 9, 13), classes=3), torch.tensor([0, 1, 2, 2])),
        (DataSpec((2,), condition=(4,)), torch.rand(4, 4)),
        (DataSpec((2, 8, 8), condition=(4,)), torch.rand(4, 4)),
        (DataSpec((1, 8, 8), condition=(2, 8, 8)), torch.rand(4, 2, 8, 8)),
    ],
    ids=str,
)
def test_concatenated_condition_moves_the_score_and_no_slope(kind, spec, y):
    D, x = critic(kind, spec, "concat"), torch.randn(4, *spec.shape, dtype=torch.float64)
    y = y.double() if y.is_floating_point() else y
    assert (D(x, y) - D(x, y.roll(1, 0))).abs().max() > 1e-6
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(D(x, y).sum(), x)
    assert gradient.flatten(1).norm(dim=1).max() <= 1 + 1e-9
    plain = critic(kind, spec)
    assert torch.equal(plain(x, y), plain(x, y.roll(1, 0)))  # without the option y is not read


@pytest.mark.parametrize("kind", BOTH)
def test_condition_that_the_data_lack_or_of_another_size_is_refused(kind):
    with pytest.raises(ValueError, match="needs labels or conditions"):
        kind(condition="concat").build(DataSpec((2,)))
    with pytest.raises(ValueError, match="conditions of 8×8"):
        kind(condition="concat").build(DataSpec((1, 8, 8), condition=(1, 4, 4)))


@pytest.mark.parametrize("kind", BOTH)
def test_images_that_are_too_small_are_refused(kind):
    with pytest.raises(ValueError, match="at least 8×8"):
        kind().build(DataSpec((1, 7, 9)))


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("option", [{"width": 0}, {"blocks": 0}])
def test_option_below_1_raises_value_error(kind, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        kind(**option)


RECIPE = """
[dataset]
use = "digits"
size = 8
[generator]
use = "mlp"
hidden = [16]
[discriminator]
use = "{}"
width = 4
blocks = 1
[objective]
use = "wgan"
[train]
steps = 4
batch_size = 8
[log]
every = 1
samples_every = 4
checkpoint_every = 2
"""


@pytest.fixture
def recipe(load):
    return lambda discriminator, *overrides: load(RECIPE.format(discriminator), *overrides)


@pytest.mark.parametrize("name", ["sll", "cpl"])
def test_resumed_run_matches_the_uninterrupted_one(name, recipe, tmp_path):
    full = ganframe.run(recipe(name), out=tmp_path / "full")
    ganframe.run(recipe(name, "train.steps=2"), out=tmp_path / "resumed")
    resumed = ganframe.resume(tmp_path / "resumed", ["train.steps=4"])
    for expected, record in zip(full.log, resumed.log, strict=True):
        assert {**expected, "seconds": 0} == {**record, "seconds": 0}


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_compiled_run_trains_as_the_plain_one(recipe, tmp_path, monkeypatch, capsys):
    """Of `sll`, which also has the parametrisation of `orthogonal_layers` and the sums of `aol`."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    changes = ["dataset={use='ring'}", "generator.hidden=[4]"]
    plain = ganframe.run(recipe("sll", *changes), out=tmp_path / "plain")
    compiled = ganframe.run(recipe("sll", *changes, "train.compile=true"), out=tmp_path / "compiled")
    assert "compiled in" in capsys.readouterr().err
    for expected, record in zip(plain.log, compiled.log, strict=True):
        assert record["loss_discriminator"] == pytest.approx(expected["loss_discriminator"], rel=1e-3, abs=1e-4)
