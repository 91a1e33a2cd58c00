"""What a network declares about itself by attributes of its modules, and the gradient of its scores that follows.

`mixes_samples = True`: the output for one sample depends on the whole batch. `mixes_groups_of = m`: only on the m
consecutive samples of its group. `many_scores = True`: a discriminator returns (N, …) scores, not (N,).
`gives_extras = True`: a discriminator takes a third argument, `extras`, a dict that it fills with tensors (N, …).
`ignores_latent = True`: a generator makes one sample of each condition, whatever z is.
`truncates_latent = True`: a generator makes better samples of latents z from a truncated normal distribution.
`grows_at = (1000, 1500, …)`: a network that follows its buffer `training_step` has a stage begin, or end being faded
in, at these generator steps. Two players that both declare it must agree.
`lipschitz_constant()`, a method: a number that ‖f(x) - f(x')‖ / ‖x - x'‖ does not exceed, f being the module.

Declarations are looked for in all modules of a network, so they hold inside a wrapper too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def mixes_samples(network: nn.Module) -> bool:
    """Whether the output for one sample depends on other samples of the batch, as with BatchNorm.

    Batch normalisation is recognised. Any other module that mixes samples (a minibatch statistic) must have the
    attribute `mixes_samples = True`, or the network that contains it must. A network that mixes samples only within
    declared groups does not count: see `group_size`.
    """
    return bool(_mixing_modules(network))


def refuse_mixed_samples(D: nn.Module) -> None:
    """Raises ValueError if D mixes samples; for the `check` of constraints that differentiate D by samples."""
    mixing = _mixing_modules(D)
    if mixing:
        raise ValueError(
            "gradients of single samples need a discriminator that treats samples independently, but its "
            f"{mixing[0]} mixes samples; use a discriminator without it (built-in: norm = 'layer' or 'none')"
        )


def group_size(network: nn.Module) -> int:
    """The number m of consecutive samples that the network may mix; 1 if it treats samples independently.

    Each module that mixes within groups has the attribute `mixes_groups_of`. m is their least common multiple. Batches
    are multiples of m, and processes share a batch by whole groups.
    """
    return math.lcm(*(getattr(module, "mixes_groups_of", 1) for module in network.modules()))


def has_many_scores(D: nn.Module) -> bool:
    """Whether D may return scores (N, …): of patches, of several scales, or a vector for each sample."""
    return any(getattr(module, "many_scores", False) for module in D.modules())


def has_extras(D: nn.Module) -> bool:
    """Whether D(x, y, extras) fills the dict `extras`, as with {"features": (N, …)}."""
    return any(getattr(module, "gives_extras", False) for module in D.modules())


def ignores_latent(G: nn.Module) -> bool:
    """Whether G makes one sample of each condition on purpose, as a translation without z does."""
    return any(getattr(module, "ignores_latent", False) for module in G.modules())


def truncates_latent(G: nn.Module) -> bool:
    """Whether samples of latents z from N(0, I) truncated to [-ψ, ψ] are meant to be better, and vary less."""
    return any(getattr(module, "truncates_latent", False) for module in G.modules())


def has_w(G: nn.Module) -> bool:
    """Whether G offers its latents w: map(z, y) -> w and synthesize(w, y) -> x."""
    return callable(getattr(G, "map", None)) and callable(getattr(G, "synthesize", None))


def growth(network: nn.Module) -> tuple[int, ...]:
    """The generator steps at which the network declares to grow, in order; empty if it declares none."""
    return tuple(sorted({step for module in network.modules() for step in getattr(module, "grows_at", ())}))


def declared_constant(module: nn.Module) -> float:
    """The Lipschitz constant of a module in its first argument, by its own `lipschitz_constant()`.

    That method returns an upper bound in the Euclidean norm, for inputs of any size and the module's present weights,
    rounding included; its docstring names the theorem. It is called on a copy of the module in float64 and evaluation
    mode, and is believed: the module is not looked into. Raises ValueError where it returns no number ≥ 0.
    """
    value = module.lipschitz_constant()  # type: ignore[operator]
    name = type(module).__name__
    try:
        constant = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}.lipschitz_constant() must return a number, not {type(value).__name__}") from None
    if not (math.isfinite(constant) and constant >= 0):
        raise ValueError(f"{name}.lipschitz_constant() returned {constant}; it must be finite and not negative")
    return constant


def mean_scores(scores: Tensor) -> Tensor:
    """The mean score (N,) of each sample, from scores (N,) or (N, …)."""
    return scores if scores.ndim == 1 else scores.flatten(1).mean(1)


def score_gradients(D: nn.Module, scores: Tensor, x: Tensor) -> Tensor:
    """∇D at each sample, (N, numbers of a sample), for penalties: it can be differentiated again.

    `scores` are D's scores of x, which requires grad. Of scores (N, …) the mean of each sample is differentiated: their
    sum would grow with their number. Where D mixes groups of m samples, each group counts as one sample: the result is
    (N/m, m · numbers of a sample), the gradient of the group's mean score by all of its samples.
    """
    size = group_size(D)
    each = mean_scores(scores)
    if size > 1:
        each = each.unflatten(0, (-1, size)).mean(1)
    (gradient,) = torch.autograd.grad(each.sum(), x, create_graph=True)
    return gradient.reshape(len(each), -1)


def _mixing_modules(network: nn.Module) -> list[str]:
    """The type names of the modules that mix samples."""
    batch_norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    found = [m for m in network.modules() if isinstance(m, batch_norms) or getattr(m, "mixes_samples", False)]
    return [type(module).__name__ for module in found]
