"""Style mixing: coarse layers of one sample and fine layers of another (Karras et al. 2019, figure 3).

`python -m ganframe_stylegan2.mixing RUN` draws the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torchvision.utils import make_grid, save_image

from ganframe import RequestError, load_generator

PIXELS = 64  # of an image in the picture, at least


@torch.no_grad()
def mixed_samples(
    G: nn.Module,
    rows: int = 4,
    columns: int = 6,
    from_layer: int | None = None,
    seed: int = 0,
    label: int | str | None = None,
    truncation: float | None = None,
) -> Tensor:
    """Samples (1 + rows, 1 + columns, C, H, W): sources in row 0 and column 0, mixed samples in the others.

    Sample (i, j) has the styles of the source of its row in the layers before `from_layer`, counted from 0 at the
    smallest resolution, and those of the source of its column from there on; by default from the middle one. The corner
    is white.

    G is what `ganframe.load_generator` returns. Sources are its `sample(rows + columns, seed)`, first those of the
    rows, of the class `label` if it is given. With `truncation` each w is moved to the mean of its class. Raises
    RequestError where G has no layers with w of their own, or not so many.
    """
    network = G.network
    layers = getattr(network, "layers", None)
    if not isinstance(layers, int) or not callable(getattr(network, "synthesize", None)):
        raise RequestError("style mixing needs a generator whose layers each take a w, as stylegan2; this one has none")
    start = layers // 2 if from_layer is None else from_layer
    if not 0 <= start <= layers:
        raise RequestError(f"from layer {start}: this generator has {layers} layers; give 0 to {layers}")
    z, y = G.latents(rows + columns, seed)
    y = y if label is None else G.labels(label, len(z))
    w = network.map(z, y)
    if truncation is not None and truncation != 1:
        w = G.truncated(truncation).network.truncated(w, y)
    w = w[:, None].expand(-1, layers, -1)
    coarse, fine = w[:rows], w[rows:]
    own = torch.cat([network.synthesize(part, of) for part, of in zip(w.split(64), y.split(64), strict=True)])
    made = [torch.cat([torch.ones_like(own[:1]), own[rows:]])]
    for i in range(rows):
        both = torch.cat([coarse[i].expand_as(fine)[:, :start], fine[:, start:]], dim=1)
        made.append(torch.cat([own[i : i + 1], network.synthesize(both, y[i].expand(columns))]))
    return torch.stack(made).clamp(-1, 1)


def draw(file: Path, samples: Tensor) -> None:
    """Writes samples (rows, columns, C, H, W) in [-1, 1] as a picture, small ones enlarged; of channels the first 3."""
    x = samples.flatten(0, 1)
    x = x[:, :3] if x.shape[1] >= 3 else x[:, :1]
    factor = max(1, PIXELS // min(x.shape[2:]))
    x = x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    grid = make_grid(x.clamp(-1, 1), nrow=samples.shape[1], normalize=True, value_range=(-1, 1), pad_value=1.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_image(grid, file)


@click.command()
@click.argument("run")
@click.option("--rows", default=4, show_default=True, type=click.IntRange(1), help="Sources of coarse styles.")
@click.option("--columns", default=6, show_default=True, type=click.IntRange(1), help="Sources of fine styles.")
@click.option("--from-layer", type=click.IntRange(0), help="The first layer of fine styles.  [the middle one]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the sources.")
@click.option("--label", metavar="CLASS", help="The class of all sources, its name or label.")
@click.option("--truncation", metavar="PSI", type=click.FloatRange(0), help="Moves each w to the mean, as 0.7.")
@click.option("--step", type=click.IntRange(0), help="Of a checkpoint of the run.")
@click.option("--out", metavar="FILE", help="A picture.  [RUN/samples/mixing.png]")
def main(
    run: str,
    rows: int,
    columns: int,
    from_layer: int | None,
    seed: int,
    label: str | None,
    truncation: float | None,
    step: int | None,
    out: str | None,
) -> None:
    """Draw mixed styles of a run of stylegan2: coarse ones of the row's source, fine ones of the column's."""
    file = Path(out) if out else Path(run) / "samples" / "mixing.png"
    try:
        G = load_generator(run, step=step)
        draw(file, mixed_samples(G, rows, columns, from_layer, seed, label, truncation))
    except (RequestError, ValueError, OSError) as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    click.echo(f"{rows} × {columns} mixed samples: {file}")


if __name__ == "__main__":
    main()
