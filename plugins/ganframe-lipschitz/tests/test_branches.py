"""The discriminator `sorted_branches`: its form, its constant, conditions, what it can learn, resumed and compiled."""

import shutil

import pytest
import torch
from ganframe_lipschitz import SortedBranches

import ganframe
from ganframe import DataSpec
from ganframe.testing import check_discriminator


def critic(spec, noise=0.3, **options):
    """A network in float64 whose weights have moved."""
    D = SortedBranches(**{"branches": 5, "hidden": (6, 4), **options}).build(spec).double()
    with torch.no_grad():
        for parameter in D.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return D


@pytest.mark.parametrize("spec", [DataSpec((3,)), DataSpec((1, 8, 8), classes=3), DataSpec((2,), condition=(4,))])
def test_conformance(spec):
    condition = "none" if spec.classes is None and spec.condition is None else "concat"
    check_discriminator(SortedBranches(branches=4, hidden=(8,), condition=condition), spec)


def test_score_is_the_weighted_sum_of_sorted_scores_of_orthogonal_networks():
    D, x = critic(DataSpec((3,)), hidden=(4, 2)), torch.randn(7, 3, dtype=torch.float64)
    net, scores = D.sorted, []
    for k in range(5):
        h = x
        for V, bias in zip(net.weights, net.biases, strict=False):
            Q, R = torch.linalg.qr(V[k] if V.shape[1] >= V.shape[2] else V[k].T)
            Q = Q * R.diagonal().sign()
            h = (h @ (Q.T if V.shape[1] >= V.shape[2] else Q) + bias[k]).sort(1).values
        scores.append(h @ (net.last[k] / net.last[k].norm()) + net.biases[-1][k].squeeze())
    v = net.v / max(1, net.v.abs().sum())
    torch.testing.assert_close(D(x, None), torch.stack(scores, 1).sort(1).values @ v)
    extras = {}
    torch.testing.assert_close(D(x, None, extras), D(x, None))
    torch.testing.assert_close(extras["features"], torch.stack(scores, 1))


@pytest.mark.parametrize("spec", [DataSpec((1,)), DataSpec((2,)), DataSpec((5, 7)), DataSpec((3, 8, 8))], ids=str)
@pytest.mark.parametrize("hidden", [(6,), (16, 3, 8)])
def test_no_slope_is_above_1(spec, hidden, random_slope, adversarial_slope):
    D = critic(spec, hidden=hidden)
    with torch.no_grad():
        D.sorted.v.zero_()[-1] = 3  # a sum above 1 is divided by itself, and all of it lies on one branch
        D.sorted.last.mul_(3)
    slopes = random_slope(lambda x: D(x, None), spec.shape, 10_000, 2000)
    steepest = max(slopes, adversarial_slope(lambda x: D(x, None), spec.shape, 4, 10))
    assert 0 < steepest <= 1 + 1e-9


def test_bound_of_the_analysis_is_1():
    from ganframe.analysis.bounds import certified_bound

    bound = certified_bound(critic(DataSpec((1, 8, 8))).eval(), torch.zeros(1, 1, 8, 8), torch.zeros(1).long())
    assert 1 <= bound.value <= 1 + 1e-6
    assert "declared" in bound.layers[-1].how
    D = critic(DataSpec((2,)))
    with torch.no_grad():
        D.sorted.v[0] = torch.nan
    assert D.sorted.lipschitz_constant() == torch.inf


def test_weights_of_many_branches_may_lean_on_one():
    """All of v on the largest score: the maximum of the branches, with its full slope."""
    D = critic(DataSpec((2,)), noise=0, branches=3, hidden=(2,))
    with torch.no_grad():
        D.sorted.v.copy_(torch.tensor([0.0, 0.0, 1.0]))
    x, extras = torch.randn(50, 2, dtype=torch.float64, requires_grad=True), {}
    scores = D(x, None, extras)
    torch.testing.assert_close(scores, extras["features"].amax(1))
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    torch.testing.assert_close(gradient.norm(dim=1), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize(
    ("spec", "y"),
    [
        (DataSpec((2,), classes=3), torch.tensor([0, 1, 2, 2])),
        (DataSpec((1, 9, 13), classes=3), torch.tensor([0, 1, 2, 2])),
        (DataSpec((2,), condition=(4,)), torch.rand(4, 4)),
        (DataSpec((1, 8, 8), condition=(2, 8, 8)), torch.rand(4, 2, 8, 8)),
    ],
    ids=str,
)
def test_concatenated_condition_moves_the_score_and_no_slope(spec, y):
    D, x = critic(spec, condition="concat"), torch.randn(4, *spec.shape, dtype=torch.float64)
    y = y.double() if y.is_floating_point() else y
    assert (D(x, y) - D(x, y.roll(1, 0))).abs().max() > 1e-6
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(D(x, y).sum(), x)
    assert gradient.flatten(1).norm(dim=1).max() <= 1 + 1e-9
    with pytest.raises(ValueError, match="needs labels or conditions"):
        SortedBranches(condition="concat").build(DataSpec((2,)))


@pytest.mark.parametrize("option", [{"branches": 0}, {"hidden": ()}, {"hidden": (0,)}])
def test_option_below_1_raises_value_error(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        SortedBranches(**option)


def test_peaks_that_one_orthogonal_network_cannot_have_are_learnt(tmp_path, capsys):
    """W1 of points that gather at four places, in 2 dimensions: the share of it that the critic finds."""
    from ganframe.analysis import divergence
    from ganframe.recipes.reading import load_comparison

    text = """
    [dataset]
    use = "funnels_moved"
    [against]
    use = "funnels"
    [discriminator]
    use = "sorted_branches"
    branches = 12
    hidden = [8]
    [objective]
    use = "wgan"
    [optimizer.discriminator]
    use = "Adam"
    lr = 3e-2
    schedule = { use = "CosineAnnealingLR", T_max = 300 }
    [train]
    steps = 300
    batch_size = 256
    """
    file = tmp_path / "pair.toml"
    file.write_text(text)
    measured = divergence.measure(load_comparison(file), tmp_path / "measured")
    assert measured.lipschitz <= 1 + 1e-6
    assert "without end" not in capsys.readouterr().err  # nothing but the critic itself limits it
    assert measured.agreement.cosine > 0.8


RECIPE = """
[dataset]
use = "digits"
size = 8
[generator]
use = "mlp"
hidden = [16]
[discriminator]
use = "sorted_branches"
branches = 3
hidden = [8, 4]
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


def test_resumed_run_matches_the_uninterrupted_one(load, tmp_path):
    full = ganframe.run(load(RECIPE), out=tmp_path / "full")
    ganframe.run(load(RECIPE, "train.steps=2"), out=tmp_path / "resumed")
    resumed = ganframe.resume(tmp_path / "resumed", ["train.steps=4"])
    for expected, record in zip(full.log, resumed.log, strict=True):
        assert {**expected, "seconds": 0} == {**record, "seconds": 0}


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_compiled_run_trains_as_the_plain_one(load, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    plain = ganframe.run(load(RECIPE), out=tmp_path / "plain")
    compiled = ganframe.run(load(RECIPE, "train.compile=true"), out=tmp_path / "compiled")
    assert "compiled in" in capsys.readouterr().err
    for expected, record in zip(plain.log, compiled.log, strict=True):
        assert record["loss_discriminator"] == pytest.approx(expected["loss_discriminator"], rel=1e-3, abs=1e-4)
