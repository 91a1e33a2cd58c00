"""Five more ways to hold a critic back, as a plugin of ganframe, and the smallest game to try them in.

This module hands the components over. `gradients` bounds D's slope, `consistency` the effect of dropout on D, `weights`
looks at D's matrices alone, and `noise` at what D sees; `dirac` is a GAN of two numbers.
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
