"""compare."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ganframe.cli.common import Command, blocking, make_table, print_table, say

if TYPE_CHECKING:
    from ganframe.analysis.compare import Compared


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN…")
@click.option("--data", metavar="RECIPE", help="Judge by this recipe's data; by default by that of the first run.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="A metric, or a table with its options, as for `evaluate`; by default what suits the data.",
)
@click.option("--samples", type=click.IntRange(2), metavar="N", help="Generated samples to judge, of each run.")
@click.option("-n", "count", type=click.IntRange(1), help="Samples of each run in the picture.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Seed of these samples.")
@click.option("--out", metavar="DIR", help="The folder of the result. By default comparisons/<recipe>/<number>.")
@click.option("--json", "as_json", is_flag=True, help="Print the runs with their scores and protocols.")
@blocking
def compare(
    runs: tuple[str, ...],
    data: str | None,
    metrics: tuple[str, ...],
    samples: int | None,
    count: int | None,
    seed: int,
    out: str | None,
    as_json: bool,
) -> None:
    """Compare trained runs: their curves, samples of one seed beside real data, and their scores.

    Scores that a run has already are used again. A difference between two runs may be one between their seeds:
    `ganframe study` trains each recipe with several.
    """
    from ganframe.analysis import compare as comparison
    from ganframe.cli.process import keep_freed_memory

    keep_freed_memory()
    found = comparison.compare(runs, metrics, data=data, samples=samples, n=count, seed=seed, out=out)
    if as_json:
        click.echo(json.dumps(comparison.as_json(found), indent=2))
        return
    _print(found)
    click.echo(f"done: {found.folder}/ has {', '.join(sorted(path.name for path in found.folder.iterdir()))}")


SHOWN = 12  # options that differ, in the terminal
CELL = 40  # letters of a value there


def _print(found: Compared) -> None:
    """The table, a run in each column, the options that differ, and the protocol of each metric."""
    from ganframe.training.progress import clock

    table = make_table("", *found.names)
    table.add_row("step", *(f"{step:,}" for step in found.steps))
    table.add_row("seed", *map(str, found.seeds))
    table.add_row("training time", *("–" if seconds is None else clock(seconds) for seconds in found.seconds))
    for line in found.lines:
        cells = ("–" if value is None else f"{value:.5g}" for value in line.values)
        table.add_row(line.title, *cells)
    print_table(table)
    _print_options(found)
    for text in (*found.protocols, *found.unlike):
        say(text, indent=2)


def _print_options(found: Compared) -> None:
    """The first of the options that differ. The page has all."""
    from ganframe.analysis.differing import in_words

    if not found.options:
        click.echo("The recipes differ in no option of training.")
        return
    table = make_table("what differs", *found.names)
    for option in found.options[:SHOWN]:
        table.add_row(option.place, *("–" if text is None else _cut(text) for text in in_words(option)))
    print_table(table)
    if len(found.options) > SHOWN:
        click.echo(f"and {len(found.options) - SHOWN} more, in report.html")


def _cut(text: str) -> str:
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"
