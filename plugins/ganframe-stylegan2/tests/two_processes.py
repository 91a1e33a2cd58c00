"""Trains both networks for a few steps and stores all weights and buffers: `… two_processes.py FOLDER`.

Run alone or by torchrun; test_training.py compares the two. What processes draw each for themselves (noise, crossovers,
the images of path lengths) is fixed here, so that both runs have the same gradients. Data and latents are drawn from
the run's seeds.
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
CASES = {
    "conditional": [],
    "instance": ["generator.style='instance'", "generator.output='last'", "discriminator.residual=false"],
}
COMMON = [
    f"train.steps={STEPS}",
    "train.batch_size=16",
    "generator.width=8",
    "generator.style_mixing=1.0",
    "discriminator.width=8",
    "constraints[0].every=2",
    "terms[0].every=2",
    "terms[0].share=1.0",  # a part of a batch would be other samples in each process
    'optimizer={generator={use="SGD", lr=0.01}, discriminator={use="SGD", lr=0.01}}',
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
    fix("randint", lambda low, high, shape, **options: torch.full(shape, high - 2, **options))
    out, stored = Path(sys.argv[1]), {}
    for case, overrides in CASES.items():
        found: dict[str, torch.Tensor] = {}

        def keep(state: Any, found: dict[str, torch.Tensor] = found) -> None:
            for player, network in (("G", state.G.network), ("D", state.D.network)):
                found.update({f"{player}.{name}": t.detach().clone() for name, t in network.state_dict().items()})

        recipe = ganframe.load_recipe(FOLDER / "stylegan2_digits.toml", [*COMMON, *overrides])
        ganframe.run(recipe, out=out / case, callbacks=[keep])
        stored[case] = found
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save({**stored, "processes": int(os.environ.get("WORLD_SIZE", "1"))}, out.with_suffix(".pt"))


if __name__ == "__main__":
    main()
