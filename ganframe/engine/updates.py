"""The arithmetic of optimisers without decisions, so that it can be a part of a compiled iteration.

torch's own steps read the number of steps from the device, or take a learning rate only as a number, which would be a
constant of the graph. These are the formulas of torch.optim's documentation, on the state that its classes keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor, Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], None]
"""(weight, gradient, its state, options, moving): changes the weight and the state in place.

`moving` are the options that may change from step to step, as tensors (float64): lr, betas, momentum.
"""


def adam(p: Tensor, g: Tensor, state: Mapping[str, Any], options: Mapping[str, Any], moving: Mapping[str, Any]) -> None:
    """Adam (Kingma and Ba 2015), with AMSGrad (Reddi et al. 2018)."""
    lr, (first, second), decay = moving["lr"], moving["betas"], options["weight_decay"]
    if decay and options.get("decoupled_weight_decay", False):
        p.mul_(1 - lr * decay)
    elif decay:
        g = g.add(p, alpha=decay)
    state["step"].add_(1)
    step = state["step"].double()  # 1 - β₂ᵗ would lose five digits in float32
    m, v = state["exp_avg"], state["exp_avg_sq"]
    m.lerp_(g, (1 - first).to(m.dtype))
    v.mul_(second).add_((1 - second) * g * g)
    if options["amsgrad"]:
        v = state["max_exp_avg_sq"].copy_(torch.maximum(state["max_exp_avg_sq"], v))
    p.sub_(lr / (1 - first**step) * m / (v.sqrt() / (1 - second**step).sqrt() + options["eps"]))


def adamw(
    p: Tensor, g: Tensor, state: Mapping[str, Any], options: Mapping[str, Any], moving: Mapping[str, Any]
) -> None:
    """AdamW (Loshchilov and Hutter 2019)."""
    adam(p, g, state, {**options, "decoupled_weight_decay": True}, moving)


def rmsprop(
    p: Tensor, g: Tensor, state: Mapping[str, Any], options: Mapping[str, Any], moving: Mapping[str, Any]
) -> None:
    """RMSprop (Hinton 2012), with a centred second moment and momentum."""
    if options["weight_decay"]:
        g = g.add(p, alpha=options["weight_decay"])
    alpha = options["alpha"]
    state["step"].add_(1)
    v = state["square_avg"]
    v.mul_(alpha).addcmul_(g, g, value=1 - alpha)
    if options["centered"]:
        mean = state["grad_avg"].lerp_(g, 1 - alpha)
        v = v.addcmul(mean, mean, value=-1)
    step = g / (v.sqrt() + options["eps"])
    if options["momentum"] > 0:
        step = state["momentum_buffer"].mul_(moving["momentum"]).add_(step)
    p.sub_(moving["lr"] * step)


def sgd(p: Tensor, g: Tensor, state: Mapping[str, Any], options: Mapping[str, Any], moving: Mapping[str, Any]) -> None:
    """Gradient descent, with momentum, also Nesterov's."""
    if options["weight_decay"]:
        g = g.add(p, alpha=options["weight_decay"])
    if options["momentum"]:
        velocity = state["momentum_buffer"].mul_(moving["momentum"]).add_(g, alpha=1 - options["dampening"])
        g = g + moving["momentum"] * velocity if options["nesterov"] else velocity
    p.sub_(moving["lr"] * g)


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


MOVING = ("lr", "betas", "momentum")
"""The options that schedules and ramps move."""


def moving_options(optimizer: torch.optim.Optimizer) -> list[float]:
    """The values of those in MOVING, group by group, in the order in which `Descent` takes them."""
    return [float(v) for group in optimizer.param_groups for name in MOVING for v in _several(group.get(name, ()))]


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


class Descent:
    """Stands in for an optimiser of one of RULES while an iteration is recorded.

    `values` takes the place of `moving_options`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, values: Iterable[Tensor]) -> None:
        self.optimizer = optimizer
        taken = iter(values)
        self.moving: list[dict[str, Any]] = []
        for group in optimizer.param_groups:
            own = {name: [next(taken) for _ in _several(group[name])] for name in MOVING if name in group}
            self.moving.append({name: v if name == "betas" else v[0] for name, v in own.items()})

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self) -> None:
        """Descends the gradients of all weights that have one."""
        rule = rule_of(self.optimizer)
        assert rule is not None
        for group, moving in zip(self.optimizer.param_groups, self.moving, strict=True):
            for p in group["params"]:
                if p.grad is not None:
                    gradient = -p.grad if group["maximize"] else p.grad
                    rule(p, gradient, self.optimizer.state[p], group, moving)
