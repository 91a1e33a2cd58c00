"""The arithmetic of optimisers in compiled iterations: that of torch.optim."""

import pytest
import torch

from ganframe.engine.updates import Descent, moving_options, rule_of
from ganframe.recipes.optimizers import structure_optimizer

OPTIONS = [
    ("Adam", {"betas": (0.0, 0.9)}),
    ("Adam", {"betas": (0.5, 0.999), "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"amsgrad": True, "eps": 1e-3}),
    ("AdamW", {"weight_decay": 0.2}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.7, "centered": True, "weight_decay": 0.1, "alpha": 0.9}),
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "maximize": True}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_descent_is_the_step_of_the_optimiser(name, options):
    """After a first step that creates its state. Rate, betas and momentum move, and one weight has no gradient."""
    generator = torch.Generator().manual_seed(0)
    first = [torch.randn(3, 2, dtype=torch.float64, generator=generator) for _ in range(3)]
    sides = []
    for _ in range(2):
        weights = [w.clone().requires_grad_() for w in first]
        sides.append((weights, getattr(torch.optim, name)(weights, lr=0.1, **options)))
    gradients = [[torch.randn(3, 2, dtype=torch.float64, generator=generator) for _ in first[:2]] for _ in range(21)]
    for step, given in enumerate(gradients):
        rate = 0.1 * (1 - step / 20)
        for weights, optimizer in sides:
            for w, g in zip(weights, given, strict=False):
                w.grad = g.clone()
            group = optimizer.param_groups[0]
            group["lr"] = rate
            if "betas" in group:
                group["betas"] = (group["betas"][0], 0.9 + step / 300)
            elif group.get("momentum"):
                group["momentum"] = 0.9 - step / 100
        (_, plain), (_, ours) = sides
        plain.step()
        if step == 0:
            ours.step()
        else:
            Descent(ours, torch.tensor(moving_options(ours), dtype=torch.float64)).step()
    for a, b in zip(sides[0][0], sides[1][0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert not torch.equal(sides[1][0][0], first[0])
    assert torch.equal(sides[1][0][2], first[2])


def test_rate_of_0_changes_no_weight_without_a_gradient_so_far():
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    for rate in (0.1, 0.0):
        weight.grad = torch.zeros(2)
        optimizer.step()
        optimizer.param_groups[0]["lr"] = rate
        Descent(optimizer, torch.tensor(moving_options(optimizer), dtype=torch.float64)).step()
    assert torch.equal(weight.detach(), torch.ones(2))


def test_rule_is_that_of_torchs_class_alone():
    """Also as a recipe makes it; a class that only derives from Adam may do anything else."""

    class Other(torch.optim.Adam):
        def step(self, closure=None):
            pass

    weight = torch.ones(2, requires_grad=True)
    assert rule_of(structure_optimizer({"use": "RMSprop"}).build([weight])) is rule_of(torch.optim.RMSprop([weight]))
    assert rule_of(torch.optim.AdamW([weight])) is not rule_of(torch.optim.Adam([weight])) is not None
    assert rule_of(Other([weight])) is None
    assert rule_of(torch.optim.Adagrad([weight])) is None
