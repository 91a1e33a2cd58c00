"""The global random generators of torch, numpy and Python: seeded by the recipe, saved, restored, set apart.

Components may draw from any of them. Without a seed of the recipe's own, two runs of it would differ, and a resumed run
would draw other numbers than one without a break.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

CPU = torch.device("cpu")


def seed_all(seed: int) -> None:
    """Seeds all of them, those of CUDA too. `seed` has 32 bits."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """Their state, in types that torch loads as data."""
    _, keys, *rest = np.random.get_state(legacy=True)
    state = {
        "cpu": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(device: torch.device, state: dict[str, Any]) -> None:
    """Restores what `random_state` returned. Generators of which the state says nothing stay as they are."""
    torch.set_rng_state(state["cpu"])
    if "python" in state:
        version, keys, gauss = state["python"]
        random.setstate((version, tuple(keys), gauss))
    if "numpy" in state:
        keys, *rest = state["numpy"]
        np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def kept_random_state(device: torch.device = CPU) -> Iterator[None]:
    """Restores the state of the generators of the CPU, and of a CUDA device, at the end."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    before = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)


@contextmanager
def own_random_state(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Seeds the generators for what is drawn inside, and restores their state at the end. `seed` has 32 bits."""
    with kept_random_state(device):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every CUDA device too
        random.seed(seed)
        np.random.seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
