"""divergence, lipschitz."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ganframe.cli.common import Command, blocking, make_table, options, print_table, say, setting

if TYPE_CHECKING:
    from ganframe.analysis.measured import Transport


@click.command(cls=Command)
@click.argument("recipe", metavar="RECIPE")
@click.option("--against", metavar="RUN", help="The other side: the generator of this run, for RECIPE's [against].")
@click.option("--out", metavar="DIR", help="The folder of the result. By default divergences/<recipe>/<number>.")
@options(setting, blocking)
def divergence(recipe: str, against: str | None, out: str | None, overrides: tuple[str, ...]) -> None:
    """Measure the divergence between RECIPE's dataset and another side by training a discriminator alone."""
    from ganframe.analysis.divergence import measure
    from ganframe.cli.process import keep_freed_memory
    from ganframe.recipes.reading import load_comparison

    keep_freed_memory()
    measured = measure(load_comparison(recipe, overrides, against), out)
    scale, error = measured.scale, measured.error
    verdict = scale.verdict(measured.value, error)
    says = f": {verdict}" if verdict else ""

    def five(number: float) -> str:
        return f"{round(number, 5) + 0.0:.5f}"  # not -0.00000

    def line(heading: str, text: str) -> None:
        click.echo(f"{heading:<27}{text}")

    jsd = scale.jsd(measured.value)
    if jsd is not None:
        line("JSD", f"{jsd:.5f} of at most {math.log(2):.5f}{says}")
        says = ""
    line("-L_D on held-out samples", f"{five(measured.value)} ± {five(error)}{says}")
    if scale.indistinguishable is not None:
        line("  of equal sides", f"{scale.indistinguishable:.5f} is indistinguishable")
    if scale.separable is not None:
        line("  of disjoint sides", f"{scale.separable:.5f} is fully separable")
    if measured.exact is not None:
        exact = scale.jsd(measured.exact)
        if measured.exact_error is None:
            line("exact, by quadrature", f"{five(measured.exact)}{'' if exact is None else f' (JSD {exact:.5f})'}")
        else:
            line("W1, of an optimal critic", f"{five(measured.exact)} ± {five(measured.exact_error)}")
    if measured.share is not None and measured.share_error is not None:
        line("share of W1", f"{measured.share:.2%} ± {measured.share_error:.2%}")
    if (found := measured.agreement) is not None:
        line("gradient, to the optimal", f"cosine {found.cosine:.4f} ± {found.cosine_error:.4f}")
        line("  squared distance", f"{found.l2:.4f} ± {found.l2_error:.4f}")
    if measured.lipschitz is not None:
        line("Lipschitz constant of D", f"{measured.lipschitz:.5g} at most, certified")
    if measured.certified is not None:
        share = "" if measured.certified_share is None else f": {measured.certified_share:.2%} of it"
        line("-L_D / constant", f"{measured.certified:.5f}, a lower bound on W1{share}")
    if measured.no_bound is not None:
        say(f"no certified bound on the slope of D: {measured.no_bound}")
    if measured.transported is not None:
        _transported(measured.transported, measured.value_per_slope, line)
    if measured.critic_error is not None:
        line("mean |D(x) - D*(x)|", f"{measured.critic_error:.5f}")
    if measured.warning is not None:
        click.echo(f"warning: {measured.warning}", err=True)
    drawn = [name for name in ("convergence.png", "critic.png") if (measured.folder / name).exists()]
    files = ["divergence.json", *drawn, "discriminator.safetensors", "comparison.toml", "log.jsonl"]
    click.echo(f"done: {measured.folder}/ has {', '.join(files)}")


def _transported(found: Transport, value_per_slope: float | None, line: Callable[[str, str], None]) -> None:
    """The slope of a Wasserstein critic, and W1 between the samples that it was measured at."""
    if found.slope is not None:
        line("slope of D", f"{found.slope:.5f}, the largest between the two sides")
    if value_per_slope is not None:
        line("-L_D / slope", f"{value_per_slope:.5f}, a lower bound on W1 of these samples")
    each = f"of {found.samples} held-out samples" if found.samples > 1 else "of one held-out sample"
    line("W1 of the samples", f"{found.w1:.5f}, by optimal transport {each} of each side")
    line("  real against real", f"{found.floor:.5f}, of as many of the dataset and others of it: the floor")


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.option("-n", "samples", default=500, show_default=True, type=click.IntRange(2), help="Points of each kind.")
@blocking
def lipschitz(runs: tuple[str, ...], samples: int) -> None:
    """Measure the slopes of the discriminators of RUNs: gradient norms, the largest slope found, a proved bound.

    A RUN is the folder of a run, or of a divergence that was measured.
    """
    from ganframe.analysis.lipschitz import compare, short_names
    from ganframe.cli.process import keep_freed_memory

    keep_freed_memory()
    found = compare(runs, samples)
    table = make_table("", *short_names(found))

    def row(heading: str, cells: list[str]) -> None:
        table.add_row(heading, *cells)

    for where in ("real", "fake", "between"):
        quantiles = [one.quantiles(where) for one in found]
        row(f"gradient norm, {where}: median", [f"{q[0.5]:.4g}" for q in quantiles])
        row("  5 % to 95 %", [f"{q[0.05]:.4g} to {q[0.95]:.4g}" for q in quantiles])
        row("  largest", [f"{q[1.0]:.4g}" for q in quantiles])
    row("largest slope of a pair", [f"{one.largest_slope:.4g}" for one in found])
    row("certified upper bound", ["unknown" if one.upper_bound is None else f"{one.upper_bound:.4g}" for one in found])
    row("largest weight", [f"{one.weights.abs().max():.4g}" for one in found])
    row("weights within 1 % of it", [f"{one.at_the_edge:.1%}" for one in found])
    print_table(table)
    for one in found:
        if one.no_bound is not None:
            say(f"{one.run}: no upper bound: {one.no_bound}", indent=2)
    covers = next((one.bound.covers for one in found if one.bound is not None), None)
    if covers is not None:
        say(f"the upper bound holds for {covers}", indent=2)
    click.echo(f"done: lipschitz.json in each run, {found[0].run}/lipschitz.png")
