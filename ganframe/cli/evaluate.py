"""evaluate."""

from __future__ import annotations

import json
from typing import Any

import click

from ganframe.cli.common import Command, blocking, make_table, options, precision_option, print_table, say


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
@click.option(
    "--truncation",
    "truncations",
    multiple=True,
    metavar="PSI",
    type=click.FloatRange(0),
    help="Judge truncated samples, where the network offers them; several: each in turn.",
)
@click.option(
    "--standing-statistics",
    metavar="N",
    type=click.IntRange(1),
    help="Judge a generator whose BatchNorm has the statistics of N batches of 64 latents.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of scores with their protocol.")
@options(precision_option, blocking)
def evaluate(
    target: str,
    data: str | None,
    metrics: tuple[str, ...],
    samples: int | None,
    against: Any,
    step: int | None,
    truncations: tuple[float, ...],
    standing_statistics: int | None,
    precision: Any,
    as_json: bool,
) -> None:
    """Judge how good the samples of a run are, or those in a file (.npy) or a folder of images."""
    from ganframe.analysis.evaluate import evaluate as judged
    from ganframe.cli.process import keep_freed_memory
    from ganframe.judging.protocol import called, described, numbers

    keep_freed_memory()
    scores = judged(
        target,
        metrics,
        data=data,
        samples=samples,
        against=against,
        step=step,
        truncation=truncations,
        standing_statistics=standing_statistics,
        precision=precision,
    )
    if as_json:
        click.echo(json.dumps(scores, indent=2))
        return
    table = make_table(*(["truncation"] if truncations else []), "metric", "number", "value")
    for score in scores:
        first = [f"{score['protocol']['truncation']:g}", score["metric"]] if truncations else [score["metric"]]
        for name, value in numbers(score).items():
            table.add_row(*first, called(score, name), f"{value:.5g}")
            first = [""] * len(first)
    print_table(table)
    protocols = ((score["metric"], {**score["protocol"], "truncation": None}) for score in scores)  # the table has it
    for line in dict.fromkeys(f"{metric}: {described(protocol)}" for metric, protocol in protocols):
        say(line, indent=2)
