"""Features of torch-fidelity (Inception, DINOv2), and that library's metrics on them: FID, KID, IS, PRC.

torch-fidelity is the extra ganframe[fid]. It is imported only where its features are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from attrs.validators import ge
from torch import Tensor, nn

from ganframe import Features, Judging, Metric, option

NAMES = ("inception", "builtin:inception", "dinov2", "builtin:dinov2")  # on these torch-fidelity computes the metrics
INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
DINOV2 = "dinov2-vit-l-14"  # the network of Stein et al. 2023
DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
DINOV2_CODE = "https://github.com/facebookresearch/dinov2"
AT_A_TIME = 32  # images in the networks: 250 of 299×299 would need gigabytes


def inception(judging: Judging) -> Features:
    """InceptionV3 of FID (Heusel et al. 2017), 2,048 features, by torch-fidelity: the extra ganframe[fid].

    Only with these is the Fréchet distance called FID, and the kernel distance KID.
    """
    return _inception("2048", names={"frechet": "FID", "kernel": "KID"})


def inception_logits(judging: Judging) -> Features:
    """The logits of InceptionV3 without biases (1,008), for the Inception score, by torch-fidelity."""
    return _inception("logits_unbiased")


def dinov2(judging: Judging) -> Features:
    """DINOv2, ViT-L/14 (Oquab et al. 2023; Stein et al. 2023), 1,024 features, by torch-fidelity: ganframe[fid]."""
    fidelity = _imported("feature_extractor_dinov2", "dinov2")
    hub = Path(torch.hub.get_dir())
    weights = hub / "checkpoints" / Path(DINOV2_URL).name
    code = [hub / f"facebookresearch_dinov2_{branch}" for branch in ("main", "master")]
    if not weights.is_file() or not any(folder.is_dir() for folder in code):
        raise ValueError(
            f"features 'dinov2' need weights and code that are not there: download {DINOV2_URL} (1.2 GB) as {weights}, "
            f"and {DINOV2_CODE} as the folder {code[0]}"
        )
    network = _opened("dinov2", weights, lambda: fidelity.FeatureExtractorDinoV2(DINOV2, ["dinov2"]))
    return _features(network, model=DINOV2)


def frechet(generated: Tensor, real: Tensor) -> float:
    """torch-fidelity's Fréchet distance of features (n, F)."""
    fid = _imported("metric_fid")
    statistics = [fid.fid_features_to_statistics(side.double()) for side in (generated, real)]
    return fid.fid_statistics_to_metric(*statistics, False)[fid.KEY_METRIC_FID]


def kernel(generated: Tensor, real: Tensor, subsets: int, size: int, seed: int) -> dict[str, float]:
    """torch-fidelity's kernel distance of features (n, F), as the metric `kernel` names its numbers."""
    kid = _imported("metric_kid")
    found = kid.kid_features_to_metric(
        generated, real, kid_subsets=subsets, kid_subset_size=size, rng_seed=seed, verbose=False
    )
    return {"kernel": found[kid.KEY_METRIC_KID_MEAN], "kernel_std": found[kid.KEY_METRIC_KID_STD]}


def precision_recall(generated: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    """torch-fidelity's precision and recall of features (n, F)."""
    prc = _imported("metric_prc")
    found = prc.prc_features_to_metric(generated, real, prc_neighborhood=k, save_cpu_ram=True, verbose=False)
    return found[prc.KEY_METRIC_PRECISION], found[prc.KEY_METRIC_RECALL]


@attrs.frozen
class InceptionScore(Metric):
    """The Inception score (Salimans et al. 2016): exp E KL(p(class|x) ‖ p(class)), by torch-fidelity.

    `inception_score` is the mean over `splits` parts of the samples, `inception_score_std` the standard deviation. It
    looks at no real sample: it says how sure Inception is, and how varied its classes are. Published ones use 50,000
    samples of natural images; of other images it says little. It needs the extra ganframe[fid].
    """

    splits: int = option(10, help="parts of the samples, over which the mean is taken", validator=ge(1))

    needs = ("images",)
    better: ClassVar = {"inception_score": "higher"}
    samples = 50_000

    def build(self, judging: Judging) -> Callable[[Tensor, Tensor | None], dict[str, float]]:
        extract = judging.features("builtin:inception_logits")
        isc = _imported("metric_isc")

        def measure(x: Tensor, y: Tensor | None) -> dict[str, float]:
            if len(x) < self.splits:
                raise ValueError(f"{len(x)} samples are fewer than its {self.splits} parts")
            found = isc.isc_features_to_metric(extract(x), self.splits, True, judging.seed)
            return {
                "inception_score": found[isc.KEY_METRIC_ISC_MEAN],
                "inception_score_std": found[isc.KEY_METRIC_ISC_STD],
            }

        return measure


class AsBytes(nn.Module):
    """A network of torch-fidelity, which takes uint8 images of any size, for images in [-1, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        pixels = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return torch.cat([self.network(part)[0].flatten(1) for part in pixels.split(AT_A_TIME)])


def _inception(layer: str, **about: Any) -> Features:
    fidelity = _imported("feature_extractor_inceptionv3", "inception")
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(INCEPTION_URL).name
    if not file.is_file():
        raise ValueError(
            f"features 'inception' need weights that are not there: download {INCEPTION_URL} (91 MB) as {file}"
        )

    def build() -> nn.Module:
        torch.load(file, weights_only=True, map_location="cpu")  # the library would run code that a file holds
        name = "inception-v3-compat"
        return fidelity.FeatureExtractorInceptionV3(name, [layer], feature_extractor_weights_path=str(file))

    return _features(_opened("inception", file, build), **about)


def _features(network: nn.Module, **about: Any) -> Features:
    from importlib.metadata import version

    said = {"torch_fidelity": version("torch-fidelity"), "resizer": "torch-fidelity's"}
    return Features(AsBytes(network), channels=3, about=said | about)


def _opened(name: str, file: Path, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except Exception as error:  # torch and its hub raise different types for damaged files
        cause = " ".join(str(error).split())[:200]
        raise ValueError(f"features '{name}' cannot be opened from {file}: {cause}; download it again") from error


def _imported(module: str, name: str = "inception") -> Any:
    """A module of torch-fidelity. Raises ValueError where it is not installed."""
    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    except ImportError as error:
        raise ValueError(f"features '{name}' need torch-fidelity: pip install 'ganframe[fid]' ({error})") from error
