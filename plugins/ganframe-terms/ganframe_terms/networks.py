"""What a term learns about a discriminator before training: the width of its features, and whether they know y."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ganframe import DataSpec, group_size


@torch.no_grad()
def read_extra(D: nn.Module, data: DataSpec, name: str) -> Tensor:
    """What D returns as the extra `name` for each possible label, on one random sample: (classes, …).

    D itself is not changed. Raises ValueError if D does not return it.
    """
    reference = next(D.parameters(), torch.zeros(()))
    n, size = data.classes or 1, group_size(D)  # a group of samples has one label
    x = torch.rand(1, *data.shape, device=reference.device, dtype=reference.dtype, generator=_seeded(reference))
    y = data.blank(n * size, reference.device)
    if data.classes:
        y += torch.arange(n, device=reference.device).repeat_interleave(size)
    extras: dict[str, Tensor] = {}
    copy.deepcopy(D).eval()(x.expand(n * size, *data.shape), y, extras)
    if name not in extras:
        found = ", ".join(extras) or "nothing"
        raise ValueError(f"reads the discriminator's extra '{name}', and this one returns {found}")
    return extras[name][::size].flatten(1)


def feature_width(D: nn.Module, data: DataSpec) -> int:
    """The number of D's last features. Raises ValueError if D does not return them."""
    return read_extra(D, data, "features").shape[1]


def refuse_known_labels(values: Tensor, what: str) -> None:
    """Raises ValueError if values (classes, …), which D returned for one sample with each label, differ."""
    if not torch.allclose(values, values[:1].expand_as(values), atol=1e-5):
        raise ValueError(
            f"{what} of this discriminator depend on the label it is given, so the class could be read from there; "
            "let it see samples alone (built-in: condition = 'none')"
        )


def _seeded(reference: Tensor) -> torch.Generator:
    """A generator of its own, so that training does not depend on whether a term looked at D."""
    return torch.Generator(reference.device).manual_seed(0)
