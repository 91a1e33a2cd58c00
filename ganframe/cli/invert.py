"""invert: the latents of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from ganframe.cli.common import Command, as_request_error, blocking, default_folder, options, tell_left_out, writing
from ganframe.cli.latents import SEED, checkpoint_step
from ganframe.errors import RequestError, counted, note, noted_if_slow

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ganframe.analysis.inversion import Inversion
    from ganframe.analysis.trained import TrainedGenerator

CLOSE = 1e-3  # mean squared error of an image that is found, for the last line


@click.command(cls=Command)
@click.argument("run", metavar="RUN")
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True)
@click.option("--label", metavar="CLASS", help="The class of the images, its name or label; by default it is found.")
@click.option(
    "--condition",
    metavar="FILE",
    help="The condition of all images, or one for each, in a file as for `sample`; by default the first that the run "
    "keeps.",
)
@click.option("--restarts", default=4, show_default=True, type=click.IntRange(1, 256), help="Starts of each image.")
@click.option("--steps", default=200, show_default=True, type=click.IntRange(1), help="Steps of L-BFGS.")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the samples among which the starts are.")
@click.option("--space", type=click.Choice(["z", "w"]), default="z", show_default=True, help="Latents to find.")
@click.option(
    "--prior",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0),
    help="Weight of a pull on latents z farther out than random ones; 0: none.",
)
@click.option(
    "--out", metavar="FILE", help="The latents (.npy; of w .w.npy). By default RUN/samples/inverted.npy or .w.npy."
)
@options(checkpoint_step, blocking)
def invert(
    run: str,
    images: tuple[str, ...],
    label: str | None,
    condition: str | None,
    restarts: int,
    steps: int,
    seed: int,
    space: Literal["z", "w"],
    prior: float,
    out: str | None,
    step: int | None,
) -> None:
    """Find the latents of images, such that the generator of RUN makes them again.

    IMAGE is a picture, a folder, or an array (.npy) of samples. Beside the latents a picture has each image and, to the
    right, what the generator makes of its latent, and a .json has errors and classes. `interpolate` and `arithmetic` of
    RUN take FILE.npy:ROW in the place of a sample.
    """
    from pathlib import Path

    import torch

    from ganframe.analysis.inversion import invert_samples
    from ganframe.analysis.latent_files import Latents, save_latents
    from ganframe.analysis.spaces import in_space
    from ganframe.analysis.targets import read_targets
    from ganframe.analysis.trained import load_generator
    from ganframe.cli.process import keep_freed_memory
    from ganframe.report import pictures

    ending = ".w.npy" if space == "w" else ".npy"
    file = Path(out) if out else default_folder(run) / f"inverted{'' if step is None else f'-step-{step}'}{ending}"
    _check_name(file, ending)
    _check_folder(file)
    keep_freed_memory()
    G = load_generator(run, step=step)
    x, names = read_targets(images, G.spec)
    if G.spec.condition is not None and condition is None and G.heeds_y:
        note("without --condition the images are taken for samples of the first condition that the run keeps")
    with as_request_error():
        y = _asked(G, label, condition, len(x))
        G = in_space(G, space).to("cuda" if torch.cuda.is_available() else "cpu")
    with noted_if_slow(f"inverting {counted(len(x), 'image')}: {counted(restarts, 'start')} of {steps:,} steps each"):
        found = invert_samples(G, x, y, space, restarts, steps, prior, seed)
    picture = file.with_suffix(".png")
    rows = _rows(G, found, names)
    with writing(file):
        save_latents(file, G, Latents(found.latents, found.y, space), {"run": run, "step": step, "images": rows})
        if G.spec.is_image:
            pairs = torch.stack([x, found.samples], 1).flatten(0, 1)
            pictures.draw(picture, G.spec, pairs, columns=2 * max(1, round((len(x) / 2) ** 0.5)))
        else:
            pictures.draw(picture, G.spec, found.samples, real=x)
    tell_left_out(picture, G.spec)
    _say(G, found, rows)
    click.echo(f"{counted(len(x), 'latent')}: {file}, {picture.name}, {file.with_suffix('.json').name}")


def _check_name(file: Path, ending: str) -> None:
    name = file.name.lower()
    if not name.endswith(ending) or (ending == ".npy" and name.endswith((".w.npy", ".y.npy"))):
        other = "" if ending == ".npy" else ", so that latents w are not taken for z"
        other = other if not name.endswith((".w.npy", ".y.npy")) else ", and not in .w.npy or .y.npy"
        raise RequestError(f"--out {file}: the name must end in {ending}{other}")


def _check_folder(file: Path) -> None:
    """Raises RequestError where the file cannot be written, which is known before a search of minutes."""
    import os

    if file.is_dir():
        raise RequestError(f"--out {file}: is a folder; give the name of a file")
    there = next(folder for folder in file.absolute().parents if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise RequestError(f"--out {file}: cannot be written, as nothing can be written to {there}")


def _asked(G: TrainedGenerator, label: str | None, condition: str | None, k: int) -> Tensor | None:
    """y (k, …) of a class or of conditions, or None where neither is given."""
    from ganframe.analysis.conditions import read_conditions

    if label is not None and condition is not None:
        raise RequestError("--label and --condition: give one of them, as the data of the run has labels or conditions")
    if condition is None:
        return None if label is None else G.labels(label, k)
    y = read_conditions(condition, G.spec, G.conditions)
    if len(y) not in (1, k):
        wanted = "1" if k == 1 else f"1 or {k}"
        raise RequestError(f"--condition {condition}: has {len(y)} conditions for {counted(k, 'image')}: give {wanted}")
    return G.as_y(y[0] if len(y) == 1 else y, k)


def _rows(G: TrainedGenerator, found: Inversion, names: list[str]) -> list[dict[str, object]]:
    """What is known of each image, for the file and for people."""
    norms = found.latents.flatten(1).norm(dim=1).tolist()
    labels = found.y.tolist() if G.heeds_y and G.spec.classes is not None else [None] * len(names)
    return [
        {"image": name, "mean_squared_error": error, "norm": norm} | ({} if label is None else {"label": label})
        for name, error, norm, label in zip(names, found.errors.tolist(), norms, labels, strict=True)
    ]


def _say(G: TrainedGenerator, found: Inversion, rows: list[dict[str, object]]) -> None:
    """Prints a line for each image, and of several how many were found."""
    from ganframe.analysis.inversion import typical_norm
    from ganframe.data.classes import printable, shown_class

    usual = typical_norm(G)
    for row, error, label in zip(rows, found.errors.tolist(), found.y, strict=True):
        of = f", class {printable(shown_class(G.spec, int(label)))}" if "label" in row else ""
        click.echo(
            f"{row['image']}: mean squared error {error:.3g} (RMS {error**0.5:.3g}), |{found.space}| {row['norm']:.3g} "
            f"(random: {usual:.3g}){of}"
        )
    if len(rows) > 1:
        close = int((found.errors < CLOSE).sum())
        click.echo(f"mean squared error below {CLOSE:g}: {close} of {len(rows)}, median {found.errors.median():.3g}")
