"""Optimisers without torch's compiler train as torch's own do, to the byte."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ganframe.recipes.eager_optimizers import eager
from ganframe.recipes.optimizers import _classes

CLASSES = _classes(torch.optim, torch.optim.Optimizer)
DENSE_MATRICES = {name: cls for name, cls in CLASSES.items() if name != "SparseAdam"}


def trained(cls: type[torch.optim.Optimizer], **options) -> torch.Tensor:
    """A weight after five steps with a schedule, halfway through which the state is saved and loaded."""
    weight = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
    optimizer = cls([weight], **options)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 5)
    for step in range(5):
        optimizer.zero_grad()
        (weight - 2).square().mean().backward()
        optimizer.step()
        schedule.step()
        if step == 2:
            optimizer.load_state_dict(optimizer.state_dict())
    assert weight.requires_grad
    return weight.detach()


@pytest.mark.parametrize("name", DENSE_MATRICES)
def test_weights_are_those_of_torchs_own_class(name):
    ours, theirs = trained(eager(CLASSES[name])), trained(CLASSES[name])
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, torch.linspace(-1, 1, 12).view(3, 4))


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"amsgrad": True}, {"differentiable": True}])
def test_options_of_adam_do_what_they_do_in_torch(options):
    if "differentiable" in options:  # the step is recorded, so the weight must be no leaf
        weight = torch.ones(3, requires_grad=True)
        moved = weight.clone()
        moved.retain_grad()
        optimizer = eager(torch.optim.Adam)([moved], lr=0.1, **options)
        moved.grad = torch.ones(3)
        optimizer.step()
        assert moved.grad_fn is not None
        return
    assert torch.equal(trained(eager(torch.optim.Adam), **options), trained(torch.optim.Adam, **options))


def test_step_records_no_gradients_and_keeps_the_mode_of_the_caller():
    weight = nn.Parameter(torch.ones(2))
    optimizer = eager(torch.optim.SGD)([weight], lr=0.1)
    weight.grad = torch.ones(2)
    optimizer.step()
    assert torch.is_grad_enabled()
    assert weight.is_leaf
    assert optimizer.step(lambda: weight.square().sum()).requires_grad  # closures record gradients, as torch says


def test_class_is_torchs_by_name_and_isinstance_and_is_made_once():
    cls = eager(torch.optim.Adam)
    assert cls is eager(torch.optim.Adam)
    assert issubclass(cls, torch.optim.Adam)
    assert (cls.__name__, cls.__module__) == ("Adam", torch.optim.Adam.__module__)


def test_hooks_of_steps_are_called_once_a_step():
    weight = nn.Parameter(torch.ones(2))
    optimizer, called = eager(torch.optim.Adam)([weight]), []
    optimizer.register_step_post_hook(lambda *_: called.append("own"))
    handle = register_optimizer_step_pre_hook(lambda *_: called.append("of all"))
    try:
        optimizer.step()
    finally:
        handle.remove()
    assert called == ["of all", "own"]


def test_class_of_a_plugin_is_left_as_it_is():
    class Own(torch.optim.Adam):
        pass

    assert eager(Own) is Own
