"""Arithmetic of latents: sums and differences of the means of groups (Radford et al. 2015, section 6.3.2)."""

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

from ganframe.analysis.interpolation import choose
from ganframe.analysis.trained import TrainedGenerator, load_generator
from ganframe.components import DataSpec
from ganframe.data.classes import label_of, shown_class
from ganframe.data.real import real_samples
from ganframe.errors import RequestError, counted
from ganframe.recipes.problems import Problems
from ganframe.recipes.reading import load_recipe
from ganframe.storage import run_folder

NEIGHBOURS = 5  # real samples that vote on the class of a generated one
LOOKED_AT = 10_000, 100_000_000  # at most so many real samples, and numbers in them
SHOWN = 8  # samples of a group in the picture


@attrs.frozen
class Group:
    """Latents that are averaged, z (k, dim) with y (k,) or (k, *condition), and the sign of their mean in the sum."""

    sign: Literal[1, -1]
    z: Tensor
    y: Tensor

    @property
    def mean(self) -> Tensor:
        """(dim,)."""
        return self.z.mean(0)


@attrs.frozen
class Arithmetic:
    """The sum of groups' means: a latent z (dim,), the label or condition y to decode it with, and the groups."""

    z: Tensor
    y: int | Tensor
    groups: list[Group]


def arithmetic(
    run: str | Path,
    expression: str,
    seed: int = 0,
    n: int = 64,
    label: int | str | None = None,
    step: int | None = None,
) -> Arithmetic:
    """Adds and subtracts means of latents: "3,7,12 - 4,9,11 + 5,8,2".

    A number is the place of a sample in the picture of `ganframe sample RUN -n N --seed S`, counted from 0 along its
    rows. "SEED:PLACE" is a sample in the picture of another seed. "class=K" is all samples in this picture of class K:
    by their label where the generator heeds labels, else by the classes of the nearest real samples, for which the
    run's dataset is needed. The result has the class `label`; by default labels are added and subtracted too, and one
    class must remain. Where the data has conditions, all samples have the first of those that the run keeps.

    `step` is that of an earlier checkpoint.

    Raises RequestError where the expression cannot be read, or names what does not exist.
    """
    return evaluate(load_generator(run, step=step), run, expression, seed, n, label)


def evaluate(
    G: TrainedGenerator, run: str | Path, expression: str, seed: int = 0, n: int = 64, label: int | str | None = None
) -> Arithmetic:
    """`arithmetic` with the generator of `run` loaded already."""
    G = G.under_one_condition()
    groups = [_group(run, G, sign, term, seed, n) for sign, term in _terms(_with_labels(expression, G.spec))]
    z = torch.stack([group.sign * group.mean for group in groups]).sum(0)
    try:
        if label is not None:
            y: int | Tensor = int(G.labels(label, 1))
        else:
            y = _remaining_class(G, groups) if G.spec.condition is None else groups[0].y[0]
    except ValueError as error:
        raise RequestError(str(error)) from None
    return Arithmetic(z, y, groups)


def decode_result(G: TrainedGenerator, found: Arithmetic, noise: float = 0.0, n: int = 1) -> Tensor:
    """Samples (n, *shape) of the result; all but the first with noise from U(-noise, noise) on the latent."""
    offsets = torch.rand(n, len(found.z), generator=torch.Generator().manual_seed(0)).sub_(0.5).mul_(2 * noise)
    offsets[0] = 0
    y = torch.as_tensor(found.y)
    return G.decode(found.z + offsets, y.expand(n, *y.shape))


def picture_rows(G: TrainedGenerator, found: Arithmetic) -> Tensor:
    """Samples (rows, columns, *shape) for a picture, 0 where there is none.

    A row for each group: the sample of its mean, then its samples. The last row: the result, then samples near it, its
    latent with noise from U(-0.25, 0.25), as in the paper.
    """
    columns = 1 + SHOWN
    parts = [G.decode(torch.cat([g.mean[None], g.z[:SHOWN]]), torch.cat([g.y[:1], g.y[:SHOWN]])) for g in found.groups]
    parts.append(decode_result(G, found, noise=0.25, n=columns))
    blank = torch.zeros(columns, *G.spec.shape)
    return torch.stack([torch.cat([part, blank[len(part) :]]) for part in parts])


def _with_labels(expression: str, spec: DataSpec) -> str:
    """The expression with #LABEL in the place of each name of a class, which may hold signs: class=t-shirt."""
    names = spec.class_names or ()
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = rf"(class\s*=\s*)({either})(?=\s*(?:[-+,]|$))"
    return re.sub(pattern, lambda found: f"{found[1]}#{names.index(found[2])}", expression) if names else expression


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
    """The latents and labels of all samples of the picture that are of a class."""
    classes, text = G.spec.classes, text.strip()
    if classes is None:
        raise RequestError(f"'class={text}': the data has no classes")
    try:
        label = int(text[1:]) if re.fullmatch(r"#\d+", text) else label_of(G.spec, text)
    except ValueError as error:
        raise RequestError(f"'class={text}': {error}") from None
    if not 0 <= label < classes:
        raise RequestError(f"'class={text}': the data has classes 0 to {classes - 1}")
    z, y = G.latents(n, seed)
    text = text if text[:1] != "#" or G.spec.class_names is None else G.spec.class_names[label]
    shown = y if G.heeds_y else _nearest_classes(run, G, z, y)
    found = shown == label
    if not found.any():
        raise RequestError(
            f"'class={text}': none of {counted(n, 'sample')} is of this class, {shown_class(G.spec, label)}; try "
            "another --seed or more by -n"
        )
    return z[found], y[found]


def _nearest_classes(run: str | Path, G: TrainedGenerator, z: Tensor, y: Tensor) -> Tensor:
    """The classes (n,) of the real samples that are nearest to the generated ones, by a vote of NEIGHBOURS."""
    recipe = load_recipe(run_folder.existing(run).recipe, registry=G.registry)
    most = min(LOOKED_AT[0], max(NEIGHBOURS, LOOKED_AT[1] // math.prod(G.spec.shape)))
    problems = Problems(str(run))
    place = "its dataset is needed to tell samples apart by class"
    opened = problems.attempt(place, lambda: real_samples(recipe.dataset.build(), G.spec, most, 0, z.device))
    problems.raise_any()
    real, labels = opened
    samples = G.decode(z, y).flatten(1)
    if not samples.isfinite().all():
        raise RequestError(f"{run}: its samples are not all finite, so they have no class")
    classifier = KNeighborsClassifier(min(NEIGHBOURS, len(real))).fit(real.flatten(1).numpy(), labels.numpy())
    return torch.from_numpy(classifier.predict(samples.numpy()))


def _remaining_class(G: TrainedGenerator, groups: Sequence[Group]) -> int:
    """The class that remains when labels are added and subtracted as the latents are."""
    classes = G.spec.classes
    if classes is None or classes == 1 or not G.heeds_y:
        return 0
    total = sum(g.sign * torch.nn.functional.one_hot(g.y, classes).double().mean(0) for g in groups)
    assert isinstance(total, Tensor)
    left = int(total.argmax())
    if not torch.allclose(total, torch.nn.functional.one_hot(torch.tensor(left), classes).double()):
        raise RequestError(
            "the generator is conditional, and the classes of these samples do not add up to one class; give the "
            "--label of the result, or choose groups of one class each that cancel except for one"
        )
    return left
