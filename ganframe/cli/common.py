"""What the commands share: the group, exit codes, options, tables."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ganframe import __version__
from ganframe.cli.process import print_any_character
from ganframe.errors import RequestError, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

# Those of components, without importing torch.
KINDS = ("generator", "discriminator", "objective", "constraint", "term", "dataset")
FAILED, WRONG_REQUEST, INTERRUPTED = 1, 2, 130


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Prints an error that the user can correct as one message on standard error, and exits with its code."""
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


class Command(click.Command):
    """A command with ganframe's exit codes: 0 done, 1 failed, 2 wrong request, 130 interrupted."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Says how to quote where a value of --set was cut at its spaces, and expands ~ in the place of shells.

        Shells expand it in `--out ~/x`, and not in `--out=~/x`, which would make a folder of this name.
        """
        given = zip(args, args[1:], args[2:], strict=False)
        cut = [f"{value} {after}" for flag, value, after in given if flag == "--set" and not after.startswith("-")]
        try:
            rest = super().parse_args(context, args)
        except click.UsageError as error:
            if cut and "unexpected extra argument" in error.message:
                error.message += f"; a value with spaces needs quotes: --set '{cut[0]}'"
            raise
        for name, text in context.params.items():
            if isinstance(text, str) and text.startswith("~"):
                context.params[name] = os.path.expanduser(text)
        return rest

    def invoke(self, context: click.Context) -> Any:
        with _exit_codes():
            return super().invoke(context)


class Group(click.Group):
    """The group of all commands."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        print_any_character()  # before --help is printed
        return super().main(*arguments, **options)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ganframe")
def main() -> None:
    """Trains generative adversarial networks from components that anyone can publish as plugins."""


# ------------------------------------------------------------------------------------------------------------- options


def _block(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> None:
    """Adds the plugins of --block to the environment variable that the registry reads."""
    if names:
        from ganframe.errors import did_you_mean
        from ganframe.plugins.discovery import installed

        known = {name for found in installed() for name in (found.name, found.distribution)}
        for name in names:
            if name not in known:
                raise click.BadParameter(f"no plugin '{name}' is installed{did_you_mean(name, known)}")
        before = os.environ.get("GANFRAME_BLOCK")
        os.environ["GANFRAME_BLOCK"] = ",".join(filter(None, [before, *names]))


def options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Several click options as one decorator."""

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


# -------------------------------------------------------------------------------------------------------------- output


@contextmanager
def as_request_error() -> Iterator[None]:
    """Turns ValueError into RequestError: the user asked for something that does not exist."""
    try:
        yield
    except ValueError as error:
        raise RequestError(str(error)) from None


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Creates the folder of a file, and turns the errors of writing to it into RequestError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (ValueError, OSError) as error:
        raise RequestError(str(error)) from None


def require_suffix(file: Path, *suffixes: str) -> None:
    if file.suffix not in suffixes:
        raise RequestError(f"--out {file}: the name must end in {' or '.join(suffixes)}")


def make_table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def print_table(table: Table) -> None:
    from rich.console import Console

    # Redirected output has no width. It is not folded at 80 columns, so that cells can be searched.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
    console.print(table)


def in_toml(value: Any) -> str:
    """A value as a recipe would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(in_toml, value))}]"
    return "none" if value is None else json.dumps(value) if isinstance(value, str) else str(value)
