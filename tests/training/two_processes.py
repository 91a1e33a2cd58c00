"""Trains every objective under every constraint for a few steps and stores the weights: `… two_processes.py FILE`.

Run alone or by torchrun: test_processes.py compares the two. The gradient penalty's ε, which each process draws for
itself, is fixed here, so that all runs have the same gradients. Each process draws other initial weights, so that the
runs agree only where all processes start with those of the first one.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import attrs
import torch
from torch import Tensor

from ganframe import Constraint
from ganframe.data import seeds
from ganframe.engine.algorithm import discriminator_step, train
from ganframe.plugins import registry
from ganframe.recipes.reading import structure
from ganframe.training import prepare
from ganframe.training.trainer import Trainer

CONSTRAINTS = ("none", "weight_clipping", "gradient_penalty", "spectral_norm", "r1")
STEPS = 3


@attrs.frozen
class R1(Constraint):
    """E‖∇D(x)‖², by the graph of the scores themselves."""

    input_gradients = True

    def penalty(self, D, real, fake):
        (gradient,) = torch.autograd.grad(real.scores.sum(), real.x, create_graph=True)
        return gradient.square().sum(1).mean()


def own_weights(seed: int, rank: int = 0) -> seeds.Seeds:
    """The run's seeds, with another one for the weights of each process."""
    derived = seeds.derive_seeds(seed, rank)
    return derived._replace(weights=derived.weights + int(os.environ.get("RANK", "0")))


def document(objective: str, constraint: str, batch_norm: bool = False) -> dict:
    """With SGD, which follows the gradient itself. Without BatchNorm, which normalises each process's share."""
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


def tensors(trainer: Trainer) -> dict[str, Tensor]:
    """All weights and buffers of both networks."""
    networks = (("G", trainer.state.G.network), ("D", trainer.state.D.network))
    return {f"{n}.{k}": v.detach() for n, network in networks for k, v in network.state_dict().items()}


def ranks_agree(trainer: Trainer) -> bool:
    everyone = [trainer.accelerator.gather(tensor.float().flatten()[None]) for tensor in tensors(trainer).values()]
    return all(bool((each == each[0]).all()) for each in everyone)


def main() -> None:
    torch.rand = lambda *shape, **options: torch.full(shape, 0.5)  # type: ignore[assignment]
    prepare.derive_seeds = own_weights
    plugins = registry.load()

    def begin(*options: Any) -> Trainer:
        return prepare.prepare(structure(document(*options), "processes", plugins))

    weights, means, agree, shares_differ = {}, {}, True, True
    for objective in plugins.names("objective"):
        for constraint in CONSTRAINTS:
            trainer = begin(objective, constraint)
            state, accelerator = trainer.state, trainer.accelerator
            if constraint == "r1":
                state.game = attrs.evolve(state.game, constraints={"r1": R1()})
            train(state, STEPS - 1, 2, [trainer.means])
            trainer.means.fold(state.step)
            saved = trainer.means.state_dict()
            trainer.means.load_state_dict(saved)
            train(state, STEPS, 2, [trainer.means])
            agree = ranks_agree(trainer) and agree
            noise = accelerator.gather(state.latents(4)[None])
            shares_differ = shares_differ and len(noise.flatten().unique()) == noise.numel()
            case = f"{objective} {constraint}"
            weights[case], means[case] = tensors(trainer), trainer.means.take(STEPS)
    trainer = begin("vanilla", "none", True)
    discriminator_step(trainer.state)
    mean = trainer.state.G.network.norms[0].norm.running_mean.clone()  # type: ignore[union-attr, index]
    train(trainer.state, STEPS, 2)
    agree = ranks_agree(trainer) and agree
    if accelerator.is_main_process:
        found = {"ranks_agree": agree, "shares_differ": shares_differ, "processes": accelerator.num_processes}
        torch.save({"weights": weights, "means": means, "batch_norm_mean": mean, **found}, sys.argv[1])
    accelerator.end_training()


if __name__ == "__main__":
    main()
