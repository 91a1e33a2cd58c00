"""Trains every objective under every constraint for a few steps and stores the weights: `… two_processes.py FILE`.

Run alone or by torchrun: test_processes.py compares the two. The gradient penalty's ε, which each process draws for
itself, is fixed here, so that the two runs have one and the same gradient to follow. The weights that each process
draws at first are its own, so that the runs agree only where all begin with the first one's.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import attrs
import torch
from torch import Tensor

from ganframe import Constraint, build, plugins
from ganframe.build import Session, prepare
from ganframe.engine import discriminator_step, train
from ganframe.recipe import structure

CONSTRAINTS = ("none", "weight_clipping", "gradient_penalty", "spectral_norm", "r1")
STEPS = 3


@attrs.frozen
class R1(Constraint):
    """E‖∇D(x)‖², by the graph of the scores themselves."""

    input_gradients = True

    def penalty(self, D, real, fake):
        (gradient,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return gradient.square().sum(1).mean()


def own_weights(seed: int, rank: int = 0, seeds: Any = build.seeds) -> list[int]:
    """The run's seeds, but for the first, the networks' weights'."""
    weights, *others = seeds(seed, rank)
    return [weights + int(os.environ.get("RANK", "0")), *others]


def document(objective: str, constraint: str, batch_norm: bool = False) -> dict:
    """SGD, which follows the gradient itself; BatchNorm normalises within each process's share, so it is left out."""
    sgd = {"use": "SGD", "lr": 0.05}
    return {
        "dataset": {"use": "ring"},
        "latent": {"dim": 3},
        "generator": {"use": "mlp", "hidden": [16], "batch_norm": batch_norm},
        "discriminator": {"use": "mlp", "hidden": [16, 16]},
        "objective": {"use": objective},
        "constraints": [] if constraint in ("none", "r1") else [{"use": constraint}],
        "optimizer": {"generator": sgd, "discriminator": sgd},
        "train": {"steps": STEPS, "critic_steps": 2, "batch_size": 32, "generator_batch_size": 48},
    }


def tensors(session: Session) -> dict[str, Tensor]:
    """All weights and buffers of both networks."""
    networks = (("G", session.state.G.network), ("D", session.state.D.network))
    return {f"{n}.{k}": v.detach() for n, network in networks for k, v in network.state_dict().items()}


def ranks_agree(session: Session) -> bool:
    everyone = [session.accelerator.gather(tensor.float().flatten()[None]) for tensor in tensors(session).values()]
    return all(bool((each == each[0]).all()) for each in everyone)


def main() -> None:
    torch.rand = lambda *shape, **options: torch.full(shape, 0.5)  # type: ignore[assignment]
    build.seeds = own_weights  # type: ignore[assignment]
    registry = plugins.load()

    def begin(*options: Any) -> Session:
        return prepare(structure(document(*options), "processes", registry))

    weights, agree, shares_differ = {}, True, True
    for objective in registry.names("objective"):
        for constraint in CONSTRAINTS:
            session = begin(objective, constraint)
            state, accelerator = session.state, session.accelerator
            if constraint == "r1":
                state.constraints, state.joint = {"r1": R1()}, False
            train(state, STEPS, 2)
            agree = ranks_agree(session) and agree
            noise = accelerator.gather(session.latents(4)[None])
            shares_differ = shares_differ and len(noise.flatten().unique()) == noise.numel()
            weights[f"{objective} {constraint}"] = tensors(session)
    session = begin("vanilla", "none", True)
    discriminator_step(session.state)
    mean = session.state.G.network.norms[0].norm.running_mean.clone()  # type: ignore[union-attr, index]
    train(session.state, STEPS, 2)
    agree = ranks_agree(session) and agree
    if accelerator.is_main_process:
        found = {"ranks_agree": agree, "shares_differ": shares_differ, "processes": accelerator.num_processes}
        torch.save({"weights": weights, "batch_norm_mean": mean, **found}, sys.argv[1])
    accelerator.end_training()


if __name__ == "__main__":
    main()
