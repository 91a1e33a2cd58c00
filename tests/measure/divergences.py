"""Measures known divergences: each objective with a known optimal discriminator, between two pairs of Gaussians.

`python tests/measure/divergences.py [OUT] [NAME …]`: N(0, 1) against N(1, 1) and against N(1, 1.2²), by
`ganframe divergence`, compared with the exact value of -L_D; and a Wasserstein critic, compared with W1. Includes the
objectives of ganframe-hinge, ganframe-fgan and ganframe-losses if installed. SEEDS=0,1,2 in the environment repeats
each.
"""

from __future__ import annotations

import os
import sys
import tempfile
import typing
from pathlib import Path

from ganframe.analysis.divergence import measure
from ganframe.components import Objective
from ganframe.errors import RequestError
from ganframe.plugins.registry import load
from ganframe.recipes.reading import load_comparison

PAIRS = {"N(1, 1)": ([1.0], [1.0]), "N(1, 1.2²)": ([1.0], [1.2])}
RECIPE = """
[dataset]
use = "gaussian_1d"

[against]
use = "gaussian_1d"
means = {means}
stds = {stds}

[discriminator]
use = "mlp"
hidden = [64, 64]
activation = "tanh"

[objective]
{objective}

[optimizer.discriminator]
use = "Adam"
lr = 3e-3
betas = [0.9, 0.999]
schedule = {{ use = "CosineAnnealingLR", T_max = 3000 }}

[train]
steps = 3000
batch_size = 2048

[log]
every = 500
"""

# Overrides for some objectives.
OWN = {
    # W1 is over critics of slope 1. The penalty lets the slope exceed it by the order of W1/weight: with the usual
    # weight of 10 by about 5 %.
    "wgan": ["constraints=[{use='gradient_penalty', weight=100.0}]"],
}


def objectives() -> list[str]:
    """The [objective] tables of a recipe, for each objective whose maximum is known."""
    found = []
    for plugin, kind, name, cls in load():
        if kind != "objective" or (cls.optimal_score is Objective.optimal_score and name != "wgan"):
            continue
        use = f'use = "{plugin.name}:{name}"'
        if name == "f_gan":
            found += [
                f'{use}\ndivergence = "{row}"' for row in typing.get_args(typing.get_type_hints(cls)["divergence"])
            ]
            found = [f"{table}\npi = 0.3" if "weighted" in table else table for table in found]
        elif name == "least_squares":
            found.append(f"{use}\nfake = -1.0\nreal = 1.0\nwanted = 0.0")
        elif name not in ("non_saturating", "maximum_likelihood"):  # they have the D of vanilla
            found.append(use)
    return found


def main(out: str | None = None, *only: str) -> None:
    folder = Path(out or tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    print("| objective | against | seed | exact | measured | error | off by |\n|---|---|---|---|---|---|---|")
    for table in objectives():
        name = " ".join(part.split("=")[1].strip().strip('"').rpartition(":")[2] for part in table.splitlines())
        if only and not {*only} & {*name.split()}:
            continue
        own = [change for word in name.split() for change in OWN.get(word, [])]
        for pair, (means, stds) in PAIRS.items():
            for seed in os.environ.get("SEEDS", "0").split(","):
                file = folder / "pair.toml"
                file.write_text(RECIPE.format(means=means, stds=stds, objective=table))
                place = folder / f"{name} {pair} {seed}".replace("/", "-")
                try:
                    found = measure(load_comparison(file, [*own, f"seed={seed}"]), place)
                except RequestError as error:
                    sys.exit(str(error))
                exact = found.transport if found.exact is None else found.exact
                assert exact is not None
                off = abs(found.value / exact - 1)
                row = f"{exact:.4f} | {found.value:.4f} | {found.error:.4f} | {off:.1%}"
                print(f"| {name} | {pair} | {seed} | {row} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
