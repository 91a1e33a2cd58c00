"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958) as a plugin of ganframe.

This module registers the components; `generator` and `discriminator` have the networks, `modulated` the convolutions
that a latent w controls.
"""

from collections.abc import Mapping

from ganframe import Discriminator, Generator, hookimpl
from ganframe_stylegan2.discriminator import StyleGAN2Discriminator
from ganframe_stylegan2.generator import StyleGAN2Generator

__all__ = ["StyleGAN2Discriminator", "StyleGAN2Generator"]


@hookimpl
def ganframe_generators() -> Mapping[str, type[Generator]]:
    return {"stylegan2": StyleGAN2Generator}


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"stylegan2": StyleGAN2Discriminator}
