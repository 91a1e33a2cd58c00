"""Which layers of a discriminator can be made 1-Lipschitz, and by name what cannot be covered."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize

from ganframe import group_size, mixes_samples
from ganframe.layers import SelfAttention
from ganframe_lipschitz.kernels import CONVOLUTIONS, TRANSPOSED

LAYERS = (nn.Linear, nn.Embedding, *CONVOLUTIONS, *TRANSPOSED)
NORMALISATIONS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
NORMALISATIONS += (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def covered(D: nn.Module, constraint: str) -> list[nn.Module]:
    """The linear, convolution and embedding layers of D.

    Raises ValueError, one line that names the constraint and the place, for what has no bound by its weights: layers
    that mix samples or divide by a sample's own deviation, attention, other layers with weight matrices, padding that
    repeats pixels, weights that already have a parametrisation; and for a D without a layer to cover.
    """
    if mixes_samples(D) or group_size(D) > 1:
        raise ValueError(
            f"{constraint} bounds the slope by each sample, and this discriminator mixes the samples of a batch, as "
            "BatchNorm does; choose one that does not (built-in: norm = 'none')"
        )
    found = []
    for name, module in D.named_modules():
        if "parametrizations" in name.split("."):
            continue
        reason = _reason(module)
        if reason:
            kind = type(module).__name__.removeprefix("Parametrized")
            where = f"{kind}{f' {name}' if name else ''}"
            raise ValueError(f"{constraint} cannot make this discriminator 1-Lipschitz: its {where} {reason}")
        if isinstance(module, LAYERS):
            found.append(module)
    if not found:
        raise ValueError(
            f"{constraint} needs linear or convolution layers, and this discriminator has none; choose another one"
        )
    return found


def _reason(module: nn.Module) -> str:
    """Why a module cannot be covered, or nothing."""
    if isinstance(module, NORMALISATIONS):
        return "divides by each sample's own deviation, without a bound; leave it out (built-in: norm = 'none')"
    if isinstance(module, SelfAttention):
        return "multiplies functions of x, so it has no Lipschitz constant; leave attention out"
    if not isinstance(module, LAYERS):
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                return f"has the weight {name}, whose effect is not known; use linear or convolution layers"
        return ""
    if parametrize.is_parametrized(module, "weight"):
        return "already has a parametrisation, as by spectral_norm; use one constraint on weights"
    if isinstance(module, CONVOLUTIONS) and module.padding_mode != "zeros":
        return _padding_reason(module)
    return ""


def _padding_reason(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> str:
    """Why this padding is not covered: it repeats pixels, or goes round more than once."""
    padded = 0 if module.padding == "valid" else 1 if module.padding == "same" else max(module.padding)
    if not padded:
        return ""
    if module.padding_mode != "circular":
        return f"has padding_mode = '{module.padding_mode}', which repeats pixels; use 'zeros' or 'circular'"
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    twice = module.padding != "same" and any(2 * p > r for p, r in zip(module.padding, reach, strict=True))
    if twice or max(module.stride) > 1:
        return "has circular padding beyond its kernel, or with a stride, so it repeats outputs; use zero padding"
    return ""


def parametrized(layer: nn.Module, parametrization: nn.Module) -> nn.Module:
    """The layer, with a parametrisation of its weight on the device of the weight."""
    parametrize.register_parametrization(layer, "weight", parametrization.to(layer.weight.device))
    return layer
