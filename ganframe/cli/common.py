"""What the commands share: the group, exit codes, options, tables."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from ganframe import __version__
from ganframe.cli.process import import_torch, print_any_character
from ganframe.errors import RequestError, RunError, noted_if_slow

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from ganframe.components import DataSpec

# Those of components, without importing torch.
KINDS = ("generator", "discriminator", "objective", "constraint", "term", "dataset", "metric")
FAILED, WRONG_REQUEST, INTERRUPTED = 1, 2, 130
WIDTH = 100  # of printed text, in columns
PATIENCE = 30  # seconds for the first process to print a message that all have


@contextmanager
def exit_codes() -> Iterator[None]:
    """Prints an error that the user can correct as one message on standard error, and exits with its code."""
    try:
        yield
    except RequestError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # every process reads the same request
            click.echo(error, err=True)
        else:  # a launcher stops all processes once one of them ends: the first must have printed by then
            time.sleep(PATIENCE)
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
        words = [part for word in args for part in (("--set", word[6:]) if word.startswith("--set=") else (word,))]
        given = zip(words, words[1:], words[2:], strict=False)
        cut = [f"{value} {after}" for flag, value, after in given if flag == "--set" and not after.startswith("-")]
        try:
            rest = super().parse_args(context, args)
        except click.UsageError as error:
            if cut and "unexpected extra argument" in error.message:
                how = f"a value with spaces needs quotes: --set '{cut[0]}'"
                raise click.UsageError(f"{error.message}; {how}", context) from None
            raise
        for name, text in context.params.items():
            if isinstance(text, str) and text.startswith("~"):
                context.params[name] = os.path.expanduser(text)
        return rest

    def invoke(self, context: click.Context) -> Any:
        with exit_codes():
            # Every command needs torch, whose import may take seconds.
            with noted_if_slow("loading torch", 1.0) if sys.stderr.isatty() else nullcontext():
                import_torch()
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
precision_option = click.option(
    "--precision",
    type=click.Choice(["no", "bf16"]),
    default="no",
    help="bf16: the network runs in bf16, which is faster where the device has it. Samples stay float32.",
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


def default_folder(run: str) -> Path:
    """Where samples of a run are written by default: its folder; for a model on the hub, the working directory."""
    from pathlib import Path

    from ganframe.storage.hub import is_hub_name

    return Path("samples") if is_hub_name(run) else Path(run) / "samples"


def require_suffix(file: Path, *suffixes: str) -> None:
    if file.suffix.lower() not in suffixes:
        raise RequestError(f"--out {file}: the name must end in {' or '.join(suffixes)}")


def tell_left_out(file: Path, spec: DataSpec) -> None:
    """Says so where a picture cannot show all channels of the samples or their conditions."""
    from ganframe.errors import warn
    from ganframe.report import pictures

    if file.suffix.lower() != ".npy" and (line := pictures.channels_left_out(spec)):
        warn(line)


def make_table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table


def print_table(table: Table) -> None:
    """Prints a table within the width of the terminal. Lines break between words; names are never cut.

    Where a table is too wide for that, each row is a paragraph of its own.
    """
    from rich.console import Console

    columns = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    widths = _widths(columns, _width() - 3 * len(columns))  # what is around and between cells
    if widths is None:
        _print_rows(columns)
        return
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    console = Console(width=_width(), markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().strip("\n").splitlines()).strip("\n"))


def _width() -> int:
    """The width of the terminal, at most WIDTH, which is also that of redirected output."""
    return max(20, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def _widths(columns: list[list[str]], space: int) -> list[int] | None:
    """The widths of columns that share a space. None where not even their longest words fit into it."""
    from rich.cells import cell_len

    widths = [max((cell_len(word) for cell in cells for word in cell.split()), default=0) for cells in columns]
    wanted = [max((cell_len(line) for cell in cells for line in cell.split("\n")), default=0) for cells in columns]
    spare = space - sum(widths)
    if spare < 0:
        return None
    lacking = sorted(range(len(columns)), key=lambda i: wanted[i] - widths[i])
    for left, i in zip(range(len(columns), 0, -1), lacking, strict=True):  # who lacks least is served first
        more = min(wanted[i] - widths[i], spare // left)
        widths[i] += more
        spare -= more
    return widths


def _print_rows(columns: list[list[str]]) -> None:
    """Prints the rows of a table below each other, the cells of each with their headings."""
    headings = [cells[0] for cells in columns]
    for row in zip(*(cells[1:] for cells in columns), strict=True):
        say(row[0], indent=2)
        for heading, cell in zip(headings[1:], row[1:], strict=True):
            first, *others = cell.splitlines() or [""]
            say(f"  {heading}: {first}".rstrip(), indent=4)
            for line in others:
                say(f"    {line}", indent=6)


def say(line: str, indent: int | None = None) -> None:
    """Prints a line, broken between words at the terminal's width.

    What follows is indented, by default to where the text after a heading begins, as in "memory   0.2 GiB".
    """
    heading = re.match(r"\S.*?\s{2,}(?=\S)", line)
    text_at = heading.end() if heading else 0
    hang = " " * min(text_at if indent is None else indent, _width() // 2)
    broken = textwrap.wrap(line, _width(), subsequent_indent=hang, break_long_words=False, break_on_hyphens=False)
    click.echo("\n".join(broken))


def say_text(text: str) -> None:
    """Prints a docstring with paragraphs and items of lists filled to the terminal's width. Indented lines stay."""
    for paragraph in re.split(r"\n[^\S\n]*\n", text.strip("\n")):
        lines = paragraph.splitlines()
        if any(re.match(r"\s|[-*+>] |[.:|]|\d+[.)] ", line) for line in lines):
            for line in _with_joined_items(lines):
                inside = len(line) - len(line.lstrip())
                say(line, inside + 2) if len(line) > _width() else click.echo(line)
        else:
            say(" ".join(lines), indent=0)
        click.echo()


def _with_joined_items(lines: list[str]) -> list[str]:
    """The lines, with each item of a list as one line: what is indented below an item goes on with it."""
    item = r"\s*([-*+] |\d+[.)] )"
    found: list[str] = []
    for line in lines:
        if found and re.match(item, found[-1]) and re.match(r"\s", line) and not re.match(item, line):
            found[-1] += f" {line.strip()}"
        else:
            found.append(line)
    return found


def in_toml(value: Any) -> str:
    """A value as a recipe would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(in_toml, value))}]"
    return "none" if value is None else json.dumps(value) if isinstance(value, str) else str(value)
