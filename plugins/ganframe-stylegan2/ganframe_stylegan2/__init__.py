"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958) as a plugin of ganframe: its networks and path lengths.

This module registers the components.
"""

from collections.abc import Mapping

from ganframe import Discriminator, Generator, Term, hookimpl
from ganframe_stylegan2.discriminator import StyleGAN2Discriminator
from ganframe_stylegan2.generator import StyleGAN2Generator
from ganframe_stylegan2.path_lengths import PathLengths

__all__ = ["PathLengths", "StyleGAN2Discriminator", "StyleGAN2Generator"]


@hookimpl
def ganframe_generators() -> Mapping[str, type[Generator]]:
    return {"stylegan2": StyleGAN2Generator}


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"stylegan2": StyleGAN2Discriminator}


@hookimpl
def ganframe_terms() -> Mapping[str, type[Term]]:
    return {"path_lengths": PathLengths}
