"""Starts networks from the weights of another run, and freezes parts of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from ganframe.components import DataSpec
from ganframe.errors import RequestError, did_you_mean
from ganframe.storage import checkpoints, run_folder
from ganframe.storage.weights import generator_spec, read_weights


def warm_start(path: str, networks: Mapping[str, nn.Module]) -> list[str]:
    """Copies the weights of another run's newest intact checkpoint, or of a published model, into networks.

    Those with the same names and shapes are copied.
    Names match through parametrisations: the weight of a normalised layer is that of the plain one. Returns a line for
    each network that says what was taken. Raises RequestError where there is no such run, or nothing was taken.
    """
    folder = run_folder.existing(path)
    newest, damages = checkpoints.newest_intact(folder)
    if newest is None and folder.is_published:
        newest = folder.path
    if newest is None:
        raise RequestError("\n".join([*damages, f"{path}: this run has no intact checkpoint to start from"]))
    lines, useful = [], False
    for name, network in networks.items():
        taken, left = _copy(read_weights(newest / f"{name}.safetensors"), network)
        useful |= any(len(shape) > 1 for shape in taken)  # a bias alone says nothing without its layer
        rest = f"; new: {_shortened(left)}" if left else ""
        lines.append(f"{name}: {len(taken)} of {len(taken) + len(left)} tensors from {newest}{rest}")
    if not useful:
        raise RequestError(f"{path}: its networks share no weight with these, by name and shape; start without it")
    return lines


def refuse_other_labels(path: str, spec: DataSpec) -> None:
    """Raises RequestError where a class of the run has another label in this data: weights know labels, not names.

    Classes of other names may take the place of the run's, and a run that keeps no names is taken as it is.
    """
    folder = run_folder.existing(path)
    then = generator_spec(folder.generator) if folder.generator.is_file() else spec
    if then.classes != spec.classes:
        return  # weights of other numbers of classes do not fit, and are not taken
    labels = {name: label for label, name in enumerate(then.class_names or ())}
    for label, name in enumerate(spec.class_names or ()):
        if labels.get(name, label) != label:
            raise RequestError(
                f"{path}: class '{name}' has label {labels[name]} in this run and label {label} in this data, so "
                "labels would change their meaning; name the classes so that they have the same order"
            )


@torch.no_grad()
def _copy(weights: Mapping[str, Tensor], network: nn.Module) -> tuple[list[torch.Size], list[str]]:
    """Copies what fits. Returns the shapes of those tensors, and the names of those that stay new."""
    plain = {_plain(name): tensor for name, tensor in weights.items()}
    taken: list[torch.Size] = []
    left = []
    for name, tensor in network.state_dict(keep_vars=True).items():
        found = weights.get(name, plain.get(_plain(name)))
        if found is not None and found.shape == tensor.shape and found.dtype == tensor.dtype:
            tensor.copy_(found)
            taken.append(tensor.shape)
        else:
            left.append(name)
    return taken, left


def _plain(name: str) -> str:
    """The name of a parametrised weight as it is without parametrisation."""
    return re.sub(r"parametrizations\.(\w+)\.original$", r"\1", name)


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def freeze(names: Iterable[str], networks: Mapping[str, nn.Module]) -> Iterator[str]:
    """Holds modules or weights, named as in "generator.blocks.0": no gradient, and modules in evaluation mode.

    So BatchNorm's running statistics stay too. Yields a problem for each name that is not there, and for a network of
    which nothing is left to train.
    """
    for index, name in enumerate(names):
        player, _, inside = name.partition(".")
        network = networks.get(player)
        if network is None:
            yield f"train.freeze[{index}]: '{name}' begins with neither 'generator' nor 'discriminator'"
            continue
        modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
        if inside in modules:
            modules[inside].eval().requires_grad_(False)
        elif inside in parameters:
            parameters[inside].requires_grad_(False)
        else:
            known = did_you_mean(name, (f"{player}.{other}" for other in (*modules, *parameters) if other))
            yield f"train.freeze[{index}]: the {player} has no '{inside}'{known}"
    for player, network in networks.items():
        if names and not any(parameter.requires_grad for parameter in network.parameters()):
            yield f"train.freeze: nothing of the {player} is left to train"
