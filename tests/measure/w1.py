"""Critics and W1, a table and a picture: `python tests/measure/w1.py FOLDER [--published CSV] [--out PNG]`.

FOLDER holds folders of `ganframe divergence` or the runs of a study as w1.toml, at any depth. For each pair and critic:
means over seeds ± half the width of the 95 % t-interval of the gradient's cosine, of the share of W1, and of the
squared distance of the gradients. The CSV has published figures, with columns dim, funnels, method, cosine, l2 and w1,
where the method "true" is W1 itself: they are drawn as hollow marks.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import tomllib
from collections import defaultdict
from pathlib import Path

from scipy.stats import t

from ganframe.report.figures import drawing

CRITICS = ("weight_clipping", "spectral_norm", "gradient_penalty", "lp", "orthogonal_layers", "sorted_branches")
PUBLISHED = {"groupsort_orthonormal": "orthogonal_layers"}  # the name here of the same kind of critic
Measured = dict[tuple[int, int], dict[str, list[tuple[float, float, float]]]]


def measured(folder: Path) -> Measured:
    """(cosine, share of W1 in %, squared distance) of each seed, by (dimension, funnels) and critic."""
    found: Measured = defaultdict(lambda: defaultdict(list))
    for file in sorted(folder.glob("**/divergence.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        recipe = tomllib.loads((file.parent / "comparison.toml").read_text(encoding="utf-8"))
        data, constraints = recipe["dataset"], recipe.get("constraints") or [recipe["discriminator"]]
        critic = constraints[0]["use"].partition(":")[2]
        pair = data["dimension"], data["funnels"]
        found[pair][critic].append((result["gradient_cosine"], 100 * result["share"], result["gradient_l2"]))
    return found


def published(file: Path) -> Measured:
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    true = {(row["dim"], row["funnels"]): float(row["w1"]) for row in rows if row["method"] == "true"}
    found: Measured = defaultdict(lambda: defaultdict(list))
    for row in rows:
        share = 100 * float(row["w1"]) / true[row["dim"], row["funnels"]]
        critic = PUBLISHED.get(row["method"], row["method"])
        found[int(row["dim"]), int(row["funnels"])][critic].append((float(row["cosine"]), share, float(row["l2"])))
    return found


def interval(values: list[float]) -> str:
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3g}"
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.3g} ± {half:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = measured(options.folder)
    others = published(options.published) if options.published else {}
    print("| d, funnels | critic | seeds | cosine | share of W1, % | distance | published |\n" + "|---" * 7 + "|")
    for pair, critics in sorted(found.items()):
        for critic in sorted(critics, key=lambda name: CRITICS.index(name) if name in CRITICS else len(CRITICS)):
            numbers = " | ".join(interval([values[i] for values in critics[critic]]) for i in (0, 1, 2))
            other = ", ".join(f"{c:.2f}, {s:.0f}, {l2:.2f}" for c, s, l2 in others.get(pair, {}).get(critic, ()))
            print(f"| {pair[0]}, {pair[1]} | {critic} | {len(critics[critic])} | {numbers} | {other} |")
    if options.out:
        draw(options.out, found, others)


def draw(file: Path, found: Measured, others: Measured) -> None:
    """The cosine and the share of W1 of each critic at each pair, the published ones as hollow marks."""
    pairs = sorted(found)
    critics = [
        critic
        for critic in CRITICS
        if any(critic in known.get(pair, {}) for known in (found, others) for pair in pairs)
    ]
    with drawing(file, (10.5, 4.8), columns=2) as (figure, axes):
        for axis, number, title in ((axes[0], 0, "Cosine of the gradients"), (axes[1], 1, "Share of W1")):
            for place, critic in enumerate(critics):
                shift = (place - (len(critics) - 1) / 2) * 0.8 / len(critics)
                color, of_pairs = f"C{place}", [(i, found[pair].get(critic, ())) for i, pair in enumerate(pairs)]
                points = [(i + shift, values[number]) for i, seeds in of_pairs for values in seeds]
                axis.plot(
                    *(zip(*points, strict=True) if points else ((), ())), "o", color=color, markersize=4, label=critic
                )
                known = [
                    (i + shift, values[number])
                    for i, pair in enumerate(pairs)
                    for values in others.get(pair, {}).get(critic, ())
                ]
                if known:
                    axis.plot(*zip(*known, strict=True), "s", color=color, markersize=7, fillstyle="none")
            axis.set_xticks(range(len(pairs)), [f"{d}, {k}" for d, k in pairs])
            axis.set(xlabel="dimension, funnels", ylabel=("cosine", "-L_D / W1, %")[number], title=title)
            axis.axhline((1, 100)[number], color="black", linewidth=0.8)
            axis.set_ylim((-0.02, -5)[number], (1.04, 125)[number])
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(critics))


if __name__ == "__main__":
    main()
