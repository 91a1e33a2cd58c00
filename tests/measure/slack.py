"""How much of its certified bound does each critic of a study use: `python tests/measure/slack.py STUDY_FOLDER`.

For each cell of a finished study, the means over its seeds: the certified upper bound of the discriminator's Lipschitz
constant, the largest slope that was found, their ratio, and milliseconds of the run a step, pictures and all: on a busy
machine they say little. Prints a Markdown table.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from ganframe.analysis.lipschitz import examine


def main(folder: Path) -> None:
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    rows = defaultdict(list)
    for run in study["runs"]:
        if run["status"] == "finished":
            found = examine(folder / run["folder"])
            rows[", ".join(run["cell"].values())].append(
                (found.upper_bound, found.largest_slope, 1000 * run["seconds"] / found.step)
            )
    print("| cell | certified bound | largest slope | bound / slope | ms a step |\n|---|---|---|---|---|")
    for cell, found in rows.items():
        slope, milliseconds = (statistics.mean(each[i] for each in found) for i in (1, 2))
        bounds = [each[0] for each in found if each[0] is not None]
        bound = ratio = "none"
        if len(bounds) == len(found):
            bound = f"{statistics.mean(bounds):.3g}"
            ratio = f"{statistics.mean(each[0] / each[1] for each in found):.3g}"
        print(f"| {cell} | {bound} | {slope:.3g} | {ratio} | {milliseconds:.2g} |")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
