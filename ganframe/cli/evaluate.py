"""evaluate."""

from __future__ import annotations

import json
from typing import Any

import click

from ganframe.cli.common import Command, blocking, make_table, options, print_table, say


@click.command(cls=Command)
@click.argument("target", metavar="RUN|FILE|FOLDER")
@click.option("--data", metavar="RECIPE", help="Judge by this recipe's data. Needed for samples made elsewhere.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="""A metric, or a table with its options: '{ use = "frechet", features = "pixels" }'.""",
)
@click.option("--samples", type=click.IntRange(2), metavar="N", help="Generated samples to judge.")
@click.option("--against", type=click.Choice(["test", "train"]), help="Real samples to compare with.  [test, if any]")
@click.option("--step", type=click.IntRange(0), metavar="N", help="Judge the checkpoint of this step of a run.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of scores with their protocol.")
@options(blocking)
def evaluate(
    target: str,
    data: str | None,
    metrics: tuple[str, ...],
    samples: int | None,
    against: Any,
    step: int | None,
    as_json: bool,
) -> None:
    """Judge how good the samples of a run are, or those in a file (.npy) or a folder of images."""
    from ganframe.analysis.evaluate import evaluate as judged
    from ganframe.cli.process import keep_freed_memory
    from ganframe.judging.protocol import called, described, numbers

    keep_freed_memory()
    scores = judged(target, metrics, data=data, samples=samples, against=against, step=step)
    if as_json:
        click.echo(json.dumps(scores, indent=2))
        return
    table = make_table("metric", "number", "value")
    for score in scores:
        for index, (name, value) in enumerate(numbers(score).items()):
            table.add_row("" if index else score["metric"], called(score, name), f"{value:.5g}")
    print_table(table)
    for score in scores:
        say(f"{score['metric']}: {described(score['protocol'])}", indent=2)
