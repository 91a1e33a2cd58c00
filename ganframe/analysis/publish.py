"""Publishes a run: a folder with its weights, recipe, scores and a model card, fit for Hugging Face's hub.

    generator.safetensors  discriminator.safetensors  recipe.toml  environment.json  README.md  samples.png
    conditions.safetensors, where the data has conditions; scheme.json, where samples become rows of a table
    evaluations.jsonl, where the weights were judged

It is a run folder without the means to resume: `load_generator` and `train.from` take it. environment.json has a table
"published" with the step of its weights and the licence.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import tomli
import torch

from ganframe.analysis.model_card import model_card
from ganframe.analysis.trained import TrainedGenerator, load_generator
from ganframe.errors import RequestError
from ganframe.judging.protocol import Score
from ganframe.plugins.registry import Registry
from ganframe.report import pictures
from ganframe.storage import checkpoints, hub, provenance
from ganframe.storage.evaluations import append_evaluations, read_evaluations
from ganframe.storage.files import removed_on_failure
from ganframe.storage.run_folder import PUBLISHED, RunFolder, existing, step_of
from ganframe.storage.weights import how_chosen
from ganframe.training.callbacks import number_shown

COPIED = ("generator", "recipe", "conditions", "scheme")


@attrs.frozen
class Published:
    """What was written: `place` is the folder, or the address on the hub; `name` is what `load_generator` takes.

    `notes` say what its owner should know before others see it.
    """

    place: str
    name: str
    notes: tuple[str, ...]


def publish(
    path: str | Path,
    to: str | Path,
    licence: str | None = None,
    private: bool = False,
    registry: Registry | None = None,
) -> Published:
    """Publishes the networks of a run in a new folder, or on Hugging Face's hub.

    `to` is a folder, "hf://owner/name", or "hub": the recipe's name under the account whose token is there. `licence`
    is an identifier of the hub, as "mit" or "cc-by-4.0"; by default that of a model which is published again. G is the
    one that is sampled from: the moving average, or the best, where the run keeps those; D is that of the same
    checkpoint. Needs the generator's plugin and no dataset.

    Raises RequestError where the run has no checkpoint, where the folder is not empty, and where the hub refuses.
    """
    folder = existing(path)
    licence = licence if licence is not None else folder.noted("licence")
    G = load_generator(path, registry)
    discriminator, step = _discriminator(folder)
    document = tomli.loads(folder.recipe.read_text(encoding="utf-8-sig"))
    scores = [s for s in read_evaluations(folder) if "error" not in s and step in (None, s["judged"]["step"])]

    def write(into: Path, name: str) -> None:
        there = RunFolder(into)
        for part in COPIED:
            if getattr(folder, part).is_file():
                shutil.copyfile(getattr(folder, part), getattr(there, part))
        shutil.copyfile(discriminator, there.discriminator)
        if scores:
            append_evaluations(there, scores)
        _draw(G, there.picture)
        environment = provenance.read_environment(folder)
        noted = {name: value for name, value in (("step", step), ("licence", licence)) if value is not None}
        there.environment.write_text(json.dumps({**environment, PUBLISHED: noted}, indent=2) + "\n", encoding="utf-8")
        card = model_card(name, licence, document, G, environment, step, _latest(scores))
        (into / "README.md").write_text(card, encoding="utf-8")

    notes = tuple(_notes(folder, document, licence, scores))
    if to == "hub" or hub.is_hub_name(to):
        place, name = _on_the_hub(to, str(document.get("name", "model")), private, write)
        return Published(place, name, notes)
    target = Path(to).expanduser()
    if not target.name:  # "." and "..", of which no neighbour can be named
        target = target.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RequestError(f"{target}: exists and is not empty; choose another --to")
    try:
        partial = target.with_name(f".{target.name}.partial")
        with removed_on_failure(partial):
            partial.mkdir(parents=True)
            write(partial, target.name)  # and no path of this machine
            if target.exists():
                target.rmdir()
            partial.rename(target)
    except OSError as error:
        raise RequestError(f"{target}: cannot be written: {error}") from None
    return Published(str(target), str(target), notes)


def _on_the_hub(to: str | Path, called: str, private: bool, write: Any) -> tuple[str, str]:
    """Pushes what `write` writes. Returns the address and the name by which it is loaded."""
    if to == "hub":
        repository = f"{hub.owner()}/{re.sub(r'[^A-Za-z0-9_.-]+', '-', called).strip('-.') or 'model'}"
    else:
        repository, revision = hub.repository(to)
        if revision is not None:
            raise RequestError(f"{to}: is published as the newest revision; leave out @{revision}")
        hub.refuse_without_token()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), f"hf://{repository}")
        return hub.push(Path(folder), repository, private), f"hf://{repository}"


def _discriminator(folder: RunFolder) -> tuple[Path, int | None]:
    """The weights of D that belong to those of G, and their step; None where the folder does not say it."""
    chosen = how_chosen(folder.generator)
    if folder.is_published:
        return folder.discriminator, folder.published_step if chosen is None else int(chosen["step"])
    if chosen is not None:
        found: Path | None = checkpoints.of_step(folder, int(chosen["step"]))
    else:
        found, damages = checkpoints.newest_intact(folder)
        if found is None:
            raise RequestError("\n".join([*damages, f"{folder.path}: this run has no intact checkpoint to publish"]))
        if damages:  # an older D does not belong to this G
            remedy = f"publish after `ganframe run --resume {folder.path}`"
            raise RequestError("\n".join([*damages, f"{folder.path}: the newest checkpoint is damaged; {remedy}"]))
    assert found is not None
    return found / folder.discriminator.name, step_of(found)


def _draw(G: TrainedGenerator, file: Path) -> None:
    G = G if G.conditions is not None or G.spec.condition is None else G.with_conditions(G.spec.blank(1))
    z, y = G.latents(number_shown(G.spec))
    if G.heeds_y and G.spec.classes is not None:
        y = torch.arange(len(z)) % G.spec.classes  # so that each column is of a class, as in the pictures of a run
    pictures.draw(file, G.spec, G.decode(z, y), conditions=y)


def _latest(scores: list[Score]) -> list[Score]:
    """The last score of each metric and protocol."""
    found = {json.dumps([score["metric"], score["protocol"]], sort_keys=True): score for score in scores}
    return list(found.values())


def _notes(folder: RunFolder, document: Mapping[str, Any], licence: str | None, scores: list[Score]) -> Iterator[str]:
    if licence is None:
        yield "the model card names no licence; give one with --license, as --license mit"
    if not scores:
        yield "the model card has no scores; `ganframe evaluate RUN` measures some"
    if folder.conditions.is_file():
        yield "conditions.safetensors has conditions of the data"
    if folder.scheme.is_file():
        yield "scheme.json has the categories of the data, and the limits of its numbers"
    for place, text in _texts(document):
        if _is_path(place, text):
            yield f"recipe.toml says {place} = {text!r}, which others will see"


def _is_path(place: str, text: str) -> bool:
    """Whether a text looks like a path of this machine. The name of a file alone tells nobody anything of it."""
    if hub.is_hub_name(text) or ("://" in text and not text.startswith("file:")):
        return False
    if place.endswith(".name") and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) and not Path(text).exists():
        return False  # of a dataset on the hub, owner/name
    return text in (".", "..") or text.startswith("~") or "/" in text or "\\" in text


def _texts(table: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(place, text) of each text in a parsed recipe."""
    if isinstance(table, str):
        yield place, table
    items = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for name, value in items:
        inner = f"{place}[{name}]" if isinstance(table, list) else f"{place}.{name}".removeprefix(".")
        yield from _texts(value, inner)
