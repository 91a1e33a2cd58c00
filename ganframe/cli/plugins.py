"""plugins, describe, new-plugin."""

from __future__ import annotations

import json
from typing import Any

import click

from ganframe.cli.common import KINDS, Command, blocking, in_toml, make_table, print_table, say, say_text
from ganframe.errors import RequestError


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@blocking
def plugins(as_json: bool) -> None:
    """List the installed plugins: their components and optimisers, or why they failed to load."""
    from ganframe.plugins.registry import load

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
                "optimizers": sorted(p.optimizers),
                "features": sorted(p.features),
            }
            for p in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    table = make_table("plugin", "distribution", "entry point", "status", "load", "components")
    for p in found:
        tables = {**{f"{kind}s": table for kind, table in p.components.items()}, "optimizers": p.optimizers}
        tables["features"] = p.features
        listed = [f"{kinds}: {', '.join(sorted(names))}" for kinds, names in tables.items() if names]
        text = "\n".join(filter(None, [*listed, p.cause]))
        table.add_row(p.name, f"{p.distribution} {p.version}", p.target, p.status, f"{p.seconds:.2f} s", text)
    print_table(table)
    if any(p.status == "failed" for p in found):
        click.echo("GANFRAME_STRICT=1 ganframe plugins shows where the first of them failed.", err=True)


@click.command(cls=Command)
@click.argument("kind", required=False)
@click.argument("name", required=False)
@blocking
def describe(kind: str | None, name: str | None) -> None:
    """Show a component or optimiser and its options: type, default, help. Without NAME or KIND, list them."""
    import inspect
    import typing

    import attrs

    from ganframe.errors import did_you_mean
    from ganframe.plugins.registry import load
    from ganframe.recipes.strict import toml_name

    registry = load()
    kinds = (*KINDS, "optimizer", "features")
    if kind is not None and kind != "features" and kind.removesuffix("s") not in kinds:
        raise RequestError(f"unknown kind '{kind}'{did_you_mean(kind, kinds)}")
    kind = kind if kind == "features" else kind and kind.removesuffix("s")
    if kind is None or name is None:
        table = make_table("kind", "name", "plugin", "what it is")
        for plugin in registry.plugins:
            for its_kind in kinds if kind is None else (kind,):
                for its_name, offered in plugin.table(its_kind).items():
                    table.add_row(its_kind, its_name, plugin.name, (inspect.getdoc(offered) or "").partition("\n")[0])
        print_table(table)
        return
    component = registry.find(kind, name)
    plugin, _ = registry.locate(component)
    say(f"{kind} {registry.full_name(component)}, from {plugin.distribution} {plugin.version}", indent=2)
    click.echo()
    say_text(inspect.getdoc(component) or "")
    if kind == "features":
        return
    if kind == "optimizer":
        say(f"Its options: {', '.join(_parameters(component))}", indent=2)
        return
    fields = attrs.fields(component)
    if not fields:
        click.echo("It has no options.")
        return
    table = make_table("option", "type", "default", "what it does")
    types = typing.get_type_hints(component)
    for field in fields:
        default = "required" if field.default is attrs.NOTHING else in_toml(field.default)
        if attrs.has(type(field.default)):  # a component
            cls = type(field.default)
            default = registry.full_name(cls) if registry.offers(cls) else cls.__name__
        kinds_of_value = _type(types[field.name]) + (" | ramp" if field.metadata.get("scheduled") else "")
        table.add_row(toml_name(field.name), kinds_of_value, default, field.metadata.get("help", ""))
    print_table(table)


def _parameters(optimizer: type) -> list[str]:
    """The options of an optimiser with their defaults, as its signature has them: all but the weights."""
    import inspect

    return [
        parameter.name if parameter.default is parameter.empty else f"{parameter.name} {in_toml(parameter.default)}"
        for parameter in list(inspect.signature(optimizer).parameters.values())[1:]
    ]


def _type(hint: Any) -> str:
    """A type in the words of recipes: `"batch" | "none"`, `integer`, `list of numbers`."""
    import types
    import typing

    words = {int: "integer", float: "number", str: "text", bool: "true or false", types.NoneType: "none"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " | ".join(map(in_toml, arguments))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_type, arguments))
    if origin in (tuple, list):
        inner = dict.fromkeys(_type(argument) for argument in arguments if argument is not Ellipsis)
        return "list of " + ", ".join(f"{word}s" if word in words.values() else word for word in inner)
    return words.get(hint, getattr(hint, "__name__", str(hint)))


@click.command("new-plugin", cls=Command)
@click.argument("name", metavar="NAME")
@click.option("--kind", default="objective", show_default=True, type=click.Choice(KINDS), help="The component's kind.")
@click.option("--out", metavar="DIR", help="The new folder. By default ./NAME.")
@blocking
def new_plugin(name: str, kind: str, out: str | None) -> None:
    """Write the package of a new plugin: a working component, its recipe and tests, as a start for your own."""
    from pathlib import Path

    from ganframe.plugins.registry import load
    from ganframe.plugins.scaffold import write_package

    folder = Path(out or name)
    for file in write_package(name, kind, folder, load()):
        click.echo(file)
    click.echo(f"next: pip install -e '{folder}[test]' && pytest {folder} && ganframe plugins")
