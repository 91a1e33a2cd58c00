"""What the constraints on D's weights cost, against spectral_norm: one step of D on SN-GAN's critic.

`python plugins/ganframe-lipschitz/tests/measure_cost.py [--rounds 12] [--width 64] [--batch 64]`

D is the built-in `resnet` for 3×32×32. A step is the engine's: real and fake samples in one call of D, the loss, its
gradient, Adam. Fakes are stored, so that no generator's time is counted. All contestants take one step in turn, in one
process and on one core (OMP_NUM_THREADS=1), and the results are medians of the ratios of their CPU times within a
round, with quartiles, because the machine's speed drifts. Exits with 1 where `orthogonal_layers` or `aol` cost more
than 1.3 times as much.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from ganframe_lipschitz import AlmostOrthogonal, OrthogonalLayers
from torch import nn

import ganframe
from ganframe import DataSpec
from ganframe.engine.algorithm import discriminator_step
from ganframe.engine.state import Game, Player, State

BOUND = 1.3
SPEC = DataSpec((3, 32, 32))
CONSTRAINTS = {
    "spectral_norm": ganframe.component("constraint", "builtin:spectral_norm")(),
    "none": None,
    "orthogonal_layers": OrthogonalLayers(),
    "orthogonal_layers, bjorck": OrthogonalLayers(method="bjorck"),
    "aol": AlmostOrthogonal(),
}


class Stored(nn.Module):
    """A generator whose samples are stored."""

    def __init__(self, samples: torch.Tensor) -> None:
        super().__init__()
        self.samples = nn.Parameter(samples)

    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.samples


def state_for(constraint: ganframe.Constraint | None, width: int, batch: int) -> State:
    torch.manual_seed(0)
    D = ganframe.component("discriminator", "builtin:resnet")(width=width).build(SPEC)
    used = {} if constraint is None else {"constraint": constraint}
    for one in used.values():
        D = one.wrap(D)
    x, y = torch.randn(batch, *SPEC.shape), torch.zeros(batch, dtype=torch.long)
    x, fakes = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, torch.randn_like(x)))
    G, objective = Stored(fakes), ganframe.component("objective", "wgan")()
    return State(
        game=Game(G, D, objective, used),
        G=Player(G, torch.optim.Adam(G.parameters(), lr=1e-4)),
        D=Player(D, torch.optim.Adam(D.parameters(), lr=1e-4, betas=(0.0, 0.9), fused=True)),
        batches=lambda: (x, y),
        latents=lambda n: torch.zeros(n, 1),
        generator_batch_size=batch,
        device=x.device,
    )


def seconds(state: State) -> float:
    begun = time.process_time()
    discriminator_step(state)
    return time.process_time() - begun


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    states = {name: state_for(constraint, given.width, given.batch) for name, constraint in CONSTRAINTS.items()}
    for state in states.values():
        discriminator_step(state)
    rounds = []
    for index in range(given.rounds):
        names = [*states][:: 1 if index % 2 else -1]
        rounds.append({name: seconds(states[name]) for name in names})
    broken = False
    for name in states:
        ratios = [one[name] / one["spectral_norm"] for one in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4)
        step = statistics.median(one[name] for one in rounds)
        print(f"{name}: {step:.3f} s a step, {middle:.3f} of spectral_norm (quartiles {low:.3f} to {high:.3f})")
        broken |= name in ("orthogonal_layers", "aol") and middle > BOUND
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
