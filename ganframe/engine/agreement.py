"""Whether two iterations from the same start are the same but for rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganframe.engine.recording import NotCompilable, tensors_of
from ganframe.engine.state import State

WEIGHTS, OTHERS = "the changes of weights", "the changes of averages, statistics and moments"

NOISE = 1e-5
"""Share of the largest gradient below which one may be rounding, which Adam turns into a whole step."""


class Snapshot:
    """A copy of what an iteration changes."""

    def __init__(self, state: State, others: Sequence[nn.Module]) -> None:
        self.tensors = tensors_of(state, others)
        self.values = [tensor.detach().clone() for tensor in self.tensors]
        self.gradients = [(p, p.grad) for player in (state.G, state.D) for p in player.parameters]
        self.random = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(state.device) if state.device.type == "cuda" else None
        self.updates = state.G.updates, state.D.updates
        self.latest, self.labels = state.latest, state.labels

    def restore(self, state: State) -> None:
        for tensor, value in zip(self.tensors, self.values, strict=True):
            tensor.detach().copy_(value)
        for p, gradient in self.gradients:
            p.grad = gradient
        torch.set_rng_state(self.random)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, state.device)
        state.G.updates, state.D.updates = self.updates
        state.latest, state.labels = self.latest, self.labels


def shares_of(before: Snapshot, plain: Snapshot, other: Snapshot) -> dict[str, float]:
    """How far another iteration from the same start is from the plain one, as shares: of its logs, gradients, changes.

    Raises NotCompilable where it has other logs, gradients of other weights, or other counts.
    """
    if plain.latest.keys() != other.latest.keys():
        raise NotCompilable("the compiled step reports other values")
    for new, counts in zip(plain.values, other.values, strict=True):
        if not new.is_floating_point() and not torch.equal(new, counts):
            raise NotCompilable("the compiled step leaves other counts")
    both = [(p, g, h) for (p, g), (_, h) in zip(plain.gradients, other.gradients, strict=True)]
    if any((g is None) != (h is None) for _, g, h in both):
        raise NotCompilable("the compiled step gives other weights a gradient")
    pairs = [(p, g, h) for p, g, h in both if g is not None and h is not None]
    largest = max((g.abs().max().item() for _, g, _ in pairs), default=0.0)
    scale = max((value.detach().abs().max().item() for value in plain.latest.values()), default=0.0)
    if not math.isfinite(scale + largest):  # a training that has failed
        return {}
    found = {n: (other.latest[n] - v).abs().max().item() / max(scale, 1e-6) for n, v in plain.latest.items()}
    places = {id(tensor): i for i, tensor in enumerate(before.tensors)}
    rest = set(range(len(before.values)))
    gradients, weights, others = _Apart(), _Apart(), _Apart()
    for p, g, h in pairs:
        i = places[id(p)]
        rest.discard(i)
        real = g.abs() > NOISE * largest
        gradients.add(g, h)
        weights.add((plain.values[i] - before.values[i])[real], (other.values[i] - before.values[i])[real])
    for i in rest:  # averages, statistics, moments of optimisers
        if plain.values[i].is_floating_point():
            others.add(plain.values[i] - before.values[i], other.values[i] - before.values[i])
    return found | {"gradients": gradients.share(), WEIGHTS: weights.share(), OTHERS: others.share()}


class _Apart:
    """How far tensors are from others, as a share of their size."""

    def __init__(self) -> None:
        self.apart = self.size = 0.0

    def add(self, a: Tensor, b: Tensor) -> None:
        self.apart += (a - b).double().square().sum().item()
        self.size += a.double().square().sum().item()

    def share(self) -> float:
        return (self.apart / max(self.size, 1e-12)) ** 0.5


def shaken(state: State, epsilon: float, seed: int) -> None:
    """Changes each weight by a relative error of this size, as rounding does."""
    generator = torch.Generator(state.device).manual_seed(seed)
    for player in (state.G, state.D):
        for p in player.parameters:
            noise = torch.randn(p.shape, generator=generator, device=p.device, dtype=p.dtype)
            p.data.mul_(1 + epsilon * noise)
