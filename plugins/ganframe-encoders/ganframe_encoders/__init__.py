"""Encoders beside a GAN as a plugin of ganframe: VAE-GAN, BiGAN and ALI, adversarial autoencoders.

This module registers the components; `terms` has the three terms, `networks` the encoder, `objective` the objective
without losses, `loading` what loads an encoder after the training.
"""

from collections.abc import Mapping

from ganframe import Objective, Term, hookimpl
from ganframe_encoders.loading import load_encoder
from ganframe_encoders.networks import Encoder
from ganframe_encoders.objective import Idle
from ganframe_encoders.terms import TERMS, VAEGAN, AdversarialAutoencoder, BiGAN

__all__ = ["VAEGAN", "AdversarialAutoencoder", "BiGAN", "Encoder", "Idle", "load_encoder"]


@hookimpl
def ganframe_terms() -> Mapping[str, type[Term]]:
    return dict(TERMS)


@hookimpl
def ganframe_objectives() -> Mapping[str, type[Objective]]:
    return {"idle": Idle}
