"""divergence, lipschitz."""

from __future__ import annotations

import click

from ganframe.cli.common import Command, blocking, make_table, options, print_table, setting


@click.command(cls=Command)
@click.argument("recipe", metavar="RECIPE")
@click.option("--against", metavar="RUN", help="The other side: the generator of this run, for RECIPE's [against].")
@click.option("--out", metavar="DIR", help="The folder of the result. By default runs/<recipe>/<number>.")
@options(setting, blocking)
def divergence(recipe: str, against: str | None, out: str | None, overrides: tuple[str, ...]) -> None:
    """Measure the divergence between RECIPE's dataset and another side by training a discriminator alone."""
    from ganframe.analysis.divergence import measure
    from ganframe.cli.process import keep_freed_memory
    from ganframe.recipes.reading import load_comparison

    keep_freed_memory()
    measured = measure(load_comparison(recipe, overrides, against), out)
    click.echo(f"-L_D on held-out samples   {measured.value:.5f} ± {measured.error:.5f}")
    if measured.exact is not None:
        click.echo(f"exact, by quadrature       {measured.exact:.5f}")
    if measured.transport is not None:
        click.echo(f"exact W1 between samples   {measured.transport:.5f}")
    if measured.critic_error is not None:
        click.echo(f"mean |D(x) - D*(x)|        {measured.critic_error:.5f}")
    drawn = [name for name in ("convergence.png", "critic.png") if (measured.folder / name).exists()]
    click.echo(f"done: {measured.folder}/ has divergence.json, {', '.join(drawn)}, comparison.toml")


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.option("-n", "samples", default=500, show_default=True, type=click.IntRange(2), help="Points of each kind.")
@blocking
def lipschitz(runs: tuple[str, ...], samples: int) -> None:
    """Measure the slopes of the discriminators of RUNs: gradient norms, the largest slope found, an upper bound."""
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
    row("upper bound", ["unknown" if one.upper_bound is None else f"{one.upper_bound:.4g}" for one in found])
    row("largest weight", [f"{one.weights.abs().max():.4g}" for one in found])
    row("weights within 1 % of it", [f"{one.at_the_edge:.1%}" for one in found])
    print_table(table)
    for one in found:
        if one.no_bound is not None:
            click.echo(f"{one.run}: no upper bound: {one.no_bound}")
    click.echo(f"done: lipschitz.json in each run, {found[0].run}/lipschitz.png")
