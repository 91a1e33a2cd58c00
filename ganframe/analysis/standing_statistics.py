"""Standing statistics: those of BatchNorm computed anew for the latents that are sampled (Brock et al. 2019)."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from ganframe.errors import RequestError

BATCH_SIZE = 64
SEED = 64  # the first of the batches' latents


class _Trained(nn.Module):
    """The network called with a batch {"z": …, "y": …}, of which BatchNorm alone has a training mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.network(batch["z"], batch["y"])

    def train(self, mode: bool = True) -> _Trained:
        for module in self.network.modules():
            if isinstance(module, _BatchNorm):
                module.train(mode)
        return self


@torch.no_grad()
def with_standing_statistics(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> nn.Module:
    """A copy whose BatchNorm has the means, over batches of (z, y), of their means and variances. In evaluation mode.

    All else is in evaluation mode meanwhile, as in sampling. Raises RequestError where the network has no BatchNorm.
    """
    if not any(isinstance(module, _BatchNorm) and module.running_mean is not None for module in network.modules()):
        raise RequestError("standing statistics are those of BatchNorm, and this generator has none; leave them out")
    found = copy.deepcopy(network).eval()
    update_bn(({"z": z, "y": y} for z, y in batches), _Trained(found))
    return found.eval()
