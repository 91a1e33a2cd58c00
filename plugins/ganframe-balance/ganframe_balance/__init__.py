"""Games that keep the two players in balance, as a plugin of ganframe.

This module registers the components. `lecam` holds D's scores near moving means; `autoencoders` has the discriminators
and losses of BEGAN and EBGAN; `multipliers` the Lagrange multipliers of Fisher and Sobolev GAN; `wgan_div` a penalty;
`embeddings` the games on vectors of scores, MMD-GAN and Cramér GAN; `minibatch` a discriminator that sees how much the
samples of a group differ.
"""

from collections.abc import Mapping

from ganframe import Constraint, Discriminator, Objective, Term, hookimpl
from ganframe_balance.autoencoders import EBGAN, Autoencoder, BEGANBalance, PullingAway
from ganframe_balance.embeddings import MMD, Cramer, CramerPenalty, Embedding
from ganframe_balance.lecam import LeCam
from ganframe_balance.minibatch import MinibatchStddev
from ganframe_balance.multipliers import Fisher, Sobolev
from ganframe_balance.wgan_div import WGANDiv

__all__ = [
    "EBGAN",
    "MMD",
    "Autoencoder",
    "BEGANBalance",
    "Cramer",
    "CramerPenalty",
    "Embedding",
    "Fisher",
    "LeCam",
    "MinibatchStddev",
    "PullingAway",
    "Sobolev",
    "WGANDiv",
]


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"autoencoder": Autoencoder, "embedding": Embedding, "minibatch_stddev": MinibatchStddev}


@hookimpl
def ganframe_objectives() -> Mapping[str, type[Objective]]:
    return {"ebgan": EBGAN, "mmd": MMD, "cramer": Cramer}


@hookimpl
def ganframe_constraints() -> Mapping[str, type[Constraint]]:
    return {"wgan_div": WGANDiv}


@hookimpl
def ganframe_terms() -> Mapping[str, type[Term]]:
    return {
        "lecam": LeCam,
        "began": BEGANBalance,
        "pulling_away": PullingAway,
        "fisher": Fisher,
        "sobolev": Sobolev,
        "cramer_penalty": CramerPenalty,
    }
