"""The built-in components: a plugin that uses only the public plugin API."""

from collections.abc import Callable

from ganframe import Features, Judging, hookimpl
from ganframe.builtin.classes import Classes
from ganframe.builtin.constraints import GradientPenalty, SpectralNorm, WeightClipping
from ganframe.builtin.dcgan import DCGANDiscriminator, DCGANGenerator
from ganframe.builtin.distributions import Gaussian1D, Grid, Ring, SwissRoll
from ganframe.builtin.efficientnet import effnet_lite0
from ganframe.builtin.fidelity import InceptionScore, dinov2, inception, inception_logits
from ganframe.builtin.frechet import Frechet, Kernel
from ganframe.builtin.funnels import FunnelsCube, FunnelsMoved
from ganframe.builtin.huggingface import HuggingFace
from ganframe.builtin.image_folder import ImageFolder
from ganframe.builtin.images import Digits, TorchvisionDataset
from ganframe.builtin.mlp import MLPDiscriminator, MLPGenerator
from ganframe.builtin.mmd import MMD
from ganframe.builtin.modes import Modes
from ganframe.builtin.nearest import Nearest
from ganframe.builtin.neighbours import PrecisionRecall
from ganframe.builtin.npz import Npz
from ganframe.builtin.objectives import WGAN, NonSaturating, Vanilla
from ganframe.builtin.parzen import Parzen
from ganframe.builtin.resnet import ResNetDiscriminator, ResNetGenerator
from ganframe.builtin.small_classifier import classifier, classifier_logits
from ganframe.builtin.stacked import Stacked
from ganframe.builtin.table import Table
from ganframe.builtin.transport import Wasserstein
from ganframe.builtin.zip_folder import ZipFolder


@hookimpl
def ganframe_generators() -> dict[str, type]:
    return {"mlp": MLPGenerator, "dcgan": DCGANGenerator, "resnet": ResNetGenerator}


@hookimpl
def ganframe_discriminators() -> dict[str, type]:
    return {"mlp": MLPDiscriminator, "dcgan": DCGANDiscriminator, "resnet": ResNetDiscriminator}


@hookimpl
def ganframe_objectives() -> dict[str, type]:
    return {"vanilla": Vanilla, "non_saturating": NonSaturating, "wgan": WGAN}


@hookimpl
def ganframe_constraints() -> dict[str, type]:
    return {"weight_clipping": WeightClipping, "gradient_penalty": GradientPenalty, "spectral_norm": SpectralNorm}


@hookimpl
def ganframe_datasets() -> dict[str, type]:
    return {
        "ring": Ring,
        "grid": Grid,
        "gaussian_1d": Gaussian1D,
        "swiss_roll": SwissRoll,
        "funnels": FunnelsCube,
        "funnels_moved": FunnelsMoved,
        "digits": Digits,
        "image_folder": ImageFolder,
        "npz": Npz,
        "huggingface": HuggingFace,
        "table": Table,
        "zip_folder": ZipFolder,
        "stacked": Stacked,
        "torchvision": TorchvisionDataset,
    }


@hookimpl
def ganframe_metrics() -> dict[str, type]:
    return {
        "modes": Modes,
        "wasserstein": Wasserstein,
        "mmd": MMD,
        "nearest": Nearest,
        "parzen": Parzen,
        "frechet": Frechet,
        "kernel": Kernel,
        "precision_recall": PrecisionRecall,
        "classes": Classes,
        "inception_score": InceptionScore,
    }


@hookimpl
def ganframe_features() -> dict[str, Callable[[Judging], Features]]:
    return {
        "classifier": classifier,
        "classifier_logits": classifier_logits,
        "effnet_lite0": effnet_lite0,
        "inception": inception,
        "inception_logits": inception_logits,
        "dinov2": dinov2,
    }
