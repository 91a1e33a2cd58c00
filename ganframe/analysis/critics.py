"""The critics of a certificate: functions of a sample whose Lipschitz constant is proved."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from ganframe.analysis.alone import train_alone
from ganframe.analysis.bounds import Bound, NoBound, certified_bound
from ganframe.analysis.sides import Side, as_recipe
from ganframe.components import Dataset, DataSpec
from ganframe.declarations import group_size, mean_scores
from ganframe.errors import RequestError, RunError
from ganframe.recipes.tables import CriticRecipe
from ganframe.training.networks import build_discriminator, copied
from ganframe.training.prepare import prepare

NUMBERS = 2**22  # of samples that are scored at a time, or of their distances

# Dense layers of spectral norm 1 with sorted pairs, which keep the gradient's norm where ReLU loses it (Anil, Lucas,
# Grosse 2019). It needs no plugin.
DEFAULT = """
[discriminator]
use = "builtin:mlp"
hidden = [128, 128]
activation = "maxmin"

[objective]
use = "builtin:wgan"

[[constraints]]
use = "builtin:spectral_norm"

[optimizer.discriminator]
use = "Adam"
lr = 2e-3
betas = [0.5, 0.9]

[train]
steps = 1000
batch_size = 256
"""


class Trained(nn.Module):
    """forward(x, y) -> the mean score (N,) of D at samples that are centred and scaled.

    The score has the scale of the samples again, so that its Lipschitz constant is D's.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, D: nn.Module, centre: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.D = D
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.scale * mean_scores(self.D((x - self.centre) / self.scale, y))


class Nearest(nn.Module):
    """forward(x, y) -> ± the distance (N,) to the nearest of some points, in float64.

    Its Lipschitz constant is 1, whatever the points are.
    """

    points: Tensor
    sign: Tensor

    def __init__(self, points: Tensor, sign: int = 1) -> None:
        super().__init__()
        self.register_buffer("points", points.clone())  # not a view, which could not be saved
        self.register_buffer("sign", torch.tensor(float(sign)))

    def lipschitz_constant(self) -> float:
        """1, by the triangle inequality: the distances of x and x' to one point differ by at most ‖x - x'‖."""
        return 1.0

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        points = self.points.flatten(1).double()
        centre = points.mean(0)  # near 0 matrix products of float64 find the nearest point, wherever the data lies
        x, points = x.flatten(1).double() - centre, points - centre
        best = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        for block in points.split(max(1, NUMBERS // max(len(x), points.shape[1]))):
            near = block[torch.cdist(x, block).argmin(1)]
            # Matrix products round differences; these are exact.
            best = torch.minimum(best, torch.linalg.vector_norm(x - near, dim=1))
        return self.sign.sign() * best


def constant(critic: nn.Module, spec: DataSpec) -> Bound:
    """The Lipschitz constant of a critic, from above. Raises RequestError where it has no certificate."""
    try:
        return certified_bound(critic.eval(), torch.zeros(1, *spec.shape), spec.blank(1))
    except NoBound as error:
        raise RequestError(f"the critic has no certificate: {error}; --set discriminator.use=… names another") from None


@torch.no_grad()
def scores(critic: nn.Module, x: Tensor, spec: DataSpec, device: torch.device) -> Tensor:
    """The scores (n,) of samples x (n, *shape), in float64, on the CPU. Raises RunError where they are not finite."""
    exact = copied(critic, critic).double().eval().to(device)
    parts = x.split(max(1, NUMBERS // x[:1].numel()))
    found = torch.cat([exact(part.to(device).double(), spec.blank(len(part), device)).cpu() for part in parts])
    if not found.isfinite().all():
        raise RunError("the critic's scores are not finite: it has diverged; lower optimizer.discriminator.lr")
    return found


# ------------------------------------------------------------------------------------------------------------ training


@attrs.frozen(eq=False)
class Samples(Dataset):
    """Samples x (n, *shape) in memory, as a dataset of a recipe. All of them are for training."""

    x: Tensor
    spec: DataSpec

    def build(self) -> TensorDataset:
        return TensorDataset(self.x, torch.zeros(len(self.x), dtype=torch.long))

    def held_out(self) -> TensorDataset:
        return self.build()  # else a comparison would hold out a part


def train(recipe: CriticRecipe, data: Tensor, against: Tensor, spec: DataSpec, seed: int, shown: bool) -> Trained:
    """The critic of a recipe, trained to score `data` (n, *shape) above `against` (m, *shape).

    Raises RequestError where it cannot be built for samples of this spec, or mixes samples.
    """
    centre, scale = torch.zeros(spec.shape), torch.ones(())
    if not spec.is_image:
        both = torch.cat([data, against]).double()
        centre = both.mean(0)
        spread = (both - centre).square().mean().sqrt()
        centre, scale = centre.float(), (spread if spread > 0 else torch.ones(())).float()
    pairs = ((data, seed), (against, seed + 1))
    sides = [Side(Samples((x - centre) / scale, spec), order) for x, order in pairs]
    comparison = recipe.between(sides[0].source, sides[1].source, seed)  # type: ignore[arg-type]
    size = min(comparison.train.batch_size, len(data), len(against))
    comparison = attrs.evolve(comparison, train=attrs.evolve(comparison.train, batch_size=size))
    trainer = prepare(as_recipe(comparison, *sides))
    if trainer.accelerator.num_processes > 1:
        raise RequestError("ganframe certify works in one process")
    D = trainer.state.D.network
    refuse_groups(D)
    for _ in train_alone(trainer, shown):
        pass
    return Trained(D.eval().cpu(), centre, scale)


def untrained(recipe: CriticRecipe, spec: DataSpec) -> Trained:
    """The critic of a recipe with any weights, to load others into."""
    nothing = Samples(torch.zeros(1, *spec.shape), spec)
    D = build_discriminator(recipe.between(nothing, nothing, 0), spec, torch.device("cpu"))
    refuse_groups(D)
    return Trained(D.eval(), torch.zeros(spec.shape), torch.ones(()))


def refuse_groups(D: nn.Module) -> None:
    if group_size(D) > 1:
        raise RequestError(f"the critic mixes groups of {group_size(D)} samples, so that one sample has no score")
