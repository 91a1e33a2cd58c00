"""R3GAN (Huang, Gokaslan, Kuleshov, Tompkin 2024, arXiv:2501.05441) as a plugin of ganframe.

This module registers the components; `game` has the objective and the two penalties, `networks` the two networks.
"""

from collections.abc import Mapping

from ganframe import Constraint, Discriminator, Generator, Objective, hookimpl
from ganframe_r3gan.game import R1, R2, RelativisticPairing
from ganframe_r3gan.networks import R3GANDiscriminator, R3GANGenerator

__all__ = ["R1", "R2", "R3GANDiscriminator", "R3GANGenerator", "RelativisticPairing"]


@hookimpl
def ganframe_generators() -> Mapping[str, type[Generator]]:
    return {"r3gan": R3GANGenerator}


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"r3gan": R3GANDiscriminator}


@hookimpl
def ganframe_objectives() -> Mapping[str, type[Objective]]:
    return {"relativistic_pairing": RelativisticPairing}


@hookimpl
def ganframe_constraints() -> Mapping[str, type[Constraint]]:
    return {"r1": R1, "r2": R2}
