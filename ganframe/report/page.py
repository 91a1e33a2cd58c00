"""Writes one HTML page that needs nothing else: no network, no other file. What is on it, its callers say.

A page is a title and sections, and a section a heading and parts. Each part is made by a function here, which escapes
every text that it is given, so that names and recipes of users stay text:

    write_page(file, "title", [Section("Heading", [paragraph(…), chart(…), table(…), picture(…)])])

Charts are drawn by uPlot (MIT licence), which is part of each page. A page runs only its own script.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NewType

import attrs

from ganframe.storage.files import write_text

POINTS = 1000  # of a chart, along x: more are thinned
ROWS = 50  # of the table behind a chart

Html = NewType("Html", str)
"""A part of a page, in which texts are escaped."""

Value = float | None
"""A number of a chart: NaN or infinite for a gap in its line, None where there is none and the line goes on."""


@attrs.frozen
class Series:
    """A line of a chart. `notes` are what is shown with each value besides the number, as how it was measured."""

    name: str
    values: Sequence[Value]
    notes: Sequence[str] | None = None


@attrs.frozen
class Section:
    """A heading and what is below it."""

    heading: str
    parts: Sequence[Html]


# --------------------------------------------------------------------------------------------------------------- parts


def escape(text: object) -> Html:
    """A text as HTML shows it letter by letter."""
    return Html(html.escape(str(text)))


def paragraph(text: str) -> Html:
    return Html(f"<p>{escape(text)}</p>")


def notice(text: str, bad: bool = False) -> Html:
    """A text that must be seen, as a warning or, if `bad`, the reason of a failure."""
    kind, word = ("bad", "Failed: ") if bad else ("warning", "Warning: ")
    return Html(f'<p class="notice {kind}"><strong>{word}</strong>{escape(text)}</p>')


def link(text: str, address: str) -> Html:
    """A link to another file, relative to the page. Other addresses, as those of scripts, are texts."""
    if ":" in address.partition("/")[0]:
        return escape(text)
    return Html(f'<a href="{escape(address)}">{escape(text)}</a>')


def items(parts: Iterable[Html]) -> Html:
    """A list."""
    return Html(f"<ul>{''.join(f'<li>{part}</li>' for part in parts)}</ul>")


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[object]], marked: Iterable[int] = ()) -> Html:
    """A table, whose first column names its rows. `marked` are the numbers of the rows that stand out, from 0.

    Cells that are `cell(…)` are used as they are.
    """
    chosen = set(marked)
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = []
    for number, row in enumerate(rows):
        first, *others = (one if isinstance(one, _Cell) else _Cell(f"{escape(_shown(one))}") for one in row)
        mark = ' class="marked"' if number in chosen else ""
        cells = "".join(f"<td{one.attributes}>{one}</td>" for one in others)
        body.append(f'<tr{mark}><th scope="row"{first.attributes}>{first}</th>{cells}</tr>')
    made = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    # The caption is not in the table, so that it does not scroll with it.
    return Html(f'<p class="caption">{escape(caption)}</p>{_scrolled(caption, made)}')


class _Cell(str):
    """A cell of a table: HTML, and the attributes of its element."""

    attributes = ""


def side_by_side(charts: Iterable[Html]) -> Html:
    """Charts in two columns, in one where the page is narrow."""
    return Html(f'<div class="charts">{"".join(charts)}</div>')


def cell(content: Html, share: float | None = None) -> Html:
    """A cell of a table with HTML. With a share in [0, 1] its background is that of a heat map, 1 the strongest."""
    made = _Cell(content)
    if share is not None and math.isfinite(share):
        made.attributes = f' class="heat" data-share="{share:.3f}"'
    return Html(made)


def details(summary: str, *parts: Html) -> Html:
    """Parts that are hidden until they are asked for."""
    return Html(f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>")


def code(text: str, label: str, wrap: bool = True) -> Html:
    """A text to copy, with a button that copies it. `label` says what it is, for screen readers."""
    kind = "code wrap" if wrap else "code"
    return Html(
        f'<div class="{kind}"><pre tabindex="0" role="region" aria-label="{escape(label)}"><code>{escape(text)}</code>'
        f'</pre><button type="button" class="copy" aria-label="Copy: {escape(label)}">Copy</button></div>'
    )


def picture(data: bytes, alt: str, caption: str = "", kind: str = "png") -> Html:
    """A picture, as the bytes of its file. `alt` says what there is to see."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Html(f'<figure><img src="{data_uri(data, kind)}" alt="{escape(alt)}">{below}</figure>')


def data_uri(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def slides(name: str, labels: Sequence[str], sources: Sequence[str], alt: str, caption: str = "") -> Html:
    """Pictures one of which is shown, by a slider and a button that plays them. `sources` are of `data_uri`."""
    shown = f'<img class="screen" alt="{escape(alt)}">'
    return _player("slides", name, {"labels": labels, "sources": sources}, shown, caption)


def chart(
    title: str,
    x: Sequence[float],
    series: Sequence[Series],
    x_label: str = "step",
    y_label: str = "",
    caption: str = "",
) -> Html:
    """Lines over a common x, with a table of their values. Many points are thinned; extremes stay."""
    kept = thinned(len(x), [line.values for line in series])
    drawn = {
        "title": title,
        "x": [x[i] for i in kept],
        "labels": [x_label, y_label],
        "series": [
            {
                "name": line.name,
                "y": [_coded(line.values[i]) for i in kept],
                **({} if line.notes is None else {"notes": [line.notes[i] for i in kept]}),
            }
            for line in series
        ],
    }
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Html(
        f'<figure class="chart"><h3>{escape(title)}</h3><div class="plot" role="img" '
        f'aria-label="Chart: {escape(title)}. Its values are in the table below."></div>'
        f'<div class="legend"></div><p class="readout" aria-hidden="true"></p>{below}{_data(drawn)}'
        f"{_numbers_behind(title, x, series, x_label)}</figure>"
    )


def thinned(n: int, lines: Sequence[Sequence[Value]], most: int = POINTS) -> list[int]:
    """Which of n points are drawn: all up to `most`; else of each of most / 4 parts the ends and each line's extremes.

    So no peak is lost, nor a gap: the first value of a part that is not finite is kept.
    """
    if n <= most:
        return list(range(n))
    kept: set[int] = {0, n - 1}
    parts = max(1, most // 4)
    for part in range(parts):
        inside = range(part * n // parts, (part + 1) * n // parts)
        for line in lines:
            there = [i for i in inside if (value := line[i]) is not None and math.isfinite(value)]
            if there:
                kept |= {min(there, key=lambda i: line[i] or 0.0), max(there, key=lambda i: line[i] or 0.0)}
            gap = next((i for i in inside if (value := line[i]) is not None and not math.isfinite(value)), None)
            if gap is not None:
                kept.add(gap)
    return sorted(kept)


def _numbers_behind(title: str, x: Sequence[float], series: Sequence[Series], x_label: str) -> Html:
    """The table of a chart's values, evenly spaced ones where there are many."""
    n = len(x)
    rows = range(n) if n <= ROWS else sorted({round(i * (n - 1) / (ROWS - 1)) for i in range(ROWS)})
    some = "" if n <= ROWS else f", {len(rows)} of {n:,} values"
    notes = [note for line in series if line.notes for note in dict.fromkeys(line.notes) if note]
    headings = [x_label, *(line.name for line in series)]
    made = table(f"{title}{some}", headings, ([x[i], *(line.values[i] for line in series)] for i in rows))
    said = items(escape(note) for note in dict.fromkeys(notes)) if notes else Html("")
    return details("Table of values", made, said)


def scene(name: str, frames: Mapping[str, Any], caption: str, numbers: Html) -> Html:
    """Points of the plane that move, with layers to switch, by a slider. `frames` as page.js draws them.

    `numbers` is the table for those who do not see it.
    """
    shown = (
        f'<canvas class="screen" role="img" aria-label="{escape(caption)}"></canvas><div class="layers" role="group" '
        'aria-label="Layers"></div>'
    )
    return _player("scene", name, frames, shown, caption, details("Table of values", numbers))


def densities(name: str, frames: Mapping[str, Any], caption: str, numbers: Html) -> Html:
    """Densities on the line that move, by a slider. `frames` as page.js draws them; `numbers` as in `scene`."""
    shown = (
        f'<div class="plot screen" role="img" aria-label="{escape(caption)}"></div><div class="legend"></div>'
        '<p class="readout" aria-hidden="true"></p>'
    )
    return _player("densities", name, frames, shown, caption, details("Table of values", numbers))


def _player(kind: str, name: str, frames: Mapping[str, Any], shown: str, caption: str, behind: Html | str = "") -> Html:
    """What has a slider over `frames["labels"]`."""
    return Html(
        f'<figure class="player {kind}" data-name="{escape(name)}">{shown}<div class="controls">'
        f'<button type="button" class="play" aria-label="Play: {escape(name)}">Play</button>'
        f'<input type="range" min="0" value="0" aria-label="{escape(name)}"><output></output></div>'
        f"<figcaption>{escape(caption)}</figcaption>{_data(frames)}{behind}</figure>"
    )


def _scrolled(label: str, inside: str) -> Html:
    """What may be wider than the page: it scrolls by itself, also by keys."""
    return Html(f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{inside}</div>')


def _coded(value: Value) -> float | str | None:
    """A value in JSON, which has no NaN."""
    return "gap" if value is not None and not math.isfinite(value) else value


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return "not finite" if not math.isfinite(value) else f"{value:.5g}"
    return str(value)


def _data(value: Any) -> Html:
    """Data for the page's script. No text in it can end the element."""
    made = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    made = made.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return Html(f'<script type="application/json">{made}</script>')


# ---------------------------------------------------------------------------------------------------------------- page


def write_page(
    file: Path, title: str, sections: Sequence[Section], summary: Sequence[Html] = (), live: bool = False
) -> None:
    """Writes a page atomically. `summary` is what stands above the sections.

    A `live` page offers to load itself again every few seconds, as its file is rewritten.
    """
    write_text(file, page(title, sections, summary, live))


def page(title: str, sections: Sequence[Section], summary: Sequence[Html] = (), live: bool = False) -> str:
    """The text of a page."""
    script = _asset("uPlot.iife.min.js") + "\n" + _asset("page.js")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    links = "".join(f'<a href="#section-{i}">{escape(s.heading)}</a>' for i, s in enumerate(sections))
    body = "".join(
        f'<section id="section-{i}" aria-labelledby="heading-{i}"><h2 id="heading-{i}">{escape(s.heading)}</h2>'
        f"{''.join(s.parts)}</section>"
        for i, s in enumerate(sections)
    )
    again = '<label class="again"><input type="checkbox" checked> Load again every 10 s</label>' if live else ""
    licence = _asset("uPlot.LICENSE").replace("--", "- -")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="ganframe">
<title>{escape(title)}</title>
<!-- Charts by uPlot 1.6.32.
{licence}
-->
<style>
{_asset("uPlot.min.css")}
{_asset("page.css")}
</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<div class="tools">{again}<label>Colours <select class="theme">
<option value="">as the system</option><option value="light">light</option><option value="dark">dark</option>
</select></label></div>
{"".join(summary)}
</header>
<nav aria-label="Sections">{links}</nav>
<noscript><p class="notice warning">Charts and pictures by step are drawn by a script, which is switched off here.</p>
</noscript>
<main>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


@functools.cache
def _asset(name: str) -> str:
    """A file of report/assets. No text in it may end the element that holds it."""
    return (resources.files("ganframe.report") / "assets" / name).read_text(encoding="utf-8")
