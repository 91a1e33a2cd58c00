"""A discriminator that augments its inputs in training."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ganframe_augment.transforms import require_images


class Augmented(nn.Module):
    """D ∘ T: the discriminator `inner` on augmented images in training mode, on the images themselves in evaluation.

    `name` is the constraint's, for messages.
    """

    name: str

    def __init__(self, inner: nn.Module) -> None:
        if any(isinstance(module, type(self)) for module in inner.modules()):
            raise ValueError(f"the discriminator already has {self.name}; apply it only once")
        super().__init__()
        self.inner = inner

    def augment(self, x: Tensor) -> Tensor:
        """Returns x (N, C, H, W) augmented, each image with its own random numbers."""
        raise NotImplementedError

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        require_images(self.name, x)
        return self.inner(self.augment(x) if self.training else x, *args, **kwargs)
