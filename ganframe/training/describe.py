"""Describes a run in its folder: the resolved recipe, and the environment that it runs in."""

from __future__ import annotations

import json

import torch

from ganframe.recipes.writing import to_toml
from ganframe.storage import provenance
from ganframe.storage.files import write_text
from ganframe.storage.run_folder import RunFolder
from ganframe.training.prepare import Trainer


def describe_run(trainer: Trainer, folder: RunFolder) -> None:
    """Writes recipe.toml and environment.json."""
    recipe = trainer.recipe
    environment = {
        **provenance.versions(recipe.components(), recipe.registry),
        "device": device_name(trainer.state.device),
        "processes": trainer.accelerator.num_processes,
        "precision": recipe.train.precision,
    }
    write_text(folder.recipe, to_toml(recipe))
    write_text(folder.environment, json.dumps(environment, indent=2) + "\n")


def device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
