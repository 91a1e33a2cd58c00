"""The arithmetic of optimisers without decisions, so that it can be a part of a compiled iteration.

torch's own steps read the number of steps from the device, or take a learning rate only as a number, which would be a
constant of the graph. These are the formulas of torch.optim's documentation, on the state that its classes keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor, Mapping[str, Any], Mapping[str, Any], Tensor], None]
"""(weight, gradient, its state, the group's options, learning rate): changes the weight and the state in place."""


def adam(p: Tensor, g: Tensor, state: Mapping[str, Any], options: Mapping[str, Any], lr: Tensor) -> None:
    """Adam (Kingma and Ba 2015), with AMSGrad (Reddi et al. 2018)."""
    first, second = options["betas"]
    decay = options["weight_decay"]
    if decay and options.get("decoupled_weight_decay", False):
        p.mul_((1 - lr * decay).to(p.dtype))
    elif decay:
        g = g.add(p, alpha=decay)
    state["step"].add_(1)
    step = state["step"].double()  # 1 - β₂ᵗ would lose five digits in float32
    m, v = state["exp_avg"], state["exp_avg_sq"]
    m.lerp_(g, 1 - first)
    v.mul_(second).addcmul_(g, g, value=1 - second)
    if options["amsgrad"]:
        v = state["max_exp_avg_sq"].copy_(torch.maximum(state["max_exp_avg_sq"], v))
    size = (lr / (1 - first**step)).to(p.dtype)
    scale = (1 - second**step).sqrt().to(p.dtype)
    p.sub_(size * m / (v.sqrt() / scale + options["eps"]))


def adamw(p: Tensor, g: Tensor, state: Mapping[str, Any], options: Mapping[str, Any], lr: Tensor) -> None:
    """AdamW (Loshchilov and Hutter 2019)."""
    adam(p, g, state, {**options, "decoupled_weight_decay": True}, lr)


def rmsprop(p: Tensor, g: Tensor, state: Mapping[str, Any], options: Mapping[str, Any], lr: Tensor) -> None:
    """RMSprop (Hinton 2012), with a centred second moment and momentum."""
    if options["weight_decay"]:
        g = g.add(p, alpha=options["weight_decay"])
    alpha, momentum = options["alpha"], options["momentum"]
    state["step"].add_(1)
    v = state["square_avg"]
    v.mul_(alpha).addcmul_(g, g, value=1 - alpha)
    if options["centered"]:
        mean = state["grad_avg"].lerp_(g, 1 - alpha)
        v = v.addcmul(mean, mean, value=-1)
    step = g / (v.sqrt() + options["eps"])
    if momentum > 0:
        step = state["momentum_buffer"].mul_(momentum).add_(step)
    p.sub_(lr.to(p.dtype) * step)


def sgd(p: Tensor, g: Tensor, state: Mapping[str, Any], options: Mapping[str, Any], lr: Tensor) -> None:
    """Gradient descent, with momentum, also Nesterov's."""
    if options["weight_decay"]:
        g = g.add(p, alpha=options["weight_decay"])
    momentum = options["momentum"]
    if momentum:
        moving = state["momentum_buffer"].mul_(momentum).add_(g, alpha=1 - options["dampening"])
        g = g.add(moving, alpha=momentum) if options["nesterov"] else moving
    p.sub_(lr.to(p.dtype) * g)


RULES: Mapping[type[torch.optim.Optimizer], Rule] = {
    torch.optim.Adam: adam,
    torch.optim.AdamW: adamw,
    torch.optim.RMSprop: rmsprop,
    torch.optim.SGD: sgd,
}


def rule_of(optimizer: torch.optim.Optimizer) -> Rule | None:
    """The rule of an optimiser's class, or of the class of torch.optim that it is but for torch's decorators."""
    cls = type(optimizer)
    known = [RULES[base] for base in cls.__mro__[:2] if base in RULES and cls.__module__.startswith("torch.optim")]
    return known[0] if known else None


class Descent:
    """Stands in for an optimiser of one of RULES while an iteration is recorded. `rates` are those of its groups."""

    def __init__(self, optimizer: torch.optim.Optimizer, rates: list[Tensor]) -> None:
        self.optimizer, self.rates = optimizer, rates

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self) -> None:
        """Descends the gradients of all weights that have one."""
        rule = rule_of(self.optimizer)
        assert rule is not None
        for group, lr in zip(self.optimizer.param_groups, self.rates, strict=True):
            for p in group["params"]:
                if p.grad is not None:
                    gradient = -p.grad if group["maximize"] else p.grad
                    rule(p, gradient, self.optimizer.state[p], group, lr)
