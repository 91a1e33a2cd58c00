"""Trains and judges all five models: `python recipes/taxonomy/run.py [--out DIR] [--steps N]`.

The four scripts beside this one write their samples, `recipes/wgan_sn.toml` trains the GAN on the same images, and
`ganframe evaluate` judges all samples by the images that are held out. Writes table.md, scores.json and samples.png. A
model whose results are there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ganframe
from ganframe.analysis.evaluate import evaluate
from ganframe.report.figures import drawing

HERE = Path(__file__).parent
SCRIPTS = ("made", "realnvp", "vae", "rbm")
SHOWN = {
    "images": "training images",
    "made": "MADE",
    "realnvp": "RealNVP",
    "vae": "VAE",
    "vae_means": "VAE, means of p(x\\|z)",
    "rbm": "RBM",
    "gan": "GAN",
}
METRICS = (
    {"use": "frechet", "features": "classifier"},
    {"use": "precision_recall", "features": "classifier"},
    {"use": "nearest"},
)
COLUMNS = 16  # of the picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/taxonomy"))
    parser.add_argument("--steps", type=int, help="of each model, instead of its own")
    parser.add_argument("--samples", type=int, default=2000, help="of each model, to judge")
    chosen = parser.parse_args()
    out, few = chosen.out, [] if chosen.steps is None else ["--steps", str(chosen.steps)]
    out.mkdir(parents=True, exist_ok=True)
    for name in SCRIPTS:
        if not (out / f"{name}.json").is_file():
            wanted = ["--out", str(out), "--samples", str(chosen.samples), *few]
            subprocess.run([sys.executable, str(HERE / f"{name}.py"), *wanted], check=True)
    if not (out / "gan.json").is_file():
        gan(out, chosen.samples, chosen.steps)
    images = ganframe.load_recipe(out / "gan" / "recipe.toml").dataset.build().tensors[0]
    np.save(out / "images.npy", images.numpy())
    scores = judged(out, chosen.samples)
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    (out / "table.md").write_text(table(out, scores), encoding="utf-8")
    print(table(out, scores))
    picture(out)


def gan(out: Path, samples: int, steps: int | None) -> None:
    """Trains the GAN, and writes what the scripts write of their models."""
    changes = ["dataset.split=train", *([] if steps is None else [f"train.steps={steps}"])]
    recipe = ganframe.load_recipe(HERE.parent / "wgan_sn.toml", changes)
    taken = None  # where it is there already
    if not (out / "gan" / "generator.safetensors").is_file():
        start = time.process_time()
        ganframe.run(recipe, out=out / "gan")
        taken = time.process_time() - start
    G = ganframe.load_generator(out / "gan")
    np.save(out / "gan.npy", G.sample(samples, seed=1).numpy())
    torch.set_num_threads(1)
    found = {
        "model": "gan",
        "seed": recipe.seed,
        "steps": recipe.train.steps,
        "parameters": sum(p.numel() for p in G.parameters()),
        "log_likelihood": None,
        "training_seconds": taken,
        "latent_dim": recipe.latent.dim,
        "latent_size_is_free": True,
        "chain": False,
        "calls_for_a_sample": 1,
        **{f"seconds_for_{n}": seconds(G, n) for n in (1, 1000)},
    }
    (out / "gan.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def seconds(G: Any, n: int) -> float:
    """The shortest of three times of n samples, in seconds of this process."""
    taken = []
    for seed in range(3):
        start = time.process_time()
        G.sample(n, seed=seed)
        taken.append(time.process_time() - start)
    return min(taken)


def judged(out: Path, samples: int) -> dict[str, Any]:
    """The scores of each model, and of the training images themselves; of the Boltzmann machine after each chain."""
    names = [*SHOWN, *sorted(path.stem for path in out.glob("rbm_*.npy"))]
    data = out / "gan" / "recipe.toml"
    return {name: evaluate(out / f"{name}.npy", METRICS, data=data, samples=samples) for name in names}


def table(out: Path, scores: dict[str, Any]) -> str:
    """A row for each model, in Markdown."""
    lines = [
        "| model | log-likelihood | FD[classifier] | precision | recall | copied | size of z | seconds for 1, 1,000 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, shown in SHOWN.items():
        frechet, close, nearest = scores[name]
        shares = [f"{share:.2f}" for share in (close["precision"], close["recall"], nearest["copied"])]
        row = [shown, "", f"{frechet['frechet']:.2f}", *shares, "", ""]
        if (out / f"{name}.json").is_file():
            about = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
            row[1] = likelihood(about["log_likelihood"])
            row[6] = str(about["latent_dim"] or "no z")
            row[7] = f"{about['seconds_for_1']:.2g}, {about['seconds_for_1000']:.2g}"
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def likelihood(found: dict[str, Any] | None) -> str:
    if found is None:
        return "none"
    sign = "≥ " if "bound" in found["kind"] else "≈ " if "estimate" in found["kind"] else ""
    return f"{sign}{found['nats']:.1f} ± {found['standard_error']:.1f}"


def picture(out: Path) -> None:
    """A row of samples of each model: the first ones, not chosen."""
    with drawing(out / "samples.png", (8, 0.55 * len(SHOWN)), len(SHOWN), margins=(1.35, 0.05, 0.05, 0.05)) as (
        _,
        rows,
    ):
        for axes, (name, shown) in zip(rows, SHOWN.items(), strict=True):
            images = np.load(out / f"{name}.npy")[:COLUMNS, 0]
            pixels = images if images.dtype == np.uint8 else (images + 1) * 127.5
            row = np.concatenate(np.pad(pixels, ((0, 0), (1, 1), (1, 1))), axis=1)  # side by side, with a frame
            axes.imshow(row, "gray", vmin=0, vmax=255)
            axes.set_axis_off()
            label = shown.replace("\\", "").replace(", ", ",\n")
            axes.text(-3, 5, label, ha="right", va="center", fontsize=8)


if __name__ == "__main__":
    main()
