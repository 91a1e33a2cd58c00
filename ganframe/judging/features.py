"""Feature vectors of samples, by the networks that plugins offer to metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe.components import DataSpec, Features, Judging
from ganframe.errors import RequestError
from ganframe.plugins.registry import FEATURES, Registry

PIXELS = "pixels"
CHUNK = 250  # samples that a network sees at a time, at most
NUMBERS = 2**22  # that these have together at most, where they are resized: 16 MiB of float32
RESIZER = "bilinear, antialiased"


class Extractor:
    """extractor(x) -> features (n, F) of samples x (n, *shape), float32 on the CPU.

    The features of a tensor that was seen before, or of its first rows, are not computed again: several metrics share
    the real samples.
    """

    def __init__(self, name: str, features: Features, spec: DataSpec, device: torch.device) -> None:
        self.name, self.features, self.spec, self.device = name, features, spec, device
        self.network = features.network.to(device).eval()
        self.seen: list[tuple[Tensor, int | None, Tensor]] = []
        if (features.size, features.channels) != (None, None) and not (spec.is_image and len(spec.shape) == 3):
            raise ValueError(f"features '{name}' are of images, and samples have shape {spec.shape}")
        if features.channels is not None and spec.shape[0] not in (1, features.channels):
            raise ValueError(
                f"features '{name}' are of images with {features.channels} channels, and these have {spec.shape[0]}; "
                "use others, as 'pixels' or 'classifier'"
            )

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        for given, version, found in self.seen:
            if _begins(x, given) and _version(x) == version:
                return found[: len(x)]
        parts = [self.network(self._fitted(part.to(self.device))) for part in x.split(self._chunk())]
        found = torch.cat([part.flatten(1).float().cpu() for part in parts])
        self.seen = [*self.seen[-3:], (x, _version(x), found)]  # real samples, and generated ones of several metrics
        return found

    def described(self) -> dict[str, Any]:
        """What stands in a score: the name, a hash of the weights, and what the plugin says about them."""
        size = self.features.size
        resized = {} if size is None else {"size": size, "resizer": RESIZER}
        return {"name": self.name, "hash": weights_hash(self.network), **resized, **self.features.about}

    def _chunk(self) -> int:
        size = self.features.size
        return CHUNK if size is None else max(1, min(CHUNK, NUMBERS // (size * size * (self.features.channels or 3))))

    def _fitted(self, x: Tensor) -> Tensor:
        """Images with the channels and the size that the network expects."""
        channels, size = self.features.channels, self.features.size
        if channels is not None and x.shape[1] == 1:
            x = x.expand(-1, channels, -1, -1)
        if size is not None and x.shape[2:] != (size, size):
            x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
        return x


def _begins(x: Tensor, other: Tensor) -> bool:
    """Whether x is `other`, or a view of its first rows."""
    same = x.data_ptr() == other.data_ptr() and x.stride() == other.stride() and x.dtype == other.dtype
    return same and x.shape[1:] == other.shape[1:] and len(x) <= len(other)


def _version(x: Tensor) -> int | None:
    """A number that grows where x is changed in place; None for tensors of inference mode, which have none."""
    return None if x.is_inference() else x._version


def known_name(name: str, registry: Registry) -> str:
    """The name of features in scores, however a recipe names them: plugin:name, or name alone of those built in."""
    if name == PIXELS:
        return name
    try:
        offered = registry.find(FEATURES, name)
    except RequestError as error:
        raise RequestError(f"{error}; '{PIXELS}' are the values themselves") from None
    plugin, own = registry.locate(offered)
    return own if plugin.name == "builtin" else registry.full_name(offered)


def find_features(name: str, judging: Judging, registry: Registry) -> Extractor:
    """The extractor of features by name. Raises ValueError where they do not suit the data, RequestError for others."""
    if name == PIXELS:
        return Extractor(PIXELS, Features(nn.Flatten()), judging.spec, judging.device)
    build: Callable[[Judging], Features] = registry.find(FEATURES, name)
    features = build(judging)
    if not isinstance(features, Features):
        raise ValueError(f"features '{name}' must return ganframe.Features, not {type(features).__name__}")
    return Extractor(known_name(name, registry), features, judging.spec, judging.device)


def weights_hash(network: nn.Module) -> str:
    """12 hexadecimal digits that identify the weights and buffers of a network by their values."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:12]
