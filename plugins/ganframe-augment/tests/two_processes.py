"""Trains each component for a few steps and stores all weights and buffers: `… two_processes.py FOLDER`.

Run alone or by torchrun; test_recipes.py compares the two. What processes draw each for themselves (augmentations, δ,
ε) is fixed here, so that both runs have the same gradients. Data and latents are drawn from the run's seeds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import ganframe

FOLDER = Path(__file__).parent.parent
STEPS = 4
ADA = '{use="ada", p=0.5, interval=1, steps=20, target=0.95}'
CASES = {
    "diffaugment": ("diffaugment_digits.toml", []),
    "ada": ("ada_digits.toml", [f"constraints=[{ADA}]"]),
    "bcr": ("bcr_digits.toml", []),
    "zcr": ("zcr_digits.toml", []),
    "pac": ("pac_ring.toml", []),
    "pac and penalty": ("pac_ring.toml", ['constraints=[{use="gradient_penalty"}]']),
}
COMMON = [
    f"train.steps={STEPS}",
    "train.batch_size=16",
    "train.critic_steps=2",
    'generator={use="mlp", hidden=[16]}',  # BatchNorm normalises each process's share
    'optimizer={generator={use="SGD", lr=0.05}, discriminator={use="SGD", lr=0.05}}',
    f"log.checkpoint_every={STEPS}",
    f"log.samples_every={STEPS}",
]


def fix(name: str, constant: Callable[..., torch.Tensor]) -> None:
    """Lets a function of torch return a constant, unless it draws from a generator of its caller."""
    original = getattr(torch, name)

    def drawn(*arguments: Any, generator: Any = None, **options: Any) -> torch.Tensor:
        if generator is not None:
            return original(*arguments, generator=generator, **options)
        return constant(*arguments, **options)

    setattr(torch, name, drawn)


def main() -> None:
    fix("rand", lambda *shape, **options: torch.full(shape, 0.3, **options))
    fix("randn", lambda *shape, **options: torch.full(torch.empty(*shape).shape, 0.5, **options))
    fix("randn_like", lambda x, **options: torch.full_like(x, 0.5, **options))
    fix("randint", lambda low, high, shape, **options: torch.full(shape, high - 1, **options))
    out, stored = Path(sys.argv[1]), {}
    for case, (file, overrides) in CASES.items():
        found: dict[str, torch.Tensor] = {}

        def keep(state: Any, found: dict[str, torch.Tensor] = found) -> None:
            for player, network in (("G", state.G.network), ("D", state.D.network)):
                found.update({f"{player}.{name}": t.detach().clone() for name, t in network.state_dict().items()})

        recipe = ganframe.load_recipe(FOLDER / file, [*overrides, *COMMON])
        ganframe.run(recipe, out=out / case.replace(" ", "_"), callbacks=[keep])
        stored[case] = found
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save({**stored, "processes": int(os.environ.get("WORLD_SIZE", "1"))}, out.with_suffix(".pt"))


if __name__ == "__main__":
    main()
