"""sample, interpolate, arithmetic: samples of a trained generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from ganframe.cli.common import (
    Command,
    as_request_error,
    blocking,
    default_folder,
    options,
    precision_option,
    require_suffix,
    tell_left_out,
    writing,
)
from ganframe.errors import RequestError, counted, noted_if_slow

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ganframe.analysis.trained import Precision, TrainedGenerator

CONDITION = "An image (.png, .jpg), an array (.npy) or a folder of images; by default those that the run keeps."
ONE_CONDITION = "The condition of all samples, in a file as for `sample`; by default the first that the run keeps."
SEED = click.IntRange(0, 2**63 - 1)
checkpoint_step = click.option(
    "--step", type=click.IntRange(0), help="Of the checkpoint of this step; by default of the newest."
)
truncation = click.option(
    "--truncation",
    metavar="PSI",
    type=click.FloatRange(0),
    help="Latents nearer to their middle, for better samples that vary less, as 0.7; where the network offers it.",
)
space_option = click.option(
    "--space",
    type=click.Choice(["z", "w"]),
    help="Latents to combine. By default z, or w where one is in a file of latents w.",
)
picture_of = options(
    click.option(
        "-n",
        "count",
        type=click.IntRange(1),
        help="Samples to choose from, as many as the picture has: by default 64, or 8 with --condition.",
    ),
    click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the samples to choose from."),
)


def _load(
    run: str,
    class_: str | None,
    condition: str | None,
    step: int | None = None,
    truncation: float | None = None,
) -> tuple[TrainedGenerator, int | None]:
    """The generator of a run, under the conditions of a file if there is one, and the label of a class."""
    import ganframe
    from ganframe.analysis.conditions import read_conditions

    _refuse_both(class_, condition)
    G = ganframe.load_generator(run, step=step)
    G = G if truncation is None else G.truncated(truncation)
    with as_request_error():
        if condition is not None:
            return G.with_conditions(read_conditions(condition, G.spec, G.conditions)), None
        return G, None if class_ is None else int(G.labels(class_, 1))


def _refuse_both(class_: str | None, condition: str | None) -> None:
    if class_ is not None and condition is not None:
        raise RequestError("--label and --condition: give one of them, as the data of the run has labels or conditions")


def _of_class(G: TrainedGenerator, label: int | None) -> str:
    """Which class was meant, by label and name, as a number may be both."""
    from ganframe.data.classes import printable, shown_class

    return "" if label is None or G.spec.class_names is None else f" of class {printable(shown_class(G.spec, label))}"


@click.command(cls=Command)
@click.argument("run", metavar="RUN")
@click.option(
    "-n",
    "count",
    type=click.IntRange(1),
    help="Number of samples, by default 64. With --condition of each condition: by default 8 of a single one, else 1.",
)
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the latents.")
@click.option(
    "--label",
    metavar="CLASS",
    help="The class of the samples, its name or label; by default classes are drawn uniformly.",
)
@click.option("--condition", metavar="FILE", help=CONDITION)
@click.option("--tile", is_flag=True, help="Cut images of another size than in training into tiles that overlap.")
@click.option(
    "--overlap", metavar="PIXELS", type=click.IntRange(0), help="Of tiles, at least; by default a quarter of a tile."
)
@click.option(
    "--out",
    metavar="FILE",
    help="A picture (.png), an array (.npy), rows of a table (.csv, .parquet), or a folder (DIR/) for a file of each "
    "sample. By default RUN/samples/seed-<S>.png.",
)
@click.option(
    "--standing-statistics",
    "batches",
    metavar="N",
    type=click.IntRange(1),
    help="BatchNorm's statistics are those of N batches of 64 latents, and not those of training.",
)
@options(truncation, precision_option, checkpoint_step, blocking)
def sample(
    run: str,
    count: int | None,
    seed: int,
    label: str | None,
    condition: str | None,
    tile: bool,
    overlap: int | None,
    out: str | None,
    batches: int | None,
    truncation: float | None,
    precision: Precision,
    step: int | None,
) -> None:
    """Draw samples of the generator of RUN.

    With --condition the picture has a row for each condition: it, and its samples.
    """
    import os
    from pathlib import Path

    import ganframe
    from ganframe.analysis.rows import TABLES, rows_of, write_rows
    from ganframe.cli.process import keep_freed_memory
    from ganframe.cli.translate import sample_under
    from ganframe.report import pictures
    from ganframe.storage.files import write_array

    _refuse_both(label, condition)
    if tile and condition is None:
        raise RequestError("--tile: it cuts conditions into tiles; give some with --condition")
    if overlap is not None and not tile:
        raise RequestError("--overlap: it is that of tiles; give --tile")
    singly = out is not None and (out.endswith(("/", os.sep)) or Path(out).is_dir())
    singly = singly or (condition is not None and out is not None and not Path(out).suffix)
    if not singly:
        require_suffix(Path(out or "x.png"), ".png", ".npy", *TABLES)
    elif Path(str(out)).is_dir() and any(Path(str(out)).iterdir()):
        raise RequestError(f"--out {out}: the folder is not empty; choose a new one, so that nothing is replaced")
    if condition is not None and Path(out or "").suffix.lower() in TABLES:
        raise RequestError(f"--out {out}: samples of given conditions are written as .npy, a picture or a folder")
    keep_freed_memory()
    if condition is not None:
        of = Path(condition).resolve()
        under = of.name if of.is_dir() else of.stem
        name = f"seed-{seed}-condition-{under}{_of(step, truncation, batches, precision=precision)}.png"
        file = Path(out) if out else default_folder(run) / name
        G = ganframe.load_generator(run, step=step).with_precision(precision)
        G = G if truncation is None else G.truncated(truncation)
        G = G if batches is None else G.with_standing_statistics(batches)
        click.echo(sample_under(G, condition, count, seed, file, singly, tile, overlap))
        return
    G, asked = _load(run, label, None, step, truncation)
    G = G if batches is None else G.with_standing_statistics(batches)
    G = G.with_precision(precision)
    count = count or _number(None)
    under = "" if asked is None else f"-label-{asked}"  # a name may hold any character
    under += _of(step, truncation, batches, precision=precision)
    file = Path(out) if out else default_folder(run) / f"seed-{seed}{under}.png"
    z, y = G.latents(count, seed)
    y = y if asked is None else G.labels(asked, count)
    if singly:
        with writing(file / "first"):
            _write_singly(file, G, z, y, "" if asked is None else f"-label-{asked}")
        click.echo(f"{counted(count, 'sample')}{_of_class(G, asked)}: {file}{os.sep}")
        return
    with noted_if_slow(f"making {counted(count, 'sample')}"):
        samples = G.decode(z, y)
    rows = rows_of(run, G, samples, y) if file.suffix.lower() in TABLES else None
    with writing(file):
        if rows is not None:
            write_rows(file, rows)
            click.echo(f"{counted(count, 'row')}{_of_class(G, asked)}: {file}")
            return
        if file.suffix.lower() == ".npy":
            write_array(file, samples.numpy())
        else:
            pictures.draw(file, G.spec, samples, conditions=y)
    tell_left_out(file, G.spec)
    click.echo(f"{counted(count, 'sample')}{_of_class(G, asked)}: {file}")


def _number(condition: str | None) -> int:
    """The number of samples of a picture by default: all of it, or the row of a condition."""
    from ganframe.cli.translate import ONE

    return 64 if condition is None else ONE


def _of(
    step: int | None,
    truncation: float | None = None,
    batches: int | None = None,
    space: str | None = None,
    precision: Precision = "no",
) -> str:
    """The part of a file's name that says what is not as by default."""
    said = {"space": space, "truncation": truncation, "standing-statistics": batches, "precision": precision}
    return "".join(f"-{name}-{value}" for name, value in {**said, "step": step}.items() if value not in (None, "no"))


def _write_singly(folder: Path, G: TrainedGenerator, z: Tensor, y: Tensor, under: str) -> None:
    """Writes a file of each sample, 000.png, or 000.npy of what is no image. `under` follows the number."""
    from ganframe.report import pictures
    from ganframe.storage.files import write_array

    suffix = ".png" if pictures.is_picture(G.spec) else ".npy"
    digits = max(3, len(str(len(z) - 1)))
    number = 0
    for part, given in zip(z.split(256), y.split(256), strict=True):  # not all in memory
        for x in G.decode(part, given):
            file = folder / f"{number:0{digits}}{under}{suffix}"
            pictures.save_image(file, x) if suffix == ".png" else write_array(file, x.numpy())
            number += 1


@click.command(cls=Command)
@click.argument("run", metavar="RUN")
@click.option("--between", nargs=2, multiple=True, metavar="A B", help="From sample A to B; may be repeated.")
@click.option("--steps", default=9, show_default=True, type=click.IntRange(2), help="Samples on a path, ends included.")
@click.option(
    "--path", type=click.Choice(["spherical", "linear"]), help="By default linear in w and for a uniform prior."
)
@click.option("--label", metavar="CLASS", help="The class of the samples, its name or label; by default that of A.")
@click.option("--condition", metavar="FILE", help=ONE_CONDITION)
@click.option("--out", metavar="FILE", help="A picture (.png), an animation (.gif) or an array (.npy).")
@options(picture_of, space_option, truncation, checkpoint_step, blocking)
def interpolate(
    run: str,
    between: tuple[tuple[str, str], ...],
    steps: int,
    path: Literal["spherical", "linear"] | None,
    label: str | None,
    condition: str | None,
    out: str | None,
    count: int | None,
    seed: int,
    space: Literal["z", "w"] | None,
    truncation: float | None,
    step: int | None,
) -> None:
    """Interpolate between latents. A and B are places in the picture of `ganframe sample RUN`, or SEED:PLACE.

    They may also be FILE.npy:ROW, latents that `ganframe invert RUN` wrote.
    """
    from pathlib import Path

    from ganframe.analysis.interpolation import find_paths
    from ganframe.cli.process import keep_freed_memory
    from ganframe.report import pictures
    from ganframe.storage.files import write_array

    file = Path(out) if out else default_folder(run) / f"interpolation{_of(step, truncation, None, space)}.png"
    keep_freed_memory()
    G, asked = _load(run, label, condition, step, truncation)
    count = count or _number(condition)
    require_suffix(file, *([".png", ".gif", ".npy"] if G.spec.is_image else [".png", ".npy"]))
    pairs = between or tuple((str(i), str(i + 1)) for i in range(0, min(16, count - 1), 2)) or (("0", "0"),)
    with as_request_error():
        of_path = asked if condition is None or G.conditions is None else G.conditions[0]
        paths = find_paths(G, pairs, steps, path, of_path, seed, count, space)
    samples = paths.samples()
    with writing(file):
        if file.suffix.lower() == ".npy":
            write_array(file, samples.numpy())
        elif file.suffix.lower() == ".gif":
            pictures.draw_animation(file, samples.unbind(1))
        else:
            y = paths.y if G.heeds_y and G.spec.condition else None
            names = [f"{a} → {b}" for a, b in pairs] if len(pairs) > 1 else []
            pictures.draw_rows(file, G.spec, samples, y, names)
    tell_left_out(file, G.spec)
    click.echo(f"{counted(len(pairs), 'path')} of {steps} samples{_of_class(G, asked)}: {file}")


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("run", metavar="RUN")
@click.argument("expression", metavar="EXPRESSION")
@click.option(
    "--label", metavar="CLASS", help="The class of the result, its name or label; by default what the groups leave."
)
@click.option("--condition", metavar="FILE", help=ONE_CONDITION)
@click.option("--out", metavar="FILE", help="A picture (.png), or the result as an array (.npy).")
@options(picture_of, space_option, checkpoint_step, blocking)
def arithmetic(
    run: str,
    expression: str,
    label: str | None,
    condition: str | None,
    out: str | None,
    count: int | None,
    seed: int,
    space: Literal["z", "w"] | None,
    step: int | None,
) -> None:
    """Add and subtract means of groups of latents, as in "3,7,12 - 4,9,11 + 5,8,2".

    A number is a place in the picture of `ganframe sample RUN`; SEED:PLACE is a place in the picture of another seed,
    class=K is all samples of class K, its label or name. FILE.npy:ROW is a latent that `ganframe invert RUN` wrote,
    FILE.npy the mean of all of its rows; a name may stand in quotes. The picture has a row for each group, its mean
    first. The last row is the result, then the same with a little noise.
    """
    from pathlib import Path

    from ganframe.analysis.arithmetic import decode_result, evaluate, picture_rows, row_names
    from ganframe.cli.process import keep_freed_memory
    from ganframe.report import pictures
    from ganframe.storage.files import write_array

    keep_freed_memory()
    G, asked = _load(run, label, condition, step)
    name = f"arithmetic{_of(step, space=space)}.{'png' if G.spec.is_image else 'npy'}"
    file = Path(out) if out else default_folder(run) / name
    require_suffix(file, *([".png", ".npy"] if G.spec.is_image else [".npy"]))
    of_all = asked if condition is None or G.conditions is None else G.conditions[0]
    found = evaluate(G, run, expression, seed, count or _number(condition), of_all, space)
    with writing(file):
        if file.suffix.lower() == ".npy":
            write_array(file, decode_result(G, found)[0].numpy())
        else:
            rows = picture_rows(G, found)
            above = ["mean", *map(str, range(1, rows.shape[1]))]
            pictures.draw_rows(file, G.spec, rows, names=row_names(found), above=above)
    click.echo(f"{' '.join(('-' if g.sign < 0 else '+') + f' mean of {len(g.z)}' for g in found.groups)}: {file}")
