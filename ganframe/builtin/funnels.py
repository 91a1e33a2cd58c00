"""A pair of distributions whose W1 and optimal critic are known, in any dimension.

The benchmark of Korotin, Kolesov and Burnaev 2022, "Kantorovich strikes back". f(x) = min_k ‖x - c_k‖ + o_k is made of
"funnels" with centres c_k. q is uniform on the cube [-2.5, 2.5]^d. p has each point of q moved along its ray, from the
centre of its funnel: from the share t of the ray's length to the share t^degree. The ray ends where it leaves the
funnel or the cube. Along it f grows as the length does, so E_q f - E_p f is the cost of this transport; f is
1-Lipschitz, so it is also a lower bound on the cost of any other. Both are W1, and -f is an optimal critic.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import numpy as np
import torch
from attrs.validators import ge
from torch import Tensor

from ganframe import Dataset, DataSpec, Distribution, option

SIDE = 5.0  # of the cube
SPREAD = 0.1  # standard deviation of the offsets
NUMBERS = 2**22  # distances in memory at a time: 32 MiB


class Funnels:
    """f(x) = min_k ‖x - c_k‖ + o_k of centres c (K, d) and offsets o (K,); the gradient has norm 1 almost everywhere.

    Computed in float64, as points near the bounds of funnels need it; in float32 on devices that have no more.
    """

    def __init__(self, centres: Tensor, offsets: Tensor) -> None:
        self.centres, self.offsets = centres.double(), offsets.double()

    def __call__(self, x: Tensor) -> Tensor:
        """f (n,) of x (n, d). It can be differentiated."""
        self._move(x.device)
        x = x.to(self.centres.dtype)
        k = self.nearest(x.detach())
        return torch.linalg.vector_norm(x - self.centres[k], dim=1) + self.offsets[k]

    def nearest(self, x: Tensor) -> Tensor:
        """The funnel (n,) that each point x (n, d) is in."""
        return (torch.cdist(x, self.centres) + self.offsets).argmin(1)

    def same_as(self, other: Funnels) -> bool:
        """Whether both have the same centres and offsets."""
        pairs = (self.centres, other.centres), (self.offsets, other.offsets)
        return all(torch.equal(one.cpu().double(), two.cpu().double()) for one, two in pairs)

    def points(self, n: int, generator: torch.Generator) -> Tensor:
        """n points (n, d), uniform on the cube, drawn on the generator's device."""
        self._move(generator.device)
        d, dtype = self.centres.shape[1], self.centres.dtype
        return SIDE * (torch.rand(n, d, generator=generator, device=generator.device, dtype=dtype) - 0.5)

    def moved(self, x: Tensor, degree: float) -> Tensor:
        """Points x (n, d) of the cube, each moved along the ray from its centre, as this module says."""
        size = max(1, NUMBERS // max(self.centres.shape))
        return torch.cat([self._moved(part, degree) for part in x.split(size)])

    def _moved(self, x: Tensor, degree: float) -> Tensor:
        k = self.nearest(x)
        centre = self.centres[k]
        along = torch.linalg.vector_norm(x - centre, dim=1)
        v = (x - centre) / along.clamp_min(torch.finfo(x.dtype).tiny)[:, None]
        length = along + self._room(x, k, along, v)
        return centre + (length * (along / length) ** degree)[:, None] * v

    def _room(self, x: Tensor, k: Tensor, along: Tensor, v: Tensor) -> Tensor:
        """How far (n,) the rays from x in the unit directions v stay in funnel k and in the cube.

        At r beyond x, funnel j has the value of funnel k, f + r, where ‖x - c_j + r v‖ = f - o_j + r. The squares are
        equal at r = ½ (‖x - c_j‖² - (f - o_j)²) / (f - o_j - ⟨x - c_j, v⟩). As f is the smallest, the ray meets the
        funnel where the denominator is above 0, and there alone.
        """
        inside = torch.where(v == 0, math.inf, (SIDE / 2 * v.sign() - x) / v).amin(1)
        height = (along + self.offsets[k])[:, None] - self.offsets
        toward = (x * v).sum(1, keepdim=True) - v @ self.centres.T
        denominator = height - toward
        r = (torch.cdist(x, self.centres).square() - height.square()).clamp_min(0) / (2 * denominator)
        elsewhere = torch.arange(len(self.centres), device=x.device) != k[:, None]
        meets = torch.where((denominator > 0) & elsewhere, r, math.inf).amin(1)
        longest = SIDE * math.sqrt(x.shape[1])  # for a point at its centre, which has no direction
        return torch.minimum(inside, meets).clamp(0, longest)

    def _move(self, device: torch.device) -> None:
        if self.centres.device != device:
            dtype = torch.float32 if device.type == "mps" else torch.float64
            self.centres, self.offsets = (t.to(device, dtype) for t in (self.centres, self.offsets))


class _Points(Distribution):
    """The points of the cube, moved by `degree`; those of degree 1 stay where they are."""

    def __init__(self, funnels: Funnels, degree: float) -> None:
        self.funnels, self.degree = funnels, degree

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = self.funnels.points(n, generator)
        if self.degree != 1:
            x = self.funnels.moved(x, self.degree)
        return x.float(), torch.zeros(n, dtype=torch.long, device=x.device)

    def optimal_critic(self, other: Distribution) -> Callable[[Tensor], Tensor]:
        """-f, or f where the other side has been moved farther: both sides must be of the same funnels.

        The cube itself is that of any funnels in as many dimensions.
        """
        if not isinstance(other, _Points):
            raise NotImplementedError
        mine, others = self.funnels, other.funnels
        if not mine.same_as(others) and self.degree != 1 and other.degree != 1:
            raise NotImplementedError
        f, sign = (mine, -1.0) if self.degree >= other.degree else (others, 1.0)
        return lambda x: sign * f(x)


@attrs.frozen
class _Pair(Dataset):
    """The options of a pair."""

    dimension: int = option(2, help="dimensions d of the samples", validator=ge(1))
    funnels: int = option(4, help="number of funnels", validator=ge(1))
    degree: float = option(
        8.0, help="exponent by which points are moved to the centres; 1 leaves them", validator=ge(1)
    )
    seed: int = option(0, help="seed of the centres and offsets", validator=ge(0))
    file: str | None = option(
        None, help="NumPy file (.npz) with centres_<d>_<K> (K, d) and offsets_<d>_<K> (K,), in the place of the seed"
    )

    @property
    def spec(self) -> DataSpec:
        return DataSpec((self.dimension,))

    def _funnels(self) -> Funnels:
        if self.file is not None:
            return read_funnels(Path(self.file).expanduser(), self.dimension, self.funnels)
        random = np.random.default_rng(self.seed)  # torch's samples of the same seed would lie at torch's centres
        centres = random.uniform(-SIDE / 2, SIDE / 2, (self.funnels, self.dimension))
        return Funnels(torch.from_numpy(centres), torch.from_numpy(random.normal(0, SPREAD, self.funnels)))


@attrs.frozen
class FunnelsMoved(_Pair):
    """p of a pair with a known W1 (Korotin et al. 2022): points of the cube, moved towards centres of funnels.

    The centres are uniform on the cube [-2.5, 2.5]^d and the offsets N(0, 0.1²), drawn with `seed`. `funnels` is the
    other side.
    """

    def build(self) -> Distribution:
        return _Points(self._funnels(), self.degree)

    def fingerprint(self) -> Mapping[str, str | int]:
        funnels = self._funnels()
        values = b"".join(t.numpy().tobytes() for t in (funnels.centres, funnels.offsets))
        return {"centres and offsets": hashlib.sha256(values).hexdigest()[:32]}


@attrs.frozen
class FunnelsCube(_Pair):
    """q of a pair with a known W1 (Korotin et al. 2022): uniform on the cube [-2.5, 2.5]^d.

    Its options are those of `funnels_moved`, so that a table can be copied. The samples depend on `dimension` alone.
    """

    def build(self) -> Distribution:
        return _Points(self._funnels(), 1)


def read_funnels(file: Path, dimension: int, funnels: int) -> Funnels:
    """The centres and offsets in a file of many pairs. Raises ValueError where they are not there, or not sound."""
    shapes = {"centres": (funnels, dimension), "offsets": (funnels,)}
    found = {}
    try:
        opened = np.load(file, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array; save both with numpy.savez")
        with opened as arrays:
            for name, shape in shapes.items():
                key = f"{name}_{dimension}_{funnels}"
                if key not in arrays:
                    there = sorted(each.removeprefix("centres_") for each in arrays if each.startswith("centres_"))
                    pairs = ", ".join(there[:20]) or "none"
                    raise ValueError(f"it has no {key}; its pairs <dimension>_<funnels>: {pairs}")
                found[name] = torch.from_numpy(np.asarray(arrays[key], dtype=np.float64))
                if found[name].shape != shape:
                    raise ValueError(f"{key} has shape {tuple(found[name].shape)}, not {shape}")
                if not found[name].isfinite().all():
                    raise ValueError(f"{key} has values that are not finite")
    except FileNotFoundError:
        raise ValueError(f"file: {file}: no such file") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"file: {file}: {' '.join(str(error).split())}") from None
    return Funnels(found["centres"], found["offsets"])
