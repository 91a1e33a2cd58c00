"""Five more constraints on the discriminator, and Dirac-GAN to test them on, as a plugin of ganframe.

This module registers the components. `gradients` penalises D's gradient norm, `consistency` the effect of dropout on D,
`weights` D's weight matrices; `noise` adds noise to D's input; `dirac` is a GAN with two parameters.
"""

from collections.abc import Mapping

from ganframe import Constraint, Dataset, Discriminator, Generator, hookimpl
from ganframe_lipschitz.consistency import Consistency
from ganframe_lipschitz.dirac import DiracDiscriminator, DiracGenerator, Point
from ganframe_lipschitz.gradients import DRAGAN, LipschitzPenalty
from ganframe_lipschitz.noise import InstanceNoise
from ganframe_lipschitz.weights import Orthogonal

__all__ = [
    "DRAGAN",
    "Consistency",
    "DiracDiscriminator",
    "DiracGenerator",
    "InstanceNoise",
    "LipschitzPenalty",
    "Orthogonal",
    "Point",
]


@hookimpl
def ganframe_constraints() -> Mapping[str, type[Constraint]]:
    return {
        "lp": LipschitzPenalty,
        "consistency": Consistency,
        "dragan": DRAGAN,
        "orthogonal": Orthogonal,
        "instance_noise": InstanceNoise,
    }


@hookimpl
def ganframe_generators() -> Mapping[str, type[Generator]]:
    return {"dirac": DiracGenerator}


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"dirac": DiracDiscriminator}


@hookimpl
def ganframe_datasets() -> Mapping[str, type[Dataset]]:
    return {"point": Point}
