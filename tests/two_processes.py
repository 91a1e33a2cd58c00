"""Trains every objective under every constraint for a few steps and stores the weights: `… two_processes.py FILE`.

Run alone or by torchrun: test_processes.py compares the two. The gradient penalty's ε, which each process draws for
itself, is fixed here, so that the two runs have one and the same gradient to follow.
"""

from __future__ import annotations

import sys

import torch

from ganframe import plugins
from ganframe.build import prepare
from ganframe.engine import train
from ganframe.recipe import structure

CONSTRAINTS = ("none", "weight_clipping", "gradient_penalty", "spectral_norm")
STEPS = 3


def document(objective: str, constraint: str) -> dict:
    """SGD, which follows the gradient itself, and networks without BatchNorm, whose statistics are each process's."""
    sgd = {"use": "SGD", "lr": 0.05}
    return {
        "dataset": {"use": "ring"},
        "latent": {"dim": 3},
        "generator": {"use": "mlp", "hidden": [16]},
        "discriminator": {"use": "mlp", "hidden": [16, 16]},
        "objective": {"use": objective},
        "constraints": [] if constraint == "none" else [{"use": constraint}],
        "optimizer": {"generator": sgd, "discriminator": sgd},
        "train": {"steps": STEPS, "critic_steps": 2, "batch_size": 32, "generator_batch_size": 48},
    }


def main() -> None:
    torch.rand = lambda *shape, **options: torch.full(shape, 0.5)  # type: ignore[assignment]
    registry = plugins.load()
    weights, ranks_agree, shares_differ = {}, True, True
    for objective in registry.names("objective"):
        for constraint in CONSTRAINTS:
            session = prepare(structure(document(objective, constraint), "processes", registry))
            state, accelerator = session.state, session.accelerator
            train(state, STEPS, 2)
            networks = (("G", state.G.network), ("D", state.D.network))
            tensors = {f"{n}.{k}": v.detach() for n, network in networks for k, v in network.state_dict().items()}
            for tensor in tensors.values():
                everyone = accelerator.gather(tensor.float().flatten()[None])
                ranks_agree = ranks_agree and bool((everyone == everyone[0]).all())
            noise = accelerator.gather(session.latents(4)[None])
            shares_differ = shares_differ and len(noise.flatten().unique()) == noise.numel()
            weights[f"{objective} {constraint}"] = tensors
    if accelerator.is_main_process:
        agreed = {"ranks_agree": ranks_agree, "shares_differ": shares_differ, "processes": accelerator.num_processes}
        torch.save({"weights": weights, **agreed}, sys.argv[1])
    accelerator.end_training()


if __name__ == "__main__":
    main()
