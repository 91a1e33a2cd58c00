"""Arithmetic of latents: sums and differences of the means of groups (Radford et al. 2015, section 6.3.2)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs
import torch
from torch import Tensor

from ganframe.analysis.interpolation import choose
from ganframe.analysis.latent_files import file_of, space_of
from ganframe.analysis.spaces import Space, in_space
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
    """Latents that are averaged, z (k, dim) with y (k,) or (k, *condition), and the sign of their mean in the sum.

    `text` is the group as the expression names it.
    """

    sign: Literal[1, -1]
    z: Tensor
    y: Tensor
    text: str = ""

    @property
    def mean(self) -> Tensor:
        """(dim,)."""
        return self.z.mean(0)


@attrs.frozen
class Arithmetic:
    """The sum of groups' means: a latent z (dim,), the label or condition y to decode it with, and the groups.

    With space "w" all latents are w, as where the expression has a file of them.
    """

    z: Tensor
    y: int | Tensor
    groups: list[Group]
    space: Space = "z"


def arithmetic(
    run: str | Path,
    expression: str,
    seed: int = 0,
    n: int = 64,
    label: int | str | None = None,
    step: int | None = None,
    space: Space | None = None,
) -> Arithmetic:
    """Adds and subtracts means of latents: "3,7,12 - 4,9,11 + 5,8,2".

    A number is the place of a sample in the picture of `ganframe sample RUN -n N --seed S`, counted from 0 along its
    rows. "SEED:PLACE" is a sample in the picture of another seed. "class=K" is all samples in this picture of class K:
    by their label where the generator heeds labels, else by the classes of the nearest real samples, for which the
    run's dataset is needed. "FILE.npy:ROW" is a latent that `ganframe invert` wrote, "FILE.npy" all of its rows; a name
    with signs, commas or spaces may stand in quotes. The result has the class `label`; by default labels are added and
    subtracted too, and one class must remain. Where the data has conditions, all samples have the first of those that
    the run keeps, and latents of a file their own.

    `step` is that of an earlier checkpoint. `space` is that of the latents that are added: by default z, or w where the
    expression has a file of latents w.

    Raises RequestError where the expression cannot be read, or names what does not exist.
    """
    return evaluate(load_generator(run, step=step), run, expression, seed, n, label, space)


def evaluate(
    G: TrainedGenerator,
    run: str | Path,
    expression: str,
    seed: int = 0,
    n: int = 64,
    label: int | str | Tensor | None = None,
    space: Space | None = None,
) -> Arithmetic:
    """`arithmetic` with the generator of `run` loaded already. `label` may be the condition of all samples instead."""
    text, files = _with_files(_with_labels(expression, G.spec))
    terms = [(sign, [files.get(item, item) for item in _items(term)]) for sign, term in _terms(text)]
    space = space or space_of([*files.values()])
    G = in_space(G.under_one_condition(), space)
    try:
        asked = None if label is None else G.as_y(label, 1)
    except ValueError as error:
        raise RequestError(str(error)) from None
    groups = [_group(run, G, sign, items, seed, n, asked) for sign, items in terms]
    z = torch.stack([group.sign * group.mean for group in groups]).sum(0)
    if G.spec.condition is not None:
        return Arithmetic(z, groups[0].y[0], groups, space)
    return Arithmetic(z, _remaining_class(G, groups) if asked is None else int(asked), groups, space)


def decode_result(G: TrainedGenerator, found: Arithmetic, noise: float = 0.0, n: int = 1) -> Tensor:
    """Samples (n, *shape) of the result; all but the first with noise from U(-noise, noise) on the latent."""
    offsets = torch.rand(n, *found.z.shape, generator=torch.Generator().manual_seed(0)).sub_(0.5).mul_(2 * noise)
    offsets[0] = 0
    y = torch.as_tensor(found.y)
    return in_space(G, found.space).decode(found.z + offsets, y.expand(n, *y.shape))


def picture_rows(G: TrainedGenerator, found: Arithmetic) -> Tensor:
    """Samples (rows, columns, *shape) for a picture, 0 where there is none.

    A row for each group: the sample of its mean, then its samples. The last row: the result, then samples near it, its
    latent with noise from U(-0.25, 0.25), as in the paper.
    """
    columns, G = 1 + SHOWN, in_space(G, found.space)
    parts = [G.decode(torch.cat([g.mean[None], g.z[:SHOWN]]), torch.cat([g.y[:1], g.y[:SHOWN]])) for g in found.groups]
    parts.append(decode_result(G, found, noise=0.25, n=columns))
    blank = torch.zeros(columns, *G.spec.shape)
    return torch.stack([torch.cat([part, blank[len(part) :]]) for part in parts])


def row_names(found: Arithmetic) -> list[str]:
    """What the rows of `picture_rows` are, in a few words each."""
    return [*(f"{'-' if group.sign < 0 else '+'} {group.text}" for group in found.groups), "= the sum, and near it"]


def _with_labels(expression: str, spec: DataSpec) -> str:
    """The expression with #LABEL in the place of each name of a class, which may hold signs: class=t-shirt."""
    names = spec.class_names or ()
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = rf"(class\s*=\s*)({either})(?=\s*(?:[-+,]|$))"
    return re.sub(pattern, lambda found: f"{found[1]}#{names.index(found[2])}", expression) if names else expression


_END = re.compile(r"\.npy(?::\d+)?(?=\s*(?:[-+,]|$))", re.IGNORECASE)
_QUOTED = re.compile(r"""(["'])(.+?)\1(?::\d+)?(?=\s*(?:[-+,]|$))""")
_PLAIN = re.compile(r"[^-+,]*")
_NO_FILE = re.compile(r"\s*(?:(?:\d+:)?\d+|class\s*=.*)?\s*")


def _with_files(expression: str) -> tuple[str, dict[str, str]]:
    """The expression with \\0NUMBER in the place of each file, whose name may hold signs, and those files by it.

    A name ends where .npy or .npy:ROW is before a sign or the end, at the last such place that makes it a file which is
    there. Where none is there, what is no sample and no class is a file up to the first such place.
    """
    text, at = "", 0
    files: dict[str, str] = {}
    while at < len(expression):
        blank = re.compile(r"[-+,\s]*").match(expression, at)
        assert blank is not None
        text, at = text + blank[0], blank.end()
        end = _end_of_file(expression, at)
        if end is None:
            plain = _PLAIN.match(expression, at)
            assert plain is not None
            text, at = text + plain[0], plain.end()
        else:
            name = f"\0{len(files)}"
            files[name], text, at = expression[at:end], text + name, end
    return text, files


def _end_of_file(expression: str, at: int) -> int | None:
    """Where the name of a file that begins at `at` ends, or None where there is none."""
    if quoted := _QUOTED.match(expression, at):
        return quoted.end()
    ends = [found.end() for found in _END.finditer(expression, at)]
    for end in reversed(ends):
        found = file_of(expression[at:end])
        if found is not None and found[0].is_file():
            return end
    plain = _PLAIN.match(expression, at)
    return ends[0] if ends and plain and not _NO_FILE.fullmatch(plain[0]) else None


def _items(term: str) -> list[str]:
    return [item.strip() for item in term.split(",")]


def _terms(expression: str) -> list[tuple[Literal[1, -1], str]]:
    """The signs and texts of "a + b - c"."""
    text = expression.strip()
    pieces = re.split(r"\s*([+-])\s*", text if text[:1] in ("+", "-") else f"+{text}")[1:]
    if not text or not all(pieces):
        raise RequestError(f"'{expression}': write groups of samples with + and - between, as in 3,7 - 4,9 + 5,8")
    return [(1 if sign == "+" else -1, term) for sign, term in zip(pieces[::2], pieces[1::2], strict=True)]


def _group(
    run: str | Path,
    G: TrainedGenerator,
    sign: Literal[1, -1],
    items: Sequence[str],
    seed: int,
    n: int,
    asked: Tensor | None,
) -> Group:
    chosen = []
    for item in items:
        name, equals, value = item.partition("=")
        of_class = equals and name.strip() == "class"
        chosen.append(_of_class(run, G, value, seed, n) if of_class else choose(G, item, seed, n, asked))
    z, y = (torch.cat(side) for side in zip(*chosen, strict=True))
    text = re.sub(r"#(\d+)", lambda found: (G.spec.class_names or ())[int(found[1])], ", ".join(items))
    return Group(sign, z, y if asked is None or G.spec.condition is None else asked.expand_as(y), text)


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
    from sklearn.neighbors import KNeighborsClassifier  # it takes as long to import as torch

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
