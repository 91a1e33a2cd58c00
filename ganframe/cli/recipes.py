"""recipes."""

from __future__ import annotations

from pathlib import Path

import click

from ganframe.cli.common import exit_codes, make_table, print_table
from ganframe.errors import RequestError


@click.command()
@click.argument("action", type=click.Choice(["copy"]), required=False, metavar="[copy]")
@click.argument("name", required=False, metavar="[NAME]")
@click.argument("file", required=False, metavar="[FILE]")
@exit_codes()
def recipes(action: str | None, name: str | None, file: str | None) -> None:
    """List the installed recipes; `recipes copy NAME [FILE]` writes one as a file of your own to edit.

    Commands take an installed recipe by its name, as in `ganframe run wgan_sn`. Imports no plugin.
    """
    if action is None:
        _list()
    elif name is None:
        raise click.UsageError("copy needs the NAME of a recipe; `ganframe recipes` lists them")
    else:
        _copy(name, file)


def _list() -> None:
    from ganframe.recipes.installed import installed_recipes

    found = installed_recipes()
    names = [recipe.name for recipe in found]
    for number, distribution in enumerate(dict.fromkeys(recipe.distribution for recipe in found)):
        table = make_table(distribution, "command", "what it is")
        for recipe in found:
            if recipe.distribution == distribution:
                name = recipe.name if names.count(recipe.name) == 1 else recipe.full_name
                table.add_row(name, recipe.command, recipe.summary)
        click.echo() if number else None
        print_table(table)


def _copy(name: str, out: str | None) -> None:
    from ganframe.recipes.installed import copied, find_recipe

    recipe = find_recipe(name)
    file = Path(out or ".").expanduser()
    if file.is_dir() or (out or "").endswith("/"):
        file /= recipe.file.name
    if file.exists():
        raise RequestError(f"{file}: exists already; choose another FILE")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(copied(recipe), encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{file}: cannot be written: {error.strerror or error}") from None
    click.echo(f"{file}: edit it, then: ganframe {recipe.command} {file}")
