"""Optimistic optimisers (Daskalakis, Ilyas, Syrgkanis, Zeng 2018, arXiv:1711.00141) as a plugin of ganframe.

Two players that descend their gradients in a zero-sum game circle around the equilibrium. An optimistic player takes
twice its present step and takes back the previous one: w ← w - 2η d_t + η d_{t-1}. The step so predicts the next
gradient, and the circles become a spiral towards the equilibrium.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ganframe import hookimpl


class _Optimistic(Optimizer):
    """w ← w - 2η d_t + η d_{t-1} for a direction d that a subclass computes. d_0 = 0.

    The state of each weight holds its last direction, so that a resumed run takes the same steps.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight.grad.is_sparse:
                    raise RuntimeError(f"{type(self).__name__} does not take sparse gradients")
                state = self.state[weight]
                direction = self._direction(weight, state, group)
                weight.add_(direction, alpha=-2 * group["lr"])
                if "direction" in state:
                    weight.add_(state["direction"], alpha=group["lr"])
                state["direction"] = direction
        return loss

    def _direction(self, weight: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        """The direction d_t of a weight, a new tensor. May keep its own memory in `state`."""
        raise NotImplementedError


class OptimisticSGD(_Optimistic):
    """Optimistic gradient descent (Daskalakis et al. 2018, eq. 6 and 7): w ← w - 2η g_t + η g_{t-1}."""

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-2) -> None:
        _check(lr=lr)
        super().__init__(params, {"lr": lr})

    def _direction(self, weight: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        assert weight.grad is not None
        return weight.grad.clone()


class OptimisticAdam(_Optimistic):
    """Optimistic Adam (Daskalakis et al. 2018, algorithm 1): d_t = m̂_t / (√v̂_t + ε), with Adam's moments m̂ and v̂."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        _check(lr=lr, eps=eps)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be at least 0 and below 1, not {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def _direction(self, weight: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        assert weight.grad is not None
        if "step" not in state:
            state["step"] = torch.zeros(())  # a tensor on the CPU, as in torch's Adam
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        t = state["step"].item()
        mean = state["exp_avg"].lerp_(weight.grad, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(weight.grad, weight.grad, value=1 - beta2)
        root = (square / (1 - beta2**t)).sqrt_().add_(group["eps"])
        return (mean / (1 - beta1**t)).div_(root)


def _check(**options: float) -> None:
    """Raises ValueError for a negative option."""
    for name, value in options.items():
        if not value >= 0:
            raise ValueError(f"{name} must be at least 0, not {value}")


@hookimpl
def ganframe_optimizers() -> Mapping[str, type[Optimizer]]:
    return {"OptimisticAdam": OptimisticAdam, "OptimisticSGD": OptimisticSGD}
