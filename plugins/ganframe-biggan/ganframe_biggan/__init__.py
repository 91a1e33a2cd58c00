"""BigGAN (Brock et al. 2019, arXiv:1809.11096) as a plugin of ganframe.

This module registers the components; `generator` and `discriminator` have the networks, `layers` what they share, and
`orthogonal` the regularisation of the generator.
"""

from collections.abc import Mapping

from ganframe import Discriminator, Generator, Term, hookimpl
from ganframe_biggan.discriminator import BigGANDiscriminator
from ganframe_biggan.generator import BigGANGenerator
from ganframe_biggan.orthogonal import Orthogonal

__all__ = ["BigGANDiscriminator", "BigGANGenerator", "Orthogonal"]


@hookimpl
def ganframe_generators() -> Mapping[str, type[Generator]]:
    return {"biggan": BigGANGenerator}


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"biggan": BigGANDiscriminator}


@hookimpl
def ganframe_terms() -> Mapping[str, type[Term]]:
    return {"orthogonal": Orthogonal}
