"""The commands. Whatever is heavy is imported inside them, so that --help answers at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import click

from ganframe import __version__
from ganframe.errors import RequestError, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

KINDS = ("generator", "discriminator", "objective", "constraint", "dataset")  # components' own, without torch
FAILED, WRONG_REQUEST, INTERRUPTED = 1, 2, 130


@contextmanager
def _exit_codes() -> Iterator[None]:
    """What a user can mend becomes one message on standard error and an exit code."""
    try:
        yield
    except RequestError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # every process reads the same request
            click.echo(error, err=True)
        sys.exit(WRONG_REQUEST)
    except RunError as error:
        click.echo(error, err=True)
        sys.exit(FAILED)
    except KeyboardInterrupt as error:
        click.echo(error if error.args else "interrupted", err=True)
        sys.exit(INTERRUPTED)


class _Command(click.Command):
    def invoke(self, context: click.Context) -> Any:
        with _exit_codes():
            return super().invoke(context)


class _Group(click.Group):
    command_class = _Command


def _block(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> None:
    """Adds the plugins named by --block to the environment's list, where the loader looks."""
    if names:
        from ganframe.discovery import installed
        from ganframe.errors import did_you_mean

        known = {name for found in installed() for name in (found.name, found.distribution)}
        for name in names:
            if name not in known:
                raise click.BadParameter(f"no plugin '{name}' is installed{did_you_mean(name, known)}")
        before = os.environ.get("GANFRAME_BLOCK")
        os.environ["GANFRAME_BLOCK"] = ",".join(filter(None, [before, *names]))


def _options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


blocking = click.option(
    "--block", multiple=True, metavar="PLUGIN", expose_value=False, callback=_block, help="Do not load this plugin."
)
setting = click.option(
    "--set", "overrides", multiple=True, metavar="K=V", help="Override an option, as in train.steps=10."
)

SEED = click.IntRange(0, 2**63 - 1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ganframe")
def main() -> None:
    """Trains generative adversarial networks out of parts that anyone can publish."""


@main.command()
@click.argument("recipe", required=False, metavar="RECIPE")
@click.option("--out", metavar="DIR", help="The run's folder. By default runs/<recipe>/<number>.")
@click.option("--resume", metavar="DIR", help="Go on with the run in this folder; no RECIPE then.")
@_options(setting, blocking)
def run(recipe: str | None, out: str | None, resume: str | None, overrides: tuple[str, ...]) -> None:
    """Train as RECIPE says."""
    if (recipe is None) == (resume is None):
        raise click.UsageError("give either a RECIPE or --resume DIR")
    if resume is not None and out is not None:
        raise click.UsageError("--out and --resume exclude each other: a resumed run stays in its folder")
    import ganframe
    from ganframe.runfolder import RunFolder

    if resume is not None:
        done = ganframe.resume(resume, overrides)
    else:
        assert recipe is not None
        done = ganframe.run(ganframe.load_recipe(recipe, overrides), out)
    if os.environ.get("RANK", "0") == "0":
        folder = RunFolder(done.folder)
        picture = folder.samples(done.metrics[-1]["step"])
        found = [str(p.relative_to(done.folder)) for p in (folder.generator, picture, folder.metrics) if p.exists()]
        click.echo(f"done: {done.folder}/ holds {', '.join(found)}")


@main.command()
@click.argument("recipe", metavar="RECIPE")
@_options(setting, blocking)
def check(recipe: str, overrides: tuple[str, ...]) -> None:
    """Validate RECIPE, build everything and take a few real steps. Keeps nothing."""
    import ganframe
    from ganframe import session

    report = session.check(ganframe.load_recipe(recipe, overrides))
    classes = f", {report.spec.classes} classes" if report.spec.classes else ""
    click.echo(f"{recipe}: sound")
    click.echo(f"data           shape {report.spec.shape}{classes}")
    click.echo(f"generator      {report.generator_parameters:,} parameters")
    click.echo(f"discriminator  {report.discriminator_parameters:,} parameters")
    click.echo(f"time           {report.seconds_per_step:.3g} s a step, about {_duration(report.seconds)} in all")
    click.echo(f"memory         {report.memory / 2**30:.2f} GiB at the most so far, on {report.device}")


@main.command()
@click.argument("recipe", metavar="RECIPE")
@click.option("--against", metavar="RUN", help="The other side: the generator of this run, for RECIPE's [against].")
@click.option("--out", metavar="DIR", help="Where the result goes. By default runs/<recipe>/<number>.")
@_options(setting, blocking)
def divergence(recipe: str, against: str | None, out: str | None, overrides: tuple[str, ...]) -> None:
    """Measure the divergence between RECIPE's dataset and another side by training a critic alone."""
    from ganframe.divergence import measure
    from ganframe.recipe import load_comparison

    measured = measure(load_comparison(recipe, overrides, against), out)
    click.echo(f"-L_D on held-out samples   {measured.value:.5f} ± {measured.error:.5f}")
    if measured.exact is not None:
        click.echo(f"exact, by quadrature       {measured.exact:.5f}")
    if measured.transport is not None:
        click.echo(f"W1 of samples, exactly     {measured.transport:.5f}")
    if measured.critic_error is not None:
        click.echo(f"mean |D(x) - D*(x)|        {measured.critic_error:.5f}")
    drawn = [name for name in ("convergence.png", "critic.png") if (measured.folder / name).exists()]
    click.echo(f"done: {measured.folder}/ holds divergence.json, {', '.join(drawn)}, comparison.toml")


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.option("-n", "samples", default=500, show_default=True, type=click.IntRange(2), help="Points of each kind.")
@blocking
def lipschitz(runs: tuple[str, ...], samples: int) -> None:
    """Measure how steep the critics of finished RUNs are: gradient norms, the largest slope found, an upper bound."""
    from ganframe.lipschitz import compare, short_names

    found = compare(runs, samples)
    table = _table("", *short_names(found))

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
    _print(table)
    for one in found:
        if one.no_bound is not None:
            click.echo(f"{one.run}: no upper bound: {one.no_bound}")
    click.echo(f"done: lipschitz.json in each run, {found[0].run}/lipschitz.png")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@blocking
def plugins(as_json: bool) -> None:
    """List the installed plugins, and what became of each."""
    from ganframe.plugins import load

    found = load().plugins
    if as_json:
        rows = [
            {
                "name": p.name,
                "distribution": p.distribution,
                "version": p.version,
                "entry_point": p.target,
                "status": p.status,
                "cause": p.cause,
                "seconds": round(p.seconds, 4),
                "components": {kind: sorted(table) for kind, table in p.components.items()},
            }
            for p in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    table = _table("plugin", "distribution", "entry point", "status", "load", "components")
    for p in found:
        listed = [f"{kind}s: {', '.join(sorted(names))}" for kind, names in p.components.items() if names]
        text = "\n".join(filter(None, [*listed, p.cause]))
        table.add_row(p.name, f"{p.distribution} {p.version}", p.target, p.status, f"{p.seconds:.2f} s", text)
    _print(table)
    if any(p.status == "failed" for p in found):
        click.echo("GANFRAME_STRICT=1 ganframe plugins shows where the first of them failed.", err=True)


@main.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@blocking
def describe(kind: str | None, name: str | None) -> None:
    """Show what a component does and its options: type, default, help. Without NAME or KIND, list them."""
    import inspect
    import typing

    import attrs

    from ganframe.errors import did_you_mean
    from ganframe.plugins import load

    registry = load()
    if kind is not None and kind.removesuffix("s") not in KINDS:
        raise RequestError(f"unknown kind '{kind}'{did_you_mean(kind, KINDS)}")
    kind = kind and kind.removesuffix("s")
    if kind is None or name is None:
        table = _table("kind", "name", "plugin", "what it is")
        for plugin, its_kind, its_name, component in registry:
            if kind in (None, its_kind):
                table.add_row(its_kind, its_name, plugin.name, (inspect.getdoc(component) or "").partition("\n")[0])
        _print(table)
        return
    component = registry.find(kind, name)
    plugin, _ = registry.locate(component)
    click.echo(f"{kind} {registry.full_name(component)}, from {plugin.distribution} {plugin.version}\n")
    click.echo(f"{inspect.getdoc(component)}\n")
    fields = attrs.fields(component)
    if not fields:
        click.echo("It has no options.")
        return
    table = _table("option", "type", "default", "what it does")
    types = typing.get_type_hints(component)
    for field in fields:
        default = "required" if field.default is attrs.NOTHING else _toml(field.default)
        table.add_row(field.name, _type(types[field.name]), default, field.metadata.get("help", ""))
    _print(table)


@main.command("new-plugin")
@click.argument("name", metavar="NAME")
@click.option("--kind", default="objective", show_default=True, type=click.Choice(KINDS), help="What it offers.")
@click.option("--out", metavar="DIR", help="The new folder. By default ./NAME.")
@blocking
def new_plugin(name: str, kind: str, out: str | None) -> None:
    """Write the package of a new plugin: a working component, its recipe and tests, to be changed into your own."""
    from pathlib import Path

    from ganframe import plugins, scaffold

    folder = Path(out or name)
    written = scaffold.write_package(name, kind, folder, plugins.load())
    for file in written:
        click.echo(file)
    click.echo(f"next: pip install -e '{folder}[test]' && pytest {folder} && ganframe plugins")


@main.command()
@click.argument("run", metavar="RUN")
@click.option("-n", "count", default=64, show_default=True, type=click.IntRange(1), help="How many samples.")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Of the latents.")
@click.option("--label", type=int, help="The class to make; by default classes are drawn evenly.")
@click.option("--out", metavar="FILE", help="A picture (.png) or an array (.npy). By default RUN/samples/seed-<S>.png.")
@blocking
def sample(run: str, count: int, seed: int, label: int | None, out: str | None) -> None:
    """Make samples with the generator of a finished RUN."""
    from pathlib import Path

    import numpy as np

    import ganframe
    from ganframe import pictures

    file = Path(out) if out else Path(run) / "samples" / f"seed-{seed}{'' if label is None else f'-label-{label}'}.png"
    _allow(file, ".png", ".npy")
    G = ganframe.load_generator(run)
    with _request():
        samples = G.sample(count, seed=seed, y=label)
    with _writing(file):
        if file.suffix == ".npy":
            np.save(file, samples.numpy())
        else:
            pictures.draw(file, G.spec, samples)
    click.echo(f"{count} samples: {file}")


picture_of = _options(
    click.option("-n", "count", default=64, show_default=True, type=click.IntRange(1), help="Samples to choose from."),
    click.option(
        "--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Of the samples to choose from."
    ),
)


@main.command()
@click.argument("run", metavar="RUN")
@click.option("--between", nargs=2, multiple=True, metavar="A B", help="From sample A to B; may be given again.")
@click.option("--steps", default=9, show_default=True, type=click.IntRange(2), help="Samples on a way, ends included.")
@click.option("--path", type=click.Choice(["spherical", "linear"]), help="By default linear for uniform latents only.")
@click.option("--label", type=int, help="The class to make; by default that of A.")
@click.option("--out", metavar="FILE", help="A picture (.png), an animation (.gif) or an array (.npy).")
@_options(picture_of, blocking)
def interpolate(
    run: str,
    between: tuple[tuple[str, str], ...],
    steps: int,
    path: Literal["spherical", "linear"] | None,
    label: int | None,
    out: str | None,
    count: int,
    seed: int,
) -> None:
    """Go from one latent to another. A and B are places in the picture of `ganframe sample RUN`, or SEED:PLACE."""
    from pathlib import Path

    import numpy as np

    import ganframe
    from ganframe import latent, pictures

    file = Path(out) if out else Path(run) / "samples" / "interpolation.png"
    G = ganframe.load_generator(run)
    _allow(file, *([".png", ".gif", ".npy"] if G.spec.is_image else [".png", ".npy"]))
    pairs = between or tuple((str(i), str(i + 1)) for i in range(0, min(16, count - 1), 2)) or (("0", "0"),)
    with _request():
        samples = latent.ways(G, pairs, steps, path, label, seed, count)
    with _writing(file):
        if file.suffix == ".npy":
            np.save(file, samples.numpy())
        elif file.suffix == ".gif":
            pictures.draw_animation(file, samples.unbind(1))
        else:
            pictures.draw(file, G.spec, samples.flatten(0, 1), columns=steps)
    click.echo(f"{len(pairs)} ways of {steps} samples: {file}")


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("run", metavar="RUN")
@click.argument("expression", metavar="EXPRESSION")
@click.option("--label", type=int, help="The class to make; by default what is left of the groups' classes.")
@click.option("--out", metavar="FILE", help="A picture (.png), or the result as an array (.npy).")
@_options(picture_of, blocking)
def arithmetic(run: str, expression: str, label: int | None, out: str | None, count: int, seed: int) -> None:
    """Add and subtract means of groups of latents, as in "3,7,12 - 4,9,11 + 5,8,2".

    A number is a place in the picture of `ganframe sample RUN`; SEED:PLACE is one in another seed's, class=K all that
    show class K. The picture has a row for each group, its mean first, and below them the result, then the same with
    a little noise.
    """
    from pathlib import Path

    import numpy as np

    import ganframe
    from ganframe import latent, pictures

    G = ganframe.load_generator(run)
    file = Path(out) if out else Path(run) / "samples" / f"arithmetic.{'png' if G.spec.is_image else 'npy'}"
    _allow(file, *([".png", ".npy"] if G.spec.is_image else [".npy"]))
    found = latent.arithmetic(run, expression, seed, count, label)
    with _writing(file):
        if file.suffix == ".npy":
            np.save(file, latent.decode_result(G, found)[0].numpy())
        else:
            rows = latent.rows(G, found)
            pictures.draw(file, G.spec, rows.flatten(0, 1), columns=rows.shape[1])
    click.echo(f"{' '.join(('-' if g.sign < 0 else '+') + f' mean of {len(g.z)}' for g in found.groups)}: {file}")


def _allow(file: Path, *suffixes: str) -> None:
    if file.suffix not in suffixes:
        raise RequestError(f"--out {file}: the name must end in {' or '.join(suffixes)}")


@contextmanager
def _request() -> Iterator[None]:
    """What cannot be made is the user's to mend, and nothing is written."""
    try:
        yield
    except ValueError as error:
        raise RequestError(str(error)) from None


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Makes the folder of a file; what cannot be made or written is the user's to mend."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (ValueError, OSError) as error:
        raise RequestError(str(error)) from None


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    # Redirected output has no width; cells folded at 80 columns could not be searched.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
    console.print(table)


def _type(hint: Any) -> str:
    """A type as a reader of recipes would say it: `"batch" | "none"`, `integer`, `list of numbers`."""
    import types
    import typing

    words = {int: "integer", float: "number", str: "text", bool: "true or false", types.NoneType: "none"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " | ".join(map(_toml, arguments))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_type, arguments))
    if origin in (tuple, list):
        inner = dict.fromkeys(_type(argument) for argument in arguments if argument is not Ellipsis)
        return "list of " + ", ".join(f"{word}s" if word in words.values() else word for word in inner)
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return "none" if value is None else json.dumps(value) if isinstance(value, str) else str(value)
