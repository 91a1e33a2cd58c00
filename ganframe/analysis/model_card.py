"""The model card of a published run: README.md as Hugging Face's hub reads it, with a head in YAML."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

from ganframe.analysis.trained import TrainedGenerator
from ganframe.judging.protocol import Score, called, described, numbers

KINDS = ("generator", "discriminator", "objective")
TOLD = ("steps", "critic_steps", "batch_size", "precision", "ema")


def model_card(
    name: str,
    licence: str | None,
    recipe: Mapping[str, Any],
    G: TrainedGenerator,
    environment: Mapping[str, Any],
    step: int | None,
    scores: Sequence[Score],
) -> str:
    """The text of a card. `name` loads the model, `recipe` is the parsed recipe.toml, `step` that of the weights."""
    tags = ["gan", "ganframe", *sorted({_bare(part["use"]) for part in _parts(recipe)})]
    head = {"library_name": "ganframe", "license": licence, "tags": tags, "pipeline_tag": _task(G)}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items() if value is not None), "---", ""]
    lines += [f"# {recipe.get('name', 'model')}", "", _sentence(recipe, G, step), "", "![samples](samples.png)", ""]
    lines += ["## How to load", "", *_loading(name, G, environment), ""]
    lines += ["## Data", "", _data(G), "", *_toml(dataset=recipe.get("dataset", {})), ""]
    lines += ["## Scores", "", *(_table(scores) or ["None were measured."]), ""]
    game = {key: recipe[key] for key in (*KINDS, "constraints", "terms") if recipe.get(key)}
    game["train"] = {key: value for key, value in recipe.get("train", {}).items() if key in TOLD}
    lines += ["## Training", "", "The whole recipe, with its optimisers, is in `recipe.toml`.", "", *_toml(**game), ""]
    if licence is None:
        lines += ["## Licence", "", "None is stated.", ""]
    return "\n".join(lines)


def _parts(recipe: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tables of the game's components."""
    tables = [recipe.get(kind) for kind in KINDS] + [*recipe.get("constraints", ()), *recipe.get("terms", ())]
    return [table for table in tables if isinstance(table, Mapping) and "use" in table]


def _bare(use: str) -> str:
    """A component without its plugin: `builtin:wgan` is wgan."""
    return use.rpartition(":")[2]


def _task(G: TrainedGenerator) -> str | None:
    """The hub's name of what the model does; None where it has none, as for images of a class that is asked for."""
    if not G.spec.is_image:
        return None
    if G.spec.condition is not None:
        return "image-to-image" if len(G.spec.condition) == 3 else None
    return None if G.spec.classes is not None and G.heeds_y else "unconditional-image-generation"


def _sentence(recipe: Mapping[str, Any], G: TrainedGenerator, step: int | None) -> str:
    kinds = [f"{kind} `{_bare(recipe[kind]['use'])}`" for kind in KINDS if "use" in recipe.get(kind, {})]
    parts = [*kinds, *(f"`{_bare(part['use'])}`" for part in _parts(recipe)[len(kinds) :])]
    trained = "" if step is None else f" Weights of step {step:,}"
    averaged = recipe.get("train", {}).get("ema") is not None
    trained += ", a moving average of the generator's." if trained and averaged else "." if trained else ""
    return f"A generative adversarial network, trained with ganframe: {', '.join(parts)}.{trained}"


def _loading(name: str, G: TrainedGenerator, environment: Mapping[str, Any]) -> list[str]:
    plugins = environment.get("plugins", {})
    packages = {plugin["distribution"] for plugin in plugins.values()} - {"ganframe"}
    called = shlex.quote(name)
    own, drawn = "ganframe", f"ganframe sample {called} --out samples.png"
    if G.spec.columns is not None:
        own, drawn = "'ganframe[table]'", f"ganframe sample {called} -n 1000 --out rows.csv"
    shape = ", ".join(map(str, (16, *G.spec.shape)))
    made = f"ganframe {environment.get('ganframe', '')} and torch {environment.get('torch', '')}".replace("  ", " ")
    lines = ["```sh", f"pip install {' '.join([own, *sorted(packages)])}", drawn, "```"]
    lines += ["", "```python", "import ganframe", "", f"G = ganframe.load_generator({name!r})"]
    lines += [f"x = G.sample(16, seed=0)  # ({shape})"]
    if G.spec.classes is not None and G.heeds_y:
        lines += [f"x = G.sample(16, y=0)  # of one class, 0 to {G.spec.classes - 1}"]
    start = f"`from = {json.dumps(name)}` under `[train]` of a recipe starts from its weights."
    return [*lines, "```", "", f"Made with {made}. {start}"]


def _data(G: TrainedGenerator) -> str:
    if G.spec.columns is not None:
        kind = f"rows of a table, coded as {len(G.spec.columns)} blocks of numbers,"
    else:
        kind = "images" if G.spec.is_image else "samples"
    text = f"The {kind} have shape {tuple(G.spec.shape)}"
    text += " and values in [-1, 1]" if G.spec.is_image else ""
    if G.spec.condition is not None:
        text += f"; each is conditioned on y of shape {tuple(G.spec.condition)}"
    if G.spec.classes is not None:
        names = f": {', '.join(G.spec.class_names[:20])}" if G.spec.class_names else ""
        text += f"; {G.spec.classes} classes{names}{' and more' if names and G.spec.classes > 20 else ''}"
        text += "" if G.heeds_y else ", which the generator does not heed"
    return f"{text}."


def _table(scores: Sequence[Score]) -> list[str]:
    if not scores:
        return []
    rows = ["| metric | number | value | protocol |", "|---|---|---|---|"]
    for score in scores:
        rows += [
            f"| {score['metric']} | {called(score, number)} | {value:.5g} | {described(score['protocol'])} |"
            for number, value in numbers(score).items()
        ]
    return rows


def _toml(**tables: Any) -> list[str]:
    return ["```toml", tomli_w.dumps(tables).strip(), "```"]
