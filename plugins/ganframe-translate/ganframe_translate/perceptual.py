"""The term `perceptual`: the distance of each sample to its right answer in features of a network, not in pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs
import torch
from attrs.validators import deep_iterable, ge, instance_of
from torch import Tensor, nn

from ganframe import Dataset, DataSpec, Parts, Term, Turn, option
from ganframe_translate.classifier import Classifier, trained_classifier

DISCRIMINATOR, CLASSIFIER = "discriminator", "classifier"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, on which torchvision's networks are trained
LAYERS = {
    DISCRIMINATOR: ("features",),
    CLASSIFIER: ("3",),
    "vgg19": ("features.35",),  # after ReLU 5_4, before the pooling: SRGAN's VGG5.4
    "vgg16": ("features.22",),  # ReLU 4_3
    "resnet18": ("layer3",),
}
"""The layers that are compared by default."""


@attrs.frozen
class Perceptual(Term):
    """weight · Σ over layers of E‖φ(x) - φ(G(z, y))‖, the distance of each sample to the real one of its y in features.

    `features` says whose: the discriminator's extras (feature matching of pix2pixHD, Wang et al. 2018, eq. 4); those
    of a classifier trained on the labelled images `of`, with layers "1", "2" and "3"; or those of a network of
    torchvision by its name, as "vgg19", with layers by torchvision's names (Johnson et al. 2016, eq. 2; SRGAN, Ledig et
    al. 2017, eq. 5). Distances are means over all numbers of a layer: |·| with `distance` = "l1", the square with "l2".

    Weights of torchvision's networks are read from the file `weights`, or from torch.hub's folder if they are there;
    they are downloaded only with `download`. x is scaled as for ImageNet, and grey images get three equal channels.
    """

    weight: float = option(1.0, help="weight of the term", validator=ge(0), scheduled=True)
    features: str = option(
        DISCRIMINATOR, help='"discriminator", "classifier", or a network of torchvision.models, as "vgg19"'
    )
    layers: tuple[str, ...] = option(
        (),
        help='names of layers; by default "features", "3", "features.35" of vgg19 (VGG5.4)',
        validator=deep_iterable(instance_of(str)),
    )
    distance: Literal["l1", "l2"] | None = option(
        None, help="l1 or l2; by default l1 of a discriminator, as in pix2pixHD, and else l2, as in SRGAN"
    )
    of: Dataset | None = option(None, help="labelled images that the classifier is trained on, of the form of x")
    weights: str | None = option(None, help="file of the weights of torchvision's network, .pth or .safetensors")
    download: bool = option(False, help="download these weights if they are not there")

    def __attrs_post_init__(self) -> None:
        if (self.of is not None) != (self.features == CLASSIFIER):
            raise ValueError('of: labelled images belong to features = "classifier", which needs them')
        if (self.weights is not None or self.download) and self.features in (DISCRIMINATOR, CLASSIFIER):
            raise ValueError(f'weights, download: only for networks of torchvision, and features = "{self.features}"')
        if self.features == CLASSIFIER and not set(self.compared) <= {"1", "2", "3"}:
            raise ValueError('layers: those of the classifier are "1", "2" and "3"')
        if not self.compared:
            raise ValueError(f'layers: name those of {self.features} to compare, as in ["features.35"] of vgg19')

    @property
    def compared(self) -> tuple[str, ...]:
        """The layers that are compared."""
        return self.layers or LAYERS.get(self.features, ())

    @property
    def needs_real(self) -> Literal["x", "scores"]:  # type: ignore[override]
        return "scores" if self.features == DISCRIMINATOR else "x"

    @property
    def needs_extras(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.compared if self.features == DISCRIMINATOR else ()

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts | None:
        if data.condition is None:
            raise ValueError(
                "compares each fake with the real sample that has its condition, and this data has no conditions; "
                "choose a dataset of pairs (here: paired_images, derived)"
            )
        if self.features == DISCRIMINATOR:
            return None
        if not data.is_image or len(data.shape) != 3:
            raise ValueError(f'features = "{self.features}" needs images, and samples have shape {data.shape}')
        if self.of is not None:
            if self.of.spec.shape != data.shape:
                raise ValueError(f"of: its images have shape {self.of.spec.shape}, and samples {data.shape}")
            return Parts(frozen=_OfClassifier(trained_classifier(self.of), self.compared))
        if data.shape[0] not in (1, 3):
            raise ValueError(f"{self.features} sees images of 1 or 3 channels, and samples have {data.shape[0]}")
        network = _OfTorchvision(self.features, self.compared, _weights(self.features, self.weights, self.download))
        try:
            with torch.no_grad():
                network.eval()(torch.zeros(1, *data.shape))
        except RuntimeError as error:
            what = str(error).splitlines()[0]
            raise ValueError(f"{self.features} cannot be used on images {data.shape}: {what}") from None
        return Parts(frozen=network)

    def generator_term(self, turn: Turn) -> Tensor:
        real, fake = turn.real, turn.fake
        assert real is not None
        if self.features == DISCRIMINATOR:
            pairs = [(real.extras[name].detach(), fake.extras[name]) for name in self.compared]
        else:
            network = turn.parts.frozen
            assert network is not None
            with torch.no_grad():
                wanted = network(real.x)
            pairs = list(zip(wanted, network(fake.x), strict=True))
        l1 = self.distance == "l1" or (self.distance is None and self.features == DISCRIMINATOR)
        apart = [a - b for a, b in pairs]
        return self.weight * torch.stack([(d.abs() if l1 else d.square()).mean() for d in apart]).sum()


class _OfClassifier(nn.Module):
    """x -> the outputs of the stages of a classifier with these numbers."""

    def __init__(self, network: Classifier, stages: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.stages = network, stages

    def forward(self, x: Tensor) -> list[Tensor]:
        found = self.network.features(x)
        return [found[int(stage) - 1] for stage in self.stages]


class _OfTorchvision(nn.Module):
    """x (N, 1 or 3, H, W) with values in [-1, 1] -> outputs of layers of a network of torchvision, of x's own size."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, layers: tuple[str, ...], state: dict[str, Any]) -> None:
        super().__init__()
        from torchvision.models import get_model
        from torchvision.models.feature_extraction import create_feature_extractor

        network = get_model(name, **({"init_weights": False} if name.startswith("vgg") else {}))
        try:
            network.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            what = " ".join(str(error).split())[:120]
            raise ValueError(f"weights: they are not those of torchvision's {name}: {what}") from None
        known = {module for module, _ in network.named_modules()}
        if unknown := [layer for layer in layers if layer not in known]:
            raise ValueError(f"layers: {name} has no {', '.join(unknown)}; it has {', '.join(sorted(known)[1:40])}")
        self.layers = layers
        for module in network.modules():  # a layer before a ReLU would be changed by it
            if hasattr(module, "inplace"):
                module.inplace = False
        self.network = create_feature_extractor(network.eval(), {layer: layer for layer in layers})
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = self.network(((x + 1) / 2 - self.mean) / self.std)
        return [found[layer] for layer in self.layers]


def _weights(name: str, file: str | None, download: bool) -> dict[str, Any]:
    """The weights of torchvision's network: from a file, torch.hub's folder, or a download that was asked for."""
    from torchvision.models import get_model_weights, list_models

    if name not in list_models():
        raise ValueError(f'features: "{name}" is not "discriminator", "classifier" or a network of torchvision.models')
    known = get_model_weights(name).DEFAULT
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(known.url).name if file is None else Path(file).expanduser()
    if file is None and not path.is_file():
        if not download:
            raise ValueError(
                f"the weights of {name} are not here: put {known.url} into {folder}, name its file in `weights`, or "
                "set download = true"
            )
        try:
            return known.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{known.url} cannot be downloaded: {error}") from None
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
    """A state from a file. Raises ValueError where it holds none."""
    if not path.is_file():
        raise ValueError(f"weights: {path} is no file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises different types for files that are none of its own
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: it cannot be read as weights: {what}") from None
