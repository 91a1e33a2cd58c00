"""The page of a run: its curves, samples, scores, recipe, environment and messages, from what its folder holds.

That of a published model has samples, scores, recipe, environment, and how to load it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli

from ganframe.components import DataSpec
from ganframe.errors import RequestError
from ganframe.judging.protocol import Score, described, flat, numbers
from ganframe.plugins.registry import load
from ganframe.report.page import (
    Html,
    Section,
    Series,
    chart,
    code,
    details,
    escape,
    items,
    link,
    notice,
    paragraph,
    side_by_side,
    table,
    write_page,
)
from ganframe.report.page_of_recipe import Row, in_toml, rows_of
from ganframe.report.page_of_samples import published_samples, samples
from ganframe.storage.evaluations import read_evaluations
from ganframe.storage.log import Record, damaged_lines, read_log
from ganframe.storage.messages import Message, read_messages
from ganframe.storage.provenance import read_environment
from ganframe.storage.run_folder import RunFolder, is_locked
from ganframe.storage.weights import generator_spec

GROUPS = {
    "loss_": ("Losses", "mean loss"),
    "score_": ("Scores of the discriminator", "mean raw score"),
    "penalty_": ("Penalties", "mean penalty"),
    "term_": ("Terms", "mean value"),
    "gradient_norm_": ("Gradient norms", "norm"),
    "lr_": ("Learning rates", "rate"),
}
"""The curves of the log by the beginnings of their names: title, and what the numbers are."""
NOT_DRAWN = ("step", "seconds")
FAILURE = "failure.txt"  # of a run of a study


def write_run_page(folder: RunFolder, running: bool | None = None, above: str | None = None) -> Path:
    """Writes report.html in the folder of a run or of a published model, from what is there, and returns it.

    `running` says whether the run goes on, where the caller knows it: the page then loads itself again. `above` is the
    address of the page of its study, relative to this one. Raises RequestError where the folder has nothing of a run,
    and OSError where it cannot be written.
    """
    document, problems = _recipe(folder)
    records, messages, scores = read_log(folder), read_messages(folder), read_evaluations(folder)
    published = folder.is_published
    shown = published_samples(folder) if published else samples(folder, _spec(folder))
    if not (document or records or scores or shown):
        # runs/, or runs/NAME/; not deeper, as the folder may be anyone's home
        below = sorted(f.parent for depth in ("*", "*/*") for f in folder.path.glob(f"{depth}/recipe.toml"))
        if below:
            named = ", ".join(map(str, below[:3])) + (", …" if len(below) > 3 else "")
            raise RequestError(f"{folder.path}: not the folder of a run; runs below it: {named}")
        raise RequestError(f"{folder.path}: not the folder of a run, and nothing of one is in it")
    going = is_locked(folder) if running is None else running
    problems += [line.removeprefix(f"{folder.path}/") for line in damaged_lines(folder)]
    none = "There are no samples yet." if going else "There are no samples."
    sections = [_section("Samples", [shown] if shown else [], none)]
    if records or not published:
        sections.append(_section("Curves", _curves(records, messages), "log.jsonl has no lines."))
    if scores:
        sections.append(Section("Scores", _scores(scores)))
    sections += [
        _section("Recipe", _options(folder, document), "There is no recipe.toml that can be read."),
        _section("Environment", _environment(folder), "There is no environment.json that can be read."),
    ]
    if messages or not published:
        sections.append(_section("Messages", _messages(messages), "There were no warnings."))
    if published:
        sections.append(Section("How to load", _loading(folder, document)))
    else:
        sections.append(Section("Go on", _commands(folder, document, records)))
    name = str(document.get("name") or folder.path.absolute().name)
    stands = _published(folder) if published else _standing(folder, document, records, messages, going)
    summary = [stands[0], *_told(document), *stands[1:], *map(notice, problems)]
    if above is not None:
        summary.append(Html(f"<p>{link('The study of this run', above)}</p>"))
    write_page(folder.report, f"{'Model' if published else 'Run'} {name}", sections, summary, live=going)
    return folder.report


def _section(heading: str, parts: Sequence[Html], otherwise: str) -> Section:
    return Section(heading, parts or [paragraph(otherwise)])


def _recipe(folder: RunFolder) -> tuple[dict[str, Any], list[str]]:
    """recipe.toml as a dict, empty where there is none, and what is wrong with it."""
    try:
        return tomli.loads(folder.recipe.read_text(encoding="utf-8-sig")), []
    except FileNotFoundError:
        return {}, ["there is no recipe.toml; the page shows what is there"]
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"recipe.toml cannot be read: {error}"]


def _spec(folder: RunFolder) -> DataSpec | None:
    with suppress(RequestError):
        return generator_spec(folder.generator)
    return None


# ------------------------------------------------------------------------------------------------------------- summary


def _standing(
    folder: RunFolder, document: Mapping[str, Any], records: Sequence[Record], messages: Sequence[Message], going: bool
) -> list[Html]:
    """Where the run stands, and why it failed."""
    step, steps = records[-1]["step"] if records else 0, _get(document, "train", "steps")
    at = f"step {step:,}" + (f" of {steps:,}" if isinstance(steps, int) else "")
    time = f", {_clock(records[-1]['seconds'])}" if records else ""
    failed = _failure(folder, messages)
    finished = isinstance(steps, int) and (step >= steps or folder.checkpoint(steps).is_dir())
    state = "Running" if going else "Finished" if finished else "Failed" if failed else "Stopped"
    found = [paragraph(f"{state}: {at}{time}.")]
    return [*found, notice(failed, bad=True)] if failed and not going and not finished else found


def _published(folder: RunFolder) -> list[Html]:
    """What a published model is."""
    step, licence = folder.published_step, folder.noted("licence")
    found = [paragraph("A published model" + ("." if step is None else f", of step {step:,}."))]
    return found if licence is None else [*found, paragraph(f"Licence: {licence}.")]


def _told(document: Mapping[str, Any]) -> list[Html]:
    """What the run is of."""
    what = [(name, _get(document, name, "use")) for name in ("dataset", "generator", "discriminator", "objective")]
    told = [f"{name} {str(use).removeprefix('builtin:')}" for name, use in what if use is not None]
    seed = [f"seed {document['seed']}"] if "seed" in document else []
    return [paragraph(", ".join([*told, *seed]) + ".")] if told else []


def _failure(folder: RunFolder, messages: Sequence[Message]) -> str | None:
    """Why the run failed, where it was not resumed since."""
    for message in reversed(messages):
        if message.kind in ("failed", "resumed"):
            return message.text if message.kind == "failed" else None
    with suppress(OSError, ValueError):
        return (folder.path / FAILURE).read_text(encoding="utf-8").strip() or None
    return None


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{seconds:.3g} s" if seconds < 60 else f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _get(document: Mapping[str, Any], table: str, name: str) -> Any:
    found = document.get(table)
    return found.get(name) if isinstance(found, Mapping) else None


# -------------------------------------------------------------------------------------------------------------- curves


def _curves(records: Sequence[Record], messages: Sequence[Message]) -> list[Html]:
    """The charts of the log. A null in it, for a value that is not finite, is a gap in its line."""
    steps = [record["step"] for record in records]
    names = [name for name in dict.fromkeys(name for record in records for name in record) if name not in NOT_DRAWN]
    groups: dict[str, list[str]] = {start: [] for start in (*GROUPS, "")}
    for name in names:
        groups[next(start for start in groups if name.startswith(start))].append(name)
    charts = []
    for start, members in groups.items():
        title, unit = GROUPS.get(start, ("Other values", ""))
        lines = [Series(name.removeprefix(start), [_logged(record, name) for record in records]) for name in members]
        if lines:
            charts.append(chart(title, steps, lines, "step", unit))
    if not charts:
        return []
    resumed = [f"{message.step:,}" for message in messages if message.kind == "resumed" and message.step is not None]
    told = [paragraph(f"The run was resumed at step {', '.join(resumed)}.")] if resumed else []
    zoom = paragraph("Drag over a chart to zoom in; a double click zooms out. A gap is a value that is not finite.")
    return [*told, zoom, side_by_side(charts)]


def _logged(record: Record, name: str) -> float | None:
    if name not in record:
        return None
    return float("nan") if record[name] is None else record[name]


# -------------------------------------------------------------------------------------------------------------- scores


def _scores(scores: Sequence[Score]) -> list[Html]:
    """A chart of each number that was measured at several steps, and the newest of each with its protocol."""
    lines: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for score in scores:
        for name, value in numbers(score).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                of_number = lines.setdefault((score["metric"], name), {})
                of_number.setdefault(_protocol(score), {})[score["judged"]["step"]] = float(value)
    charts, rows = [], []
    for (metric, name), found in lines.items():
        title = name if name == metric else f"{metric}: {name}"
        steps = sorted({step for values in found.values() for step in values})
        if len(steps) > 1:
            several = [f", protocol {i}" if len(found) > 1 else "" for i in range(1, len(found) + 1)]
            series = [
                Series(name + told, [values.get(step) for step in steps], [protocol] * len(steps))
                for told, (protocol, values) in zip(several, found.items(), strict=True)
            ]
            charts.append(chart(title, steps, series))
        rows += [[title, max(values), values[max(values)], protocol] for protocol, values in found.items()]
    failed = [[s["metric"], s["judged"]["step"], f"failed: {s['error']}", _protocol(s)] for s in scores if "error" in s]
    newest = table("The newest scores", ["metric", "step", "value", "protocol"], [*rows, *failed])
    return [*([side_by_side(charts)] if charts else []), newest]


def _protocol(score: Score) -> str:
    """How a score was measured, in one line."""
    protocol = score["protocol"]
    try:
        told = described(protocol)
    except (LookupError, TypeError, ValueError, AttributeError):  # of another version
        return ", ".join(f"{name} {value}" for name, value in flat(protocol).items())
    options = protocol.get("options")
    given = [f"{name} {in_toml(value)}" for name, value in options.items()] if isinstance(options, Mapping) else []
    return "; ".join([f"{protocol.get('metric')}{' with ' if given else ''}{', '.join(given)}", told])


# ------------------------------------------------------------------------------------------------ recipe, environment


def _options(folder: RunFolder, document: Mapping[str, Any]) -> list[Html]:
    if not document:
        return []
    rows = rows_of(document, load())
    headings = ["option", "value", "default"]
    differ = [row for row in rows if row.differs]
    return [
        table("What differs from the defaults", headings, [row.texts for row in differ]),
        details("All options, those that differ marked", _all(rows, headings)),
        details("recipe.toml", code(folder.recipe.read_text(encoding="utf-8-sig"), "recipe.toml")),
    ]


def _all(rows: Sequence[Row], headings: Sequence[str]) -> Html:
    marked = [number for number, row in enumerate(rows) if row.differs]
    return table("All options", headings, [row.texts for row in rows], marked)


def _environment(folder: RunFolder) -> list[Html]:
    found = flat(read_environment(folder))
    return [table("What it ran with", ["", "value"], [[name, _text(v)] for name, v in found.items()])] if found else []


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _messages(messages: Sequence[Message]) -> list[Html]:
    heads = {"warning": "Warning", "failed": "Failed", "interrupted": "Interrupted", "resumed": "Resumed"}
    shown = [
        Html(f"<strong>{heads[m.kind]}:</strong> {escape(m.text)}" if m.kind != "resumed" else escape(m.text))
        for m in messages
    ]
    return [items(shown)] if shown else []


# ------------------------------------------------------------------------------------------------------------ commands


def _commands(folder: RunFolder, document: Mapping[str, Any], records: Sequence[Record]) -> list[Html]:
    """How to resume, sample and judge, to be copied; of paths as they were given."""
    path, steps = shlex.quote(str(folder.path)), _get(document, "train", "steps")
    finished = isinstance(steps, int) and bool(records) and records[-1]["step"] >= steps
    longer = f" --set train.steps={2 * steps}" if finished and isinstance(steps, int) else ""
    commands = {
        "Train longer" if finished else "Resume": f"ganframe run --resume {path}{longer}",
        **_of_generator(folder, document),
        "Run the recipe anew": f"ganframe run {shlex.quote(str(folder.recipe))}",
    }
    return [*_to_copy(commands), *_python(folder)]


def _loading(folder: RunFolder, document: Mapping[str, Any]) -> list[Html]:
    """How to sample and judge a published model, and how to train from it."""
    start = f"[train]\nfrom = {json.dumps(str(folder.path))}"
    training = [paragraph("In a recipe, to start from its weights:"), code(start, "Start from its weights")]
    return [*_to_copy(_of_generator(folder, document)), *_python(folder), *training]


def _of_generator(folder: RunFolder, document: Mapping[str, Any]) -> dict[str, str]:
    """The commands for a generator, where it is there."""
    path = shlex.quote(str(folder.path))
    if not folder.generator.is_file():
        return {}
    spec = _spec(folder)
    rows = spec is not None and spec.columns is not None
    found = {
        "Draw samples": f"ganframe sample {path} {'-n 1000 --out rows.csv' if rows else '-n 64 --out samples.png'}"
    }
    if document.get("metrics"):
        found["Judge by the recipe's metrics"] = f"ganframe evaluate {path}"
    return found


def _to_copy(commands: Mapping[str, str]) -> list[Html]:
    return [part for told, command in commands.items() for part in (paragraph(f"{told}:"), code(command, told))]


def _python(folder: RunFolder) -> list[Html]:
    """How to sample from Python, where the generator is there."""
    if not folder.generator.is_file():
        return []
    python = f"import ganframe\n\nG = ganframe.load_generator({json.dumps(str(folder.path))})\nx = G.sample(64, seed=0)"
    return [paragraph("From Python:"), code(python, "Samples from Python")]
