"""Lessons of GAN theory: `python recipes/theory/lessons.py [NAME…] [--out DIR]`.

Each lesson trains the recipe of its name, in several variants if it compares them, prints a table and saves its picture
in DIR/NAME, by default runs/theory/NAME. README.md, beside this file, explains the results.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import minimize

import ganframe
from ganframe.analysis.divergence import Measured, measure
from ganframe.analysis.exact import exact_value, on_the_line
from ganframe.analysis.lipschitz import compare
from ganframe.recipes.reading import load_comparison
from ganframe.report.figures import BLACK, BLUE, GREEN, MARGINS, ORANGE, drawing, legend_above

HERE = Path(__file__).parent
Row = dict[str, Any]
Changes = Sequence[str]
"""Overrides of a recipe's options, in the form of --set, for example for a short run."""


def optimal_discriminator(out: Path, changes: Changes = ()) -> list[Row]:
    """The optimal discriminator is p/(p + q)."""
    measured = _measure("optimal_discriminator", out, changes)
    (measured.folder / "critic.png").replace(out / "optimal_discriminator.png")
    return [{"mean |D - p/(p+q)|": measured.critic_error, "V": measured.value, "exact": measured.exact}]


def value_at_the_optimum(out: Path, changes: Changes = ()) -> list[Row]:
    """V at the optimum is -log 4 + 2 JSD, from equal distributions to almost disjoint ones."""
    rows = []
    for apart in (0.0, 0.5, 1.0, 2.0, 3.0, 5.0):
        found = _measure("value_at_the_optimum", out / f"{apart}", [f"against.means=[{apart}]", *changes])
        rows.append({"apart": apart, "V": found.value, "-log 4 + 2 JSD": found.exact})
    fine = [i / 20 for i in range(101)]
    with _figure(
        out / "value_at_the_optimum.png", "distance between the means", "V", "Value of the game at the optimal D"
    ) as axes:
        axes.plot(fine, [_exact_value(apart) for apart in fine], color=BLACK, label="-log 4 + 2 JSD, by quadrature")
        axes.plot(*_columns(rows, "apart", "V"), "o", color=BLUE, label="trained discriminator")
        for level, name in ((-math.log(4), "-log 4"), (0.0, "0")):
            axes.axhline(level, color="grey", linestyle=":")
            axes.annotate(name, (5, level), (0, 3), textcoords="offset points", ha="right", color="grey")
    return rows


def approaching_clouds(out: Path, changes: Changes = ()) -> list[Row]:
    """As two narrow Gaussians approach, W1 decreases and JSD stays at log 2."""
    rows = []
    for apart in (2.0, 1.0, 0.5, 0.25, 0.1):
        moved = [f"against.means=[{apart}]", *changes]
        vanilla = _measure(
            "approaching_clouds", out / f"jsd-{apart}", ["objective.use=vanilla", "constraints=[]", *moved]
        )
        wgan = _measure("approaching_clouds", out / f"w1-{apart}", moved)
        rows.append(
            {"apart": apart, "JSD": (vanilla.value + math.log(4)) / 2, "W1": wgan.value, "exact W1": wgan.exact}
        )
    title = "What a discriminator measures as clouds approach"
    with _figure(out / "approaching_clouds.png", "distance between the Gaussians", "estimate", title) as axes:
        axes.axhline(math.log(2), color="grey", linestyle=":", label="log 2")
        axes.plot(*_columns(rows, "apart", "JSD"), "o-", color=BLUE, label="JSD")
        axes.plot(*_columns(rows, "apart", "W1"), "o-", color=ORANGE, label="W1")
        axes.invert_xaxis()
    return rows


def generator_losses(out: Path, changes: Changes = ()) -> list[Row]:
    """G's loss and its derivative against D(G(z)), and the path of G when D is confident."""
    rows = []
    with drawing(out / "generator_losses.png", (12, 4.2), columns=3) as (_, (value, slope, path)):
        for name in ("vanilla", "non_saturating", "maximum_likelihood"):
            recipe = ganframe.load_recipe(HERE / "generator_losses.toml", [f"objective.use={name}", *changes])
            loss = recipe.objective.generator_loss
            probability = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
            score = probability.logit().requires_grad_()
            values = torch.stack([loss(b[None]) for b in score])
            (slopes,) = torch.autograd.grad(values.sum(), score)
            value.plot(probability, values.detach(), label=name)
            slope.plot(probability, slopes)
            means: list[float] = []
            ganframe.run(recipe, out / name, [lambda state, means=means: means.append(_mean(state))])
            path.plot(means)
            rows.append({"objective": name, "slope at D = .01": slopes[0].item(), "mean of G, data at 6": means[-1]})
        value.set(xlabel="D(G(z))", ylabel="L_G", ylim=(-10, 5), title="Loss of G")
        slope.set(xlabel="D(G(z))", ylabel="dL_G / dscore", ylim=(-5, 0.2), title="Its derivative")
        path.axhline(6.0, color="grey", linestyle=":")
        path.annotate("data", (0, 6), (0, -12), textcoords="offset points", color="grey")
        path.set(xlabel="steps of G", ylabel="mean of G(z)", title="Training with a confident D")
        value.figure.legend(loc="outside lower center", ncols=3)
    return rows


def mode_seeking(out: Path, changes: Changes = ()) -> list[Row]:
    """KL(p‖q) covers both modes, KL(q‖p) seeks one; the best Gaussian of each is found by quadrature."""
    x = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    rows = []
    with _figure(out / "mode_seeking.png", "x", "density", "Gaussians that are trained by two divergences") as axes:
        for name in ("kl", "reverse_kl"):
            recipe = ganframe.load_recipe(HERE / "mode_seeking.toml", [f"objective.divergence={name}", *changes])
            log_p = recipe.dataset.build().log_density(x[:, None])  # type: ignore[attr-defined]
            samples = ganframe.load_generator(ganframe.run(recipe, out / name).folder).sample(100_000).double()
            mean, std = samples.mean().item(), samples.std().item()
            best_mean, best_std = _nearest_gaussian(name, x, log_p)
            rows.append({"divergence": name, "μ": mean, "σ": std, "best μ": best_mean, "best σ": best_std})
            axes.plot(x, _log_normal(x, mean, std).exp(), label=f"G by {name}")
        axes.plot(x, log_p.exp(), color=BLACK, linestyle=":", label="data")
        axes.set(xlim=(-6, 6))
    return rows


GAMES: dict[str, Changes] = {
    "vanilla": ["constraints=[]"],
    "wgan": ["objective.use=wgan", "constraints=[]"],
    "wgan, clipping": ["objective.use=wgan", "constraints=[{use='weight_clipping', limit=1.0}]"],
    "wgan, GP": ["objective.use=wgan", "constraints=[{use='gradient_penalty', weight=0.25}]"],
    "wgan, LP": ["objective.use=wgan", "constraints=[{use='lp', weight=1.0}]"],
    "vanilla, instance noise": ["constraints=[{use='instance_noise', std=1.0}]", "train.batch_size=1024"],
    "vanilla, R1": [],
    "wgan, R1": ["objective.use=wgan"],
}


def dirac(out: Path, changes: Changes = ()) -> list[Row]:
    """Which constraints make Dirac-GAN converge, and which leave it in a cycle."""
    rows, paths = [], {}
    for name, game in GAMES.items():
        recipe = ganframe.load_recipe(HERE / "dirac.toml", [*game, *changes])
        path = [(1.5, 0.0)]
        ganframe.run(
            recipe, out / name.replace(", ", "-").replace(" ", "-"), [lambda s, path=path: path.append(_theta_psi(s))]
        )
        last = [math.hypot(*point) for point in path[-len(path) // 3 :]]
        rows.append({"game": name, "distance at the end": min(last), "to": max(last)})
        paths[name] = path
    with drawing(out / "dirac.png", (12, 6.6), 2, 4) as (figure, places):
        for (name, path), axes in zip(paths.items(), places.flat, strict=True):
            axes.plot(*zip(*path, strict=True), color=BLUE, linewidth=0.8, label="path of (θ, ψ)")
            axes.plot(*path[0], "o", color=GREEN, markersize=6, label="start")
            axes.plot(*path[-1], "s", color=ORANGE, markersize=5, label="end")
            axes.plot(0, 0, "+", color=BLACK, markersize=9, markeredgewidth=1.6, label="equilibrium")
            axes.set(title=name, xlabel="θ", ylabel="ψ", xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
        figure.legend(*places[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return rows


def clipped_weights(out: Path, changes: Changes = ()) -> list[Row]:
    """Clipping pushes the weights to ±c; the gradient penalty does not."""
    penalty = "constraints=[{use='gradient_penalty', weight=10.0}]"
    folders = []
    for name, constraint in (("clipping", []), ("gradient penalty", [penalty])):
        recipe = ganframe.load_recipe(HERE / "clipped_weights.toml", [*constraint, *changes])
        folders.append(ganframe.run(recipe, out / name.replace(" ", "-")).folder)
    found = compare(folders)
    (folders[0] / "lipschitz.png").replace(out / "clipped_weights.png")
    return [
        {"run": one.run.name, "within 1 % of the largest": one.at_the_edge, "largest": one.weights.abs().max().item()}
        for one in found
    ]


NO_GAME = f"objective.start={10**9}"
LOSSES: dict[str, Changes] = {
    "L1 alone": ["terms.0.samples=1", NO_GAME],
    "the game alone": ["terms.0.weight=0"],
    "L1, game": ["terms.0.samples=1"],
    "best of 4, game": [],
}


def why_a_distribution(out: Path, changes: Changes = ()) -> list[Row]:
    """Where a past has two futures, L1 alone predicts neither; with the game each sample is one of them."""
    rows, shown = [], []
    for name, losses in LOSSES.items():
        recipe = ganframe.load_recipe(HERE / "why_a_distribution.toml", [*losses, *changes])
        folder = ganframe.run(recipe, out / name.replace(", ", "-").replace(" ", "-")).folder
        (score,) = ganframe.evaluate(folder)
        rows.append({"trained by": name, **{number: score[number] for number in ("both", "hit", "nearest")}})
        pasts, futures = recipe.dataset.held_out_futures()  # type: ignore[attr-defined]
        few = slice(0, 6)
        G = ganframe.load_generator(folder)
        columns = 1 if NO_GAME in losses else 3  # without the game all samples are alike
        samples = [G.sample(len(pasts[few]), seed=seed, y=pasts[few])[:, 0] for seed in range(columns)]
        shown += [(name if index == 0 else "", side) for index, side in enumerate(samples)]
    past = [(f"y, frame {time + 1}", pasts[few, time]) for time in range(pasts.shape[1])]
    both = [(f"x, future {side + 1}", futures[few, side, 0]) for side in (0, 1)]
    _draw_frames(out / "why_a_distribution.png", [*past, *both, *shown])
    return rows


LESSONS: dict[str, Callable[[Path, Changes], list[Row]]] = {
    lesson.__name__: lesson
    for lesson in (
        optimal_discriminator,
        value_at_the_optimum,
        approaching_clouds,
        generator_losses,
        mode_seeking,
        dirac,
        clipped_weights,
        why_a_distribution,
    )
}


# ------------------------------------------------------------------------------------------------------------- helpers


def _measure(name: str, folder: Path, changes: Changes) -> Measured:
    return measure(load_comparison(HERE / f"{name}.toml", changes), folder / "measured")


def _mean(state: Any) -> float:
    """The mean of G(z) of a generator G(z) = w z + b."""
    return state.G.network.last.bias.item()


def _theta_psi(state: Any) -> tuple[float, float]:
    """The parameters (θ, ψ) of Dirac-GAN."""
    return state.G.network.theta.item(), state.D.network.psi.weight.item()


def _log_normal(x: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    return torch.distributions.Normal(torch.tensor(mean).double(), std).log_prob(x)


def _nearest_gaussian(name: str, x: torch.Tensor, log_p: torch.Tensor) -> tuple[float, float]:
    """μ and σ of the Gaussian q that minimises KL(p‖q), "kl", or KL(q‖p), "reverse_kl"."""

    def divergence(parameters: Sequence[float]) -> float:
        log_q = _log_normal(x, parameters[0], math.exp(parameters[1]))
        integrand = log_p.exp() * (log_p - log_q) if name == "kl" else log_q.exp() * (log_q - log_p)
        return torch.trapezoid(integrand, x).item()

    starts = [(mean, log_std) for mean in (-2.0, 0.0, 2.0) for log_std in (-0.5, 0.5)]
    best = min((minimize(divergence, start, method="Nelder-Mead") for start in starts), key=lambda found: found.fun)
    return float(best.x[0]), math.exp(best.x[1])


def _columns(rows: list[Row], *names: str) -> list[list[Any]]:
    return [[row[name] for row in rows] for name in names]


def _exact_value(apart: float) -> float:
    """-log 4 + 2 JSD of value_at_the_optimum.toml's sides, `apart` from each other, by quadrature."""
    comparison = load_comparison(HERE / "value_at_the_optimum.toml", [f"against.means=[{apart}]"])
    line = on_the_line(comparison.dataset.build(), comparison.against.build(), comparison.dataset.spec)
    value = None if line is None else exact_value(comparison.objective, line)
    assert value is not None
    return value


def _draw_frames(file: Path, columns: list[tuple[str, torch.Tensor]]) -> None:
    """Columns of frames (n, H, W) under their titles."""
    rows = len(columns[0][1])
    with drawing(file, (0.95 * len(columns), 0.9 * rows + 0.4), rows, len(columns)) as (_, places):
        for axes, (title, frames) in zip(places.T, columns, strict=True):
            axes[0].set_title(title, fontsize=8, loc="left")
            for each, frame in zip(axes, frames, strict=True):
                each.imshow(frame, cmap="gray", vmin=-1, vmax=1)
                each.set_axis_off()


@contextmanager
def _figure(file: Path, xlabel: str, ylabel: str, title: str) -> Iterator[Any]:
    """The axes of a picture that is written at the end."""
    with drawing(file, (6.4, 4.6), margins=MARGINS) as (_, axes):
        yield axes
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        legend_above(axes)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"lessons to run; default: {', '.join(LESSONS)}")
    parser.add_argument("--out", default="runs/theory", type=Path, metavar="DIR", help="default: runs/theory")
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="K=V", help="override, as in `ganframe run`"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - LESSONS.keys():
        parser.error(f"no lesson {', '.join(sorted(unknown))}; choose from {', '.join(LESSONS)}")
    for name in arguments.names or LESSONS:
        try:
            rows = LESSONS[name](arguments.out / name, arguments.changes)
        except ganframe.RequestError as error:
            parser.exit(2, f"{error}\n")
        (arguments.out / name / "numbers.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        print(f"\n{name}: {LESSONS[name].__doc__}  {arguments.out / name}/{name}.png")
        print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
        for row in rows:
            print(f"| {' | '.join(map(_cell, row.values()))} |")


if __name__ == "__main__":
    main()
