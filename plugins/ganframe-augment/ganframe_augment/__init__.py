"""Augmentation of what the discriminator sees, consistency under augmentation, and packing, as a plugin of ganframe.

This module registers the components. `augmented` is a discriminator that augments its inputs, `transforms` holds the
augmentations; `diffaugment` and `adaptive` choose among them; `consistency` has the penalty bCR and the term zCR;
`packing` is PacGAN; `subset` is a dataset of few samples.
"""

from collections.abc import Mapping

from ganframe import Constraint, Dataset, Discriminator, Term, hookimpl
from ganframe_augment.adaptive import AdaptiveAugmentation
from ganframe_augment.consistency import BalancedConsistency, LatentConsistency
from ganframe_augment.diffaugment import DiffAugment
from ganframe_augment.packing import Packing
from ganframe_augment.subset import Subset

__all__ = [
    "AdaptiveAugmentation",
    "BalancedConsistency",
    "DiffAugment",
    "LatentConsistency",
    "Packing",
    "Subset",
]


@hookimpl
def ganframe_constraints() -> Mapping[str, type[Constraint]]:
    return {"diffaugment": DiffAugment, "ada": AdaptiveAugmentation, "bcr": BalancedConsistency}


@hookimpl
def ganframe_terms() -> Mapping[str, type[Term]]:
    return {"zcr": LatentConsistency}


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"pac": Packing}


@hookimpl
def ganframe_datasets() -> Mapping[str, type[Dataset]]:
    return {"subset": Subset}
