"""Methods that are hard to express, each as small as it can be: what the protocol must carry. Used by test_protocol.py.

The networks are a few linear layers; what matters is what passes between the parts of a recipe.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from ganframe import Dataset, DataSpec, Discriminator, Term, hookimpl, option

# ------------------------------------------------------------------------------------------------- HiFi-GAN (2020)


@attrs.frozen
class Tones(Dataset):
    """Short sounds (1, 64), conditioned on their spectrum (33,)."""

    @property
    def spec(self) -> DataSpec:
        return DataSpec((1, 64), condition=(33,))

    def build(self) -> TensorDataset:
        generator = torch.Generator().manual_seed(0)
        time, pitch = torch.arange(64), torch.rand(256, 1, generator=generator) * 0.4 + 0.1
        x = torch.sin(pitch * time)
        return TensorDataset(x[:, None], torch.fft.rfft(x).abs())


class Periods(nn.Module):
    """Scores of several periods and scales, of different lengths, side by side, and all their features."""

    many_scores = True
    gives_extras = True

    def __init__(self) -> None:
        super().__init__()
        self.judges = nn.ModuleList(nn.Conv2d(1, 4, (5, 1), (3, 1)) for _ in range(3))
        self.heads = nn.ModuleList(nn.Conv2d(4, 1, (3, 1)) for _ in range(3))

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        scores = []
        for period, judge, head in zip((1, 2, 4), self.judges, self.heads, strict=True):
            h = F.leaky_relu(judge(x.unflatten(2, (-1, period))), 0.1)
            scores.append(head(h).flatten(1))
            if extras is not None:
                extras[f"features_{period}"] = h
        if extras is not None:
            extras["features"] = torch.cat([extras[f"features_{p}"].flatten(1) for p in (1, 2, 4)], dim=1)
        return torch.cat(scores, dim=1)


@attrs.frozen
class MultiPeriod(Discriminator):
    def build(self, data: DataSpec) -> nn.Module:
        return Periods()


@attrs.frozen
class Features(Term):
    """E|f(x) - f(G(y))| over the features of every judge (Kong et al. 2020, eq. 4)."""

    needs_real: ClassVar[str] = "scores"
    needs_extras: ClassVar[tuple[str, ...]] = ("features_1", "features_2", "features_4")

    def generator_term(self, turn) -> Tensor:
        pairs = [(turn.real.extras[name], turn.fake.extras[name]) for name in self.needs_extras]
        return sum((real.detach() - fake).abs().mean() for real, fake in pairs)


@attrs.frozen
class Spectrum(Term):
    """weight · E|spectrum of G(y) - y| (the mel loss of Kong et al. 2020, eq. 3)."""

    weight: float = option(45.0, help="weight", scheduled=True)

    def generator_term(self, turn) -> Tensor:
        return self.weight * (torch.fft.rfft(turn.fake.x[:, 0]).abs() - turn.fake.y).abs().mean()


# ------------------------------------------------------------------------------------------------- CTGAN (2019)


@attrs.frozen
class People(Dataset):
    """A table: age (a number), town (one of 3), job (one of 4). The condition asks for one town or one job."""

    @property
    def spec(self) -> DataSpec:
        return DataSpec((8,), condition=(7,), columns=(1, 3, 4))

    def build(self) -> TensorDataset:
        generator = torch.Generator().manual_seed(0)
        town, job = torch.randint(3, (512,), generator=generator), torch.randint(4, (512,), generator=generator)
        age = (town - 1 + 0.1 * torch.randn(512, generator=generator))[:, None]
        one_hot = torch.cat([F.one_hot(town, 3), F.one_hot(job, 4)], dim=1).float()
        asked = torch.rand(512, 1, generator=generator) < 0.5  # for the town, or for the job
        mask = torch.cat([asked.expand(-1, 3), ~asked.expand(-1, 4)], dim=1)
        return TensorDataset(torch.cat([age, one_hot], dim=1), one_hot * mask)

    def decode(self, x: Tensor, y: Tensor | None = None) -> list[tuple[float, int, int]]:
        return [(row[0].item(), int(row[1:4].argmax()), int(row[4:].argmax())) for row in x]


@attrs.frozen
class AsAsked(Term):
    """Cross-entropy between what the condition asks for and what G gives (Xu et al. 2019, section 4.3)."""

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> None:
        if data.columns is None or data.condition is None:
            raise ValueError("this term needs a table with columns and a conditional vector")

    def generator_term(self, turn) -> Tensor:
        given = turn.fake.x[:, 1:]
        return -(turn.fake.y * given.clamp_min(1e-6).log()).sum(1).mean()


@hookimpl
def ganframe_discriminators():
    return {"multi_period": MultiPeriod}


@hookimpl
def ganframe_datasets():
    return {"tones": Tones, "people": People}


@hookimpl
def ganframe_terms():
    return {
        "features": Features,
        "spectrum": Spectrum,
        "as_asked": AsAsked,
    }
