"""Known terms of the losses of both players, and what they need, as a plugin of ganframe.

This module registers the components. `samples` has terms on the generator's samples, `features` feature matching,
`classes` the class head of AC-GAN and the K + 1 game, `codes` InfoGAN; `data` has datasets made of other datasets.
"""

from collections.abc import Mapping

from ganframe import Dataset, Discriminator, Objective, Term, hookimpl
from ganframe_terms.classes import ClassHead, ClassScores, SemiSupervised
from ganframe_terms.codes import Info
from ganframe_terms.data import Completion, HoldOut, PartlyLabelled
from ganframe_terms.features import FeatureMatching, TermsOnly
from ganframe_terms.samples import L1, ModeSeeking

__all__ = [
    "L1",
    "ClassHead",
    "ClassScores",
    "Completion",
    "FeatureMatching",
    "HoldOut",
    "Info",
    "ModeSeeking",
    "PartlyLabelled",
    "SemiSupervised",
    "TermsOnly",
]


@hookimpl
def ganframe_terms() -> Mapping[str, type[Term]]:
    return {
        "l1": L1,
        "feature_matching": FeatureMatching,
        "mode_seeking": ModeSeeking,
        "class_head": ClassHead,
        "semi_supervised": SemiSupervised,
        "info": Info,
    }


@hookimpl
def ganframe_objectives() -> Mapping[str, type[Objective]]:
    return {"terms_only": TermsOnly}


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"class_scores": ClassScores}


@hookimpl
def ganframe_datasets() -> Mapping[str, type[Dataset]]:
    return {"hold_out": HoldOut, "partly_labelled": PartlyLabelled, "completion": Completion}
