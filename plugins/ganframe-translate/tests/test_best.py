"""The term `best_of`: its value by hand, which answer has the gradient, and the shares of two right answers."""

import pytest
import torch
from ganframe_translate import BestOf
from torch import nn

from ganframe import DataSpec, Parts, Scored, Turn
from ganframe.testing import check_term


class Answers(nn.Module):
    """G(z, y) = +1 where z < edge, else -1, softly; it does not look at y."""

    def __init__(self, edge=0.0):
        super().__init__()
        self.edge = nn.Parameter(torch.tensor(edge))

    def forward(self, z, y):
        return torch.tanh(4 * (self.edge - z))


def turn(G, z, x):
    y = torch.zeros(len(z), 1)
    return Turn(G, nn.Identity(), Scored(x, y, None), Scored(G(z, y), y, None, z), None, 0, Parts())


def test_conformance():
    check_term(BestOf())
    check_term(BestOf(samples=3))


@pytest.mark.parametrize(("samples", "expected"), [(1, [3.0, 1.0, 2.0, 4.0]), (2, [2.0, 1.0, 2.0, 1.0])])
def test_best_answer_counts(samples, expected):
    """G(z) = z: with x = 0 the distances are |z|, and the second answer is that of the sample two further on."""
    z = torch.tensor([[3.0], [1.0], [2.0], [-4.0]])
    G = nn.Linear(1, 1, bias=False)
    nn.init.ones_(G.weight)
    both = Turn(lambda z, y: G(z), None, Scored(torch.zeros(4, 1), z, None), Scored(G(z), z, None, z), None, 0, Parts())
    value = BestOf(weight=2.0, samples=samples).generator_term(both)
    assert value.item() == pytest.approx(2 * sum(expected) / 4)


def test_only_the_best_answer_has_a_gradient():
    z = torch.tensor([[3.0], [1.0]])
    fake = z.clone().requires_grad_()
    far = torch.tensor([[9.0], [0.0]], requires_grad=True)
    real = Scored(torch.zeros(2, 1), z, None)
    both = Turn(lambda z, y: far, None, real, Scored(fake, z, None, z), None, 0, Parts())
    gradients = torch.autograd.grad(BestOf(weight=1.0).generator_term(both), (fake, far))
    assert [gradient.flatten().tolist() for gradient in gradients] == [[0.5, 0.0], [0.0, 0.0]]


def test_two_right_answers_come_to_even_shares():
    """x is 1 or -1 with even odds: L1 is indifferent to the shares, the best of two is smallest at one half."""
    torch.manual_seed(0)
    G = Answers(edge=1.5)
    descent = torch.optim.SGD(G.parameters(), lr=0.3)
    for _ in range(300):
        x = torch.randint(2, (256, 1)) * 2.0 - 1
        descent.zero_grad()
        BestOf(weight=1.0).generator_term(turn(G, torch.randn(256, 1), x)).backward()
        descent.step()
    assert G.edge.item() == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize(("samples", "share"), [(2, 0.3), (4, 0.43)])
def test_share_of_the_rarer_of_two_answers(samples, share):
    """x is 1 in 30 % of cases. Two samples keep that share; with four it is p/(1 - p) = (3/7)^(1/3)."""
    torch.manual_seed(0)
    n = 40_000
    z, x = torch.rand(n, 1), (torch.rand(n, 1) < 0.3).float()

    def loss(p):
        def G(z, y):
            return (z < p).float()

        return BestOf(weight=1.0, samples=samples).generator_term(turn(G, z, x)).item()

    assert loss(share) < min(loss(share - 0.13), loss(share + 0.13))


def test_processes_that_share_a_batch_compare_the_same_latents():
    """A process has the rows rank, rank + processes, …"""
    z, x = torch.randn(2, 16, 1)
    term = BestOf(samples=4)
    parts = [term.generator_term(turn(Answers(), z[rank::2], x[rank::2])) for rank in (0, 1)]
    torch.testing.assert_close(sum(parts) / 2, term.generator_term(turn(Answers(), z, x)))


def test_generator_without_z_is_refused():
    data = DataSpec((1, 8, 8), condition=(1, 8, 8))
    G = nn.Identity()
    BestOf().prepare(G, nn.Identity(), data)
    G.ignores_latent = True
    BestOf(samples=1).prepare(G, nn.Identity(), data)
    with pytest.raises(ValueError, match="makes one, whatever z is"):
        BestOf().prepare(G, nn.Identity(), data)


def test_data_without_conditions_is_refused():
    with pytest.raises(ValueError, match="no conditions; choose a dataset of pairs"):
        BestOf().prepare(nn.Identity(), nn.Identity(), DataSpec((1, 8, 8)))
