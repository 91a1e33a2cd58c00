"""bench."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ganframe.cli.common import Command, blocking, options, say, setting

if TYPE_CHECKING:
    from ganframe.analysis.bench import Benchmark

NOTES = {
    "fakes": "G's samples for D's steps",
    "optimiser": "with clipping and projections",
    "ema": "the moving average of weights",
}


@click.command(cls=Command)
@click.argument("recipe", metavar="RECIPE")
@click.option("--compare", "other", metavar="RECIPE", help="Measure this recipe too, in turn, and the ratio of both.")
@click.option(
    "--compare-set",
    "changes",
    multiple=True,
    metavar="K=V",
    help="Override an option of the recipe of --compare; without --compare, of RECIPE itself.",
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="How long to measure a recipe.  [10]")
@click.option("--steps", type=click.IntRange(2), metavar="N", help="Measure N steps, whatever they take.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@options(setting, blocking)
def bench(
    recipe: str,
    other: str | None,
    changes: tuple[str, ...],
    seconds: float | None,
    steps: int | None,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Measure how fast RECIPE trains, by phase, or how fast beside another recipe. Writes nothing.

    --set holds for both recipes.
    """
    if seconds is not None and steps is not None:
        raise click.UsageError("--seconds and --steps exclude each other")
    import attrs

    import ganframe
    from ganframe.analysis import bench as benchmarks
    from ganframe.cli.process import keep_freed_memory

    keep_freed_memory()
    seconds = benchmarks.SECONDS if seconds is None else seconds
    loaded = ganframe.load_recipe(recipe, overrides)
    if other is None and not changes:
        found = benchmarks.bench(loaded, seconds, steps)
        click.echo(json.dumps(attrs.asdict(found), indent=2)) if as_json else _print(found, found.recipe)
        return
    beside = ganframe.load_recipe(other or recipe, [*overrides, *changes])
    both = benchmarks.compare(loaded, beside, seconds, steps)
    if as_json:
        click.echo(json.dumps(attrs.asdict(both), indent=2))
        return
    second = " with ".join([other or recipe, *([" ".join(changes)] if changes else [])])
    _print(both.first, recipe)
    _print(both.second, second)
    ratio = both.ratio
    say(
        f"ratio          {ratio.median:.3f} (quartiles {ratio.low:.3f} to {ratio.high:.3f}, {both.first.rounds} rounds "
        f"in turn): a step of {second} / a step of {recipe}"
    )


def _print(found: Benchmark, name: str) -> None:
    """Prints what was found for the recipe of this name."""
    threads = "" if found.device.startswith("cuda") else f", threads {found.threads}"
    click.echo(f"{name}: {found.steps:,} steps on {found.device}{threads}, precision {found.precision!r}")
    each = found.milliseconds
    say(
        f"speed          {found.steps_per_second:.4g} steps/s, {found.samples_per_second:,.4g} real samples/s, on "
        f"average; median of a step {each.median:.3g} ms (quartiles {each.low:.3g} to {each.high:.3g}, {found.rounds} "
        "rounds)"
    )
    if found.phases is None:
        say("phases         none: the step is compiled as a whole")
    else:
        whole = sum(found.phases.values())
        for phase, taken in found.phases.items():
            if taken:
                note = f"   {NOTES[phase]}" if phase in NOTES else ""
                click.echo(f"  {phase:<12} {taken:9.3f} ms {taken / whole:6.1%}{note}")
        click.echo(f"  {'together':<12} {whole:9.3f} ms")
    say(
        f"arithmetic     {found.flops / 1e9:.3g} GFLOP a step, {found.flops_per_second / 1e9:.3g} GFLOP/s: "
        f"{found.share_of_peak:.1%} of the {found.peak_flops / 1e9:.3g} GFLOP/s that a large product reaches here"
    )
    if found.memory is not None:
        say(f"memory         {found.memory / 2**30:.2f} GiB at most")
