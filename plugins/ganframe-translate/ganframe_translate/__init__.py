"""Generators of y and z, as a plugin of ganframe: translation, super-resolution, missing parts, the next frame.

The condition y is an image, or several, and G(z, y) one of the samples x that may belong to it. This module registers
the components.
"""

from collections.abc import Mapping

from ganframe import Dataset, Discriminator, Generator, Metric, Term, hookimpl
from ganframe_translate.best import BestOf
from ganframe_translate.coloured import Coloured
from ganframe_translate.consistent import Consistent
from ganframe_translate.crops import Crops
from ganframe_translate.cycle import Cycle, Identity, load_back
from ganframe_translate.derived import Derived
from ganframe_translate.frames import FramesFolder
from ganframe_translate.futures import Futures
from ganframe_translate.moving_digits import MovingDigits
from ganframe_translate.paired import KeptClass, Paired
from ganframe_translate.pairs import PairedImages, UnpairedImages
from ganframe_translate.patch import Patch
from ganframe_translate.perceptual import Perceptual
from ganframe_translate.residual import Residual
from ganframe_translate.srresnet import SRResNet
from ganframe_translate.unet import UNet
from ganframe_translate.unpaired import ThickDigits, UnpairedDigits

__all__ = [
    "BestOf",
    "Coloured",
    "Consistent",
    "Crops",
    "Cycle",
    "Derived",
    "FramesFolder",
    "Futures",
    "Identity",
    "KeptClass",
    "MovingDigits",
    "Paired",
    "PairedImages",
    "Patch",
    "Perceptual",
    "Residual",
    "SRResNet",
    "ThickDigits",
    "UNet",
    "UnpairedDigits",
    "UnpairedImages",
    "load_back",
]


@hookimpl
def ganframe_generators() -> Mapping[str, type[Generator]]:
    return {"unet": UNet, "residual": Residual, "srresnet": SRResNet}


@hookimpl
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:
    return {"patch": Patch}


@hookimpl
def ganframe_terms() -> Mapping[str, type[Term]]:
    return {"perceptual": Perceptual, "cycle": Cycle, "identity": Identity, "best_of": BestOf}


@hookimpl
def ganframe_datasets() -> Mapping[str, type[Dataset]]:
    return {
        "paired_images": PairedImages,
        "unpaired_images": UnpairedImages,
        "derived": Derived,
        "coloured": Coloured,
        "moving_digits": MovingDigits,
        "frames_folder": FramesFolder,
        "unpaired_digits": UnpairedDigits,
        "thick_digits": ThickDigits,
        "crops": Crops,
    }


@hookimpl
def ganframe_metrics() -> Mapping[str, type[Metric]]:
    return {
        "paired": Paired,
        "kept_class": KeptClass,
        "consistent": Consistent,
        "futures": Futures,
    }
