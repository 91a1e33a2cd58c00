"""Describes a run in its folder: the resolved recipe, the environment that it runs in, some of its conditions."""

from __future__ import annotations

import json

import torch
from torch import nn
from torch.utils.data import IterableDataset

from ganframe.components import Distribution
from ganframe.data.real import conditions
from ganframe.data.seeds import derive_seeds
from ganframe.errors import counted
from ganframe.storage.conditions import save_conditions
from ganframe.storage.files import write_text
from ganframe.storage.run_folder import RunFolder
from ganframe.training.trainer import Trainer

KEPT = 64  # conditions, for samples without the dataset


def describe_run(trainer: Trainer, folder: RunFolder) -> None:
    """Writes recipe.toml and environment.json.

    Also conditions.safetensors and scheme.json, where the data has conditions and where `decode` needs them.
    """
    recipe = trainer.recipe
    environment = {
        **trainer.versions,
        "device": device_name(trainer.state.device),
        "processes": trainer.accelerator.num_processes,
        "threads": torch.get_num_threads(),  # of each process; the order of large sums depends on it
        "precision": recipe.train.precision,
    }
    if trainer.spec.class_names is not None:
        environment["classes"] = list(trainer.spec.class_names)  # label 0 is the first
    write_text(folder.recipe, trainer.toml)
    write_text(folder.environment, json.dumps(environment, indent=2) + "\n")
    scheme = recipe.dataset.scheme()
    if scheme is not None:
        write_text(folder.scheme, scheme)
    if trainer.spec.condition is not None and not folder.conditions.is_file():
        seed = derive_seeds(recipe.seed).judging
        save_conditions(folder.conditions, conditions(trainer.judged, trainer.spec, KEPT, seed, torch.device("cpu")))


def first_line(trainer: Trainer, folder: RunFolder) -> str:
    """What a run says before it trains: its folder, device, networks and data, and the step that it resumes at."""
    state, processes = trainer.state, trainer.accelerator.num_processes
    where = device_name(state.device) + (f", {processes} processes" if processes > 1 else "")
    data = trainer.data
    if isinstance(data, IterableDataset):
        samples = "a stream of samples"
    else:
        samples = "samples are drawn" if isinstance(data, Distribution) else counted(len(data), "sample")  # type: ignore[arg-type]
    networks = {"G": state.G.network, "D": state.D.network}
    players = [f"{name} {counted(parameters(network), 'parameter')}" for name, network in networks.items()]
    at = f"; step {state.step} of {trainer.recipe.train.steps}" if state.step else ""
    return f"{folder.path}: on {where}; {', '.join(players)}; {samples}{at}"


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
