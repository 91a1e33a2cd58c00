"""export, publish: a trained model for other programs and people."""

from __future__ import annotations

from typing import Any

import click

from ganframe.cli.common import Command, blocking, options, say
from ganframe.cli.latents import checkpoint_step


@click.command(cls=Command)
@click.argument("run", metavar="RUN")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["torch", "onnx"]),
    default="torch",
    show_default=True,
    help="A program of torch.export (.pt2), or ONNX (.onnx; pip install 'ganframe[onnx]').",
)
@click.option("--out", metavar="FILE", help="The file. By default RUN/generator.pt2 or RUN/generator.onnx.")
@options(checkpoint_step, blocking)
def export(run: str, format_: Any, out: str | None, step: int | None) -> None:
    """Write the generator of RUN as a program that needs no ganframe.

    It is run before it is kept, with several sizes of batches, and its samples must be those of the generator.
    """
    from ganframe.analysis.export import TOLERANCE, export

    done = export(run, out, format_, step)
    click.echo(f"{done.file}: its samples are those of {run} (differences below {TOLERANCE:g})")
    for name, meaning in done.inputs.items():
        say(f"  {name:<8}{meaning}")


@click.command(cls=Command)
@click.argument("run", metavar="RUN")
@click.option("--to", required=True, metavar="DIR|hub", help="A new folder; hf://owner/name; or hub: RUN's name there.")
@click.option("--license", "licence", metavar="ID", help="For the model card, as the hub calls it: mit, cc-by-4.0, …")
@click.option("--private", is_flag=True, help="A new repository on the hub is private.")
@options(blocking)
def publish(run: str, to: str, licence: str | None, private: bool) -> None:
    """Write RUN as a model that others can load: weights, recipe, scores and a model card.

    It is a folder fit for Hugging Face's hub, or is pushed there with the token of `hf auth login`.
    """
    from ganframe.analysis.publish import publish
    from ganframe.errors import note

    done = publish(run, to, licence, private)
    for line in done.notes:
        note(f"note: {line}")
    click.echo(f"{done.place}: load it with ganframe.load_generator({done.name!r})")
