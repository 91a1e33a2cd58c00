"""More constraints on the discriminator, critics that are 1-Lipschitz by construction, and Dirac-GAN to test them on.

This module registers the components. `gradients` penalises D's gradient norm, `consistency` the effect of dropout on D,
`weights` D's weight matrices; `noise` adds noise to D's input; `dirac` is a GAN with two parameters.

`orthogonal_layers` and `aol` are constraints by parametrisations of D's weights, for the layers that `covered` finds.
`critics` has the networks `sll` and `cpl`, made of `blocks`; `branches` has `sorted_branches`. The mathematics they
share is in `kernels` and `matrices`.
"""

from collections.abc import Mapping

from ganframe import Constraint, Dataset, Discriminator, Generator, hookimpl
from ganframe_lipschitz.aol import AlmostOrthogonal
from ganframe_lipschitz.branches import SortedBranches
from ganframe_lipschitz.consistency import Consistency
from ganframe_lipschitz.critics import CPL, SLL
from ganframe_lipschitz.dirac import DiracDiscriminator, DiracGenerator, Point
from ganframe_lipschitz.gradients import DRAGAN, LipschitzPenalty
from ganframe_lipschitz.noise import InstanceNoise
from ganframe_lipschitz.orthogonal_layers import OrthogonalLayers
from ganframe_lipschitz.weights import Orthogonal

__all__ = [
    "CPL",
    "DRAGAN",
    "SLL",
    "AlmostOrthogonal",
    "Consistency",
    "DiracDiscriminator",
    "DiracGenerator",
    "InstanceNoise",
    "LipschitzPenalty",
    "Orthogonal",
    "OrthogonalLayers",
    "Point",
    "SortedBranches",
]


@hookimpl
def ganframe_constraints() -> Mapping[str, type[Constraint]]:
    return {
        "lp": LipschitzPenalty,
        "consistency": Consistency,
        "dragan": DRAGAN,
        "orthogonal": Orthogonal,
        "instance_noise": InstanceNoise,
        "orthogonal_layers": OrthogonalLayers,
        "aol": AlmostOrthogonal,
    }


@hookimpl
def ganframe_generators() -> Mapping[str, type[Generator]]:
    return {"dirac": DiracGenerator}


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"dirac": DiracDiscriminator, "sll": SLL, "cpl": CPL, "sorted_branches": SortedBranches}


@hookimpl
def ganframe_datasets() -> Mapping[str, type[Dataset]]:
    return {"point": Point}
