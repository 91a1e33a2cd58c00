"""The latent space of a trained generator: ways from one latent to another, and sums of what groups have in common.

A latent is chosen by its place in the picture that `ganframe sample` draws. Knows trained generators, and the dataset
only where samples have to be told apart by class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from ganframe import runfolder
from ganframe.errors import RequestError
from ganframe.feed import Share, open_feed
from ganframe.recipe import load_recipe
from ganframe.sampling import TrainedGenerator, load_generator

Way = Literal["linear", "spherical"]
NEAREST = 5  # real samples that vote on the class of a generated one
LOOKED_AT = 10_000, 100_000_000  # real samples at the most, and numbers in them
SHOWN = 8  # samples of a group in the picture


def interpolate(start: Tensor, end: Tensor, steps: int = 9, path: Way = "spherical") -> Tensor:
    """`steps` latents from `start` to `end`, both included: (dim,) or (N, dim) each -> (steps, dim) or (steps, N, dim).

    "linear" goes straight through the middle, where Gaussian latents hardly ever lie: halfway between two of them the
    length is smaller by √2. "spherical" turns evenly from one direction to the other (White 2016, section 2.1) while
    its length goes evenly from one to the other; where the directions are one, or opposite, it is linear. (White's
    formula turns the vectors themselves: the same for equal lengths, and farther out than both ends where these are
    unequal and the angle is wide.) Raises ValueError for fewer than two steps and for shapes that differ.
    """
    if steps < 2:
        raise ValueError(f"steps = {steps}: a way has at least its two ends")
    if start.shape != end.shape:
        raise ValueError(f"the ends have shapes {tuple(start.shape)} and {tuple(end.shape)}")
    t = torch.linspace(0, 1, steps, dtype=torch.float64, device=start.device).view(-1, *[1] * start.ndim)
    a, b = start.double(), end.double()
    way = torch.lerp(a, b, t)
    if path == "spherical":
        a_length, b_length = (side.norm(dim=-1, keepdim=True) for side in (a, b))
        u, v = a / a_length, b / b_length
        angle = 2 * torch.atan2((u - v).norm(dim=-1, keepdim=True), (u + v).norm(dim=-1, keepdim=True))
        turned = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
        way = torch.where(
            angle.sin() > 1e-6, torch.lerp(a_length, b_length, t) * turned, way
        )  # NaN has no direction: linear
    elif path != "linear":
        raise ValueError(f"path = '{path}': it is linear or spherical")
    way = way.to(start.dtype)
    way[0], way[-1] = start, end  # to the last bit
    return way


def ways(
    G: TrainedGenerator,
    pairs: Sequence[tuple[str, str]],
    steps: int = 9,
    path: Way | None = None,
    label: int | None = None,
    seed: int = 0,
    n: int = 64,
) -> Tensor:
    """The samples (len(pairs), steps, *shape) on the ways between pairs of samples, chosen as in `arithmetic`.

    The path is spherical, but linear between uniform latents, unless it is given. All samples of a way have the label
    of its start, or `label`. Raises RequestError for samples that are not there, ValueError for such labels or steps.
    """
    starts, ends = ([choose(G, pair[side], seed, n) for pair in pairs] for side in (0, 1))
    start, end = (torch.cat([z for z, _ in side]) for side in (starts, ends))
    labels = torch.cat([y for _, y in starts]) if label is None else G.labels(label, len(pairs))
    way = interpolate(start, end, steps, path or ("linear" if G.latent.distribution == "uniform" else "spherical"))
    made = G.decode(way.transpose(0, 1).flatten(0, 1), labels.repeat_interleave(steps))
    return made.unflatten(0, (len(pairs), steps))


# ---------------------------------------------------------------------------------------------------------- arithmetic


@attrs.frozen
class Group:
    """Latents that are averaged, z (k, dim) with labels y (k,), and the sign with which the mean joins the sum."""

    sign: Literal[1, -1]
    z: Tensor
    y: Tensor

    @property
    def mean(self) -> Tensor:
        """(dim,)."""
        return self.z.mean(0)


@attrs.frozen
class Arithmetic:
    """A sum of groups' means: z (dim,), the label y to make it with, and the groups."""

    z: Tensor
    y: int
    groups: list[Group]


def arithmetic(run: str | Path, expression: str, seed: int = 0, n: int = 64, label: int | None = None) -> Arithmetic:
    """Adds and subtracts means of latents: "3,7,12 - 4,9,11 + 5,8,2" (Radford et al. 2015, section 6.3.2).

    A number is the place of a sample in the picture of `ganframe sample RUN -n N --seed S`, counted from 0 along its
    rows; "SEED:PLACE" is one in the picture of another seed, and "class=K" all in this picture that show class K: by
    their label where the generator is conditional, and else by the classes of the real samples nearest to them, for
    which the run's dataset must be at hand. The result has the class `label`; without it labels are added and
    subtracted too, and must leave one class.

    Raises RequestError where the expression cannot be read, or names what is not there.
    """
    G = load_generator(run)
    groups = [_group(run, G, sign, term, seed, n) for sign, term in _terms(expression)]
    z = torch.stack([group.sign * group.mean for group in groups]).sum(0)
    try:
        y = _label(G, groups) if label is None else int(G.labels(label, 1))
    except ValueError as error:
        raise RequestError(str(error)) from None
    return Arithmetic(z, y, groups)


def decode_result(G: TrainedGenerator, found: Arithmetic, noise: float = 0.0, n: int = 1) -> Tensor:
    """Samples (n, *shape) of the result, all but the first with noise from U(-noise, noise) on the latent."""
    offsets = torch.rand(n, len(found.z), generator=torch.Generator().manual_seed(0)).sub_(0.5).mul_(2 * noise)
    offsets[0] = 0
    return G.decode(found.z + offsets, torch.full((n,), found.y))


def rows(G: TrainedGenerator, found: Arithmetic) -> Tensor:
    """The picture of it, images (rows, columns, *shape) with 0 for none: each group behind its mean, then the result.

    The last row has the result, then samples near it, its latent with noise from U(-0.25, 0.25), as the paper has.
    """
    columns = 1 + SHOWN
    parts = [G.decode(torch.cat([g.mean[None], g.z[:SHOWN]]), torch.cat([g.y[:1], g.y[:SHOWN]])) for g in found.groups]
    parts.append(decode_result(G, found, noise=0.25, n=columns))
    blank = torch.zeros(columns, *G.spec.shape)
    return torch.stack([torch.cat([part, blank[len(part) :]]) for part in parts])


def choose(G: TrainedGenerator, item: str, seed: int, n: int) -> tuple[Tensor, Tensor]:
    """The latent (1, dim) and label (1,) of "PLACE" in the picture of `seed`, or of "SEED:PLACE"."""
    match = re.fullmatch(r"(?:(\d{1,18}):)?(\d{1,18})", item.strip())
    if match is None:
        raise RequestError(f"'{item.strip()}': write a sample's place, as in 7, or SEED:PLACE, as in 2:7")
    place = int(match[2])
    if place >= n:
        raise RequestError(f"'{item.strip()}': the picture has {n} samples, 0 to {n - 1}; -n makes it larger")
    z, y = G.latents(n, int(match[1] or seed))
    return z[place : place + 1], y[place : place + 1]


def _terms(expression: str) -> list[tuple[Literal[1, -1], str]]:
    """The signs and texts of "a + b - c"."""
    text = expression.strip()
    pieces = re.split(r"\s*([+-])\s*", text if text[:1] in ("+", "-") else f"+{text}")[1:]
    if not text or not all(pieces):
        raise RequestError(f"'{expression}': write groups of samples with + and - between, as in 3,7 - 4,9 + 5,8")
    return [(1 if sign == "+" else -1, term) for sign, term in zip(pieces[::2], pieces[1::2], strict=True)]


def _group(run: str | Path, G: TrainedGenerator, sign: Literal[1, -1], term: str, seed: int, n: int) -> Group:
    chosen = []
    for item in term.split(","):
        name, equals, value = item.strip().partition("=")
        chosen.append(
            _of_class(run, G, value, seed, n) if equals and name.strip() == "class" else choose(G, item, seed, n)
        )
    z, y = (torch.cat(side) for side in zip(*chosen, strict=True))
    return Group(sign, z, y)


def _of_class(run: str | Path, G: TrainedGenerator, text: str, seed: int, n: int) -> tuple[Tensor, Tensor]:
    """All samples of the picture that show a class."""
    classes = G.spec.classes
    if classes is None or not re.fullmatch(r"\d{1,18}", text.strip()) or int(text) >= classes:
        has = "no classes" if classes is None else f"classes 0 to {classes - 1}"
        raise RequestError(f"'class={text.strip()}': the data has {has}")
    z, y = G.latents(n, seed)
    shown = y if _conditional(G) else _nearest_classes(run, G, z, y)
    found = shown == int(text)
    if not found.any():
        raise RequestError(
            f"'class={text.strip()}': none of these {n} samples shows it; try another --seed or more by -n"
        )
    return z[found], y[found]


def _conditional(G: TrainedGenerator) -> bool:
    """Whether G heeds its labels: whether of some latents any class looks unlike class 0."""
    classes = G.spec.classes or 1
    z = G.latents(8, 0)[0].repeat_interleave(classes, 0)
    y = torch.arange(classes).repeat(8)
    return not torch.allclose(G.decode(z, y), G.decode(z), rtol=0, atol=0, equal_nan=True)


def _nearest_classes(run: str | Path, G: TrainedGenerator, z: Tensor, y: Tensor) -> Tensor:
    """The classes (n,) that the nearest real samples of the run's dataset have, by distance between samples."""
    recipe = load_recipe(runfolder.existing(run).recipe)
    try:
        data = recipe.dataset.build()
        most = min(LOOKED_AT[0], max(NEAREST, LOOKED_AT[1] // math.prod(G.spec.shape)))
        count = min(most, len(data))  # type: ignore[arg-type]
        real, labels = open_feed(data, G.spec, count, 0, Share(z.device))()
    except (ValueError, OSError) as error:
        raise RequestError(f"{run}: to tell its samples apart by class its dataset is needed: {error}") from None
    samples = G.decode(z, y).flatten(1)
    if not samples.isfinite().all():
        raise RequestError(f"{run}: its samples are not all finite, and have no class")
    judge = KNeighborsClassifier(min(NEAREST, len(real))).fit(real.flatten(1).numpy(), labels.numpy())
    return torch.from_numpy(judge.predict(samples.numpy()))


def _label(G: TrainedGenerator, groups: Sequence[Group]) -> int:
    """The class that is left when labels are added and subtracted as the latents are."""
    classes = G.spec.classes
    if classes is None or not _conditional(G):
        return 0
    total = sum(g.sign * torch.nn.functional.one_hot(g.y, classes).double().mean(0) for g in groups)
    assert isinstance(total, Tensor)
    left = int(total.argmax())
    if not torch.allclose(total, torch.nn.functional.one_hot(torch.tensor(left), classes).double()):
        raise RequestError(
            "the generator is told a class, and those of these samples do not add up to one; give the --label to make, "
            "or choose groups of one class each, which cancel but for one"
        )
    return left
