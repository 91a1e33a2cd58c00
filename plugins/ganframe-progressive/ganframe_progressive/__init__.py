"""Progressive GAN (Karras et al. 2018, arXiv:1710.10196) as a plugin of ganframe.

This module registers the components; `networks` has the two networks, `growth` their schedule of stages, `drift` the
term.
"""

from collections.abc import Mapping

from ganframe import Discriminator, Generator, Term, hookimpl
from ganframe_progressive.drift import Drift
from ganframe_progressive.networks import ProgressiveDiscriminator, ProgressiveGenerator

__all__ = ["Drift", "ProgressiveDiscriminator", "ProgressiveGenerator"]


@hookimpl
def ganframe_generators() -> Mapping[str, type[Generator]]:
    return {"progressive": ProgressiveGenerator}


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"progressive": ProgressiveDiscriminator}


@hookimpl
def ganframe_terms() -> Mapping[str, type[Term]]:
    return {"drift": Drift}
