"""Feature matching and the objective without a loss for G: values and gradients by hand."""

import pytest
import torch
from ganframe_terms import FeatureMatching, TermsOnly
from torch import nn

import ganframe
from ganframe import DataSpec, Parts, Scored, Turn
from ganframe.testing import check_objective

VANILLA = ganframe.component("objective", "vanilla")()


def test_feature_matching_compares_batch_means():
    real = torch.tensor([[1.0, 0.0], [3.0, 2.0]], requires_grad=True)
    fake = torch.tensor([[0.0, 0.0], [0.0, 4.0], [0.0, 5.0]], requires_grad=True)
    sides = [Scored(f, None, None, None, {"features": f}) for f in (real, fake)]
    value = FeatureMatching(weight=2.0).generator_term(Turn(None, None, *sides, None, 0, Parts()))
    assert value.item() == pytest.approx(2 * (2**2 + 2**2))  # means (2, 1) and (0, 3)
    gradient = torch.autograd.grad(value, fake, retain_graph=True)[0]
    torch.testing.assert_close(gradient, torch.tensor([-8 / 3, 8 / 3]).expand(3, 2))
    assert torch.autograd.grad(value, real, allow_unused=True)[0] is None


class Other(nn.Module):
    """A discriminator with extras of other names."""

    gives_extras = True

    def forward(self, x, y, extras=None):
        if extras is not None:
            extras["pyramid"] = x
        return x.sum(1)


def test_discriminator_without_features_raises_value_error():
    with pytest.raises(ValueError, match="extra 'features', and this one returns pyramid"):
        FeatureMatching().prepare(None, Other(), DataSpec((2,)))


def test_terms_only_has_discriminator_loss_of_another_objective():
    real, fake = torch.randn(6), torch.randn(6, requires_grad=True)
    objective = TermsOnly(of=VANILLA)
    assert torch.equal(objective.discriminator_loss(real, fake), VANILLA.discriminator_loss(real, fake))
    assert torch.equal(objective.optimal_score(real), VANILLA.optimal_score(real))
    loss = objective.generator_loss(fake)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, fake)[0].any()


def test_terms_only_conformance():
    check_objective(TermsOnly(of=VANILLA))
