"""Divergence and Lipschitz diagnostics of data with conditions, of many scores, and with held-out samples."""

import attrs
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import ganframe
from ganframe import Dataset, DataSpec
from ganframe.analysis.bounds import certified_bound
from ganframe.analysis.divergence import _scores, measure
from ganframe.analysis.lipschitz import examine
from ganframe.analysis.sides import Generated, Side
from ganframe.analysis.trained import TrainedGenerator
from ganframe.recipes.reading import load_comparison
from ganframe.recipes.tables import Prior

KINDS = ("images", "vectors")


@attrs.frozen
class HoldsOut(Dataset):
    """Zeros to train with, ones to judge."""

    spec = DataSpec((1,))

    def build(self):
        return TensorDataset(torch.zeros(20, 1), torch.zeros(20, dtype=torch.long))

    def held_out(self):
        return TensorDataset(torch.ones(7, 1), torch.zeros(7, dtype=torch.long))


def test_a_side_is_judged_on_what_its_dataset_holds_out_and_trained_on_all_else():
    side = Side(HoldsOut(), 0)
    assert side.part(held_out=True).tensors[0].tolist() == [[1.0]] * 7
    assert side.part(held_out=False).tensors[0].tolist() == [[0.0]] * 20


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sides_have_blank_y_in_the_place_of_conditions(conditional, kind, held_out):
    dataset = ganframe.load_recipe(conditional(kind)).dataset
    x, y = Side(dataset, 0).part(held_out)[3]
    assert x.shape == dataset.spec.shape
    assert torch.as_tensor(y).shape == ()
    assert not torch.as_tensor(y).any()


MEANT = "train.one_sided_labels=true"  # of generators beside discriminators that heed no conditions


class Echo(nn.Module):
    def forward(self, z, y):
        return y


def test_generator_side_draws_its_conditions_uniformly():
    kept = torch.tensor([[1.0], [2.0], [3.0]])
    G = TrainedGenerator(Echo(), DataSpec((1,), condition=(1,)), Prior(2), conditions=kept)
    x, _ = Generated(G).draw(3000, torch.Generator().manual_seed(0))
    values, counts = x[:, 0].unique(return_counts=True)
    assert values.tolist() == [1, 2, 3]
    assert (counts / 3000 - 1 / 3).abs().max() < 0.05


def comparison(recipe, *overrides, run=None):
    short = ["train.steps=2", "log.samples_every=1", "discriminator.condition='none'", *overrides]
    return load_comparison(recipe, short, run)


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_from_the_generator_of_a_run_with_conditions(conditional, tmp_path, kind):
    recipe = conditional(kind)
    run = ganframe.run(ganframe.load_recipe(recipe), tmp_path / "run").folder
    assert measure(comparison(recipe, run=str(run)), tmp_path / "out").value < 0
    (run / "conditions.safetensors").unlink()
    with pytest.raises(ganframe.RecipeError, match="against: the run keeps no conditions to sample under"):
        measure(comparison(recipe, run=str(run)), tmp_path / "never")
    assert not (tmp_path / "never").exists()


class TwoScores(nn.Module):
    many_scores = True

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x, y):
        return self.linear(x)


def test_a_divergence_is_judged_by_all_scores_of_a_sample():
    """As the objective receives them in training."""
    D, x = TwoScores(), torch.randn(5, 3)
    torch.testing.assert_close(_scores(D, x), D.linear(x).double())


@pytest.mark.parametrize("option", ["none", "concat", "projection"])
def test_discriminator_with_vectors_is_examined(conditional, tmp_path, option):
    run = ganframe.run(
        ganframe.load_recipe(conditional("vectors"), [f"discriminator.condition={option}", MEANT]), tmp_path / "run"
    ).folder
    found = examine(run, 40)
    assert found.no_bound is None
    assert 0 < max(norm.max().item() for norm in found.gradient_norms.values()) <= 1.0001 * found.upper_bound
    assert 0 < found.largest_slope <= 1.0001 * found.upper_bound


def test_many_scores_are_examined_by_their_mean(conditional, tmp_path):
    recipe = conditional("images")
    text = recipe.read_text()
    start, end = text.index("[discriminator]"), text.index("[objective]")
    recipe.write_text(text[:start] + '[discriminator]\nuse = "two_scores"\n' + text[end:])
    found = examine(ganframe.run(ganframe.load_recipe(recipe, [MEANT]), tmp_path / "run").folder, 20)
    assert found.no_bound is None
    assert 0 < found.largest_slope <= 1.0001 * found.upper_bound
    assert len(found.gradient_norms["real"]) == 20


def test_gradient_and_bound_of_many_scores_are_those_of_the_mean():
    from ganframe.analysis.lipschitz import _gradient_norms, _MeanScore

    D = _MeanScore(TwoScores()).eval()
    slope = D.D.linear.weight.mean(0).norm().item()
    norms = _gradient_norms(D, torch.randn(4, 3), torch.zeros(4, dtype=torch.long))
    assert norms.tolist() == pytest.approx([slope] * 4)
    bound = certified_bound(D, torch.randn(1, 3), torch.zeros(1, dtype=torch.long)).value
    assert bound == pytest.approx(torch.linalg.matrix_norm(D.D.linear.weight, 2).item() / 2**0.5, rel=1e-4)
    assert bound >= slope


def test_discriminator_that_mixes_groups_has_no_slopes_of_samples(conditional, tmp_path, monkeypatch):
    run = ganframe.run(ganframe.load_recipe(conditional("vectors")), tmp_path / "run").folder
    from ganframe.builtin import mlp

    monkeypatch.setattr(mlp._MLPDiscriminator, "mixes_groups_of", 2, raising=False)
    with pytest.raises(ganframe.RequestError, match="mixes groups of 2 samples"):
        examine(run, 20)
