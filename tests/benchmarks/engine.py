"""What the engine costs: a recipe against the best plain loop. `python tests/benchmarks/engine.py [mlp|sngan …]`

Both train the same networks with the same arithmetic: data indexed from a tensor, fused Adam, fakes without a graph,
one discriminator call on real and fake samples together, the discriminator frozen in the generator's step. The recipe
runs with all its callbacks. Rounds of both alternate in one process, and the result is the median of the ratios of
their times, because the machine's speed drifts. Run it with nothing else at work.
"""

from __future__ import annotations

import copy
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import softplus
from torch.utils.data import TensorDataset

from ganframe.cli.process import keep_freed_memory
from ganframe.data.feed import Share, open_feed
from ganframe.engine.algorithm import train
from ganframe.engine.state import State
from ganframe.plugins import registry
from ganframe.recipes.reading import structure
from ganframe.storage.run_folder import RunFolder
from ganframe.training import checkpoint
from ganframe.training.callbacks import make_watch, standard_callbacks
from ganframe.training.health import Watch
from ganframe.training.prepare import prepare
from ganframe.training.trainer import Trainer

MLP = {
    "dataset": {"use": "ring"},
    "latent": {"dim": 2},
    "generator": {"use": "mlp", "hidden": [64, 64]},
    "discriminator": {"use": "mlp", "hidden": [64, 64]},
}
SNGAN = {
    "dataset": {"use": "digits", "size": 32},
    "latent": {"dim": 128},
    "generator": {"use": "resnet"},
    "discriminator": {"use": "resnet"},
    "constraints": [{"use": "spectral_norm"}],
}
CASES = {"mlp": (MLP, 50, 400, 1.10), "sngan": (SNGAN, 2, 8, 1.05)}  # recipe, steps a round, rounds, bound


def trainer_for(document: dict[str, object]) -> tuple[Trainer, TensorDataset]:
    """The recipe made ready to train on 4,096 samples held as a tensor."""
    common = {"objective": {"use": "non_saturating"}, "train": {"steps": 10**9}, "log": {"samples_every": 10**9}}
    trainer = prepare(structure({**document, **common}, "benchmark", registry.load()))
    x, y = zip(*(trainer.state.batches() for _ in range(64)), strict=True)
    data = TensorDataset(torch.cat(x), torch.cat(y))
    trainer.state.batches = open_feed(data, trainer.spec, 64, 0, Share(torch.device("cpu")))
    return trainer, data


def plain_loop(trainer: Trainer, data: TensorDataset) -> Callable[[int], None]:
    """The best loop a careful person writes by hand for these networks, on copies of them."""
    G, D = copy.deepcopy(trainer.state.G.network), copy.deepcopy(trainer.state.D.network)
    options = {"lr": 2e-4, "betas": (0.0, 0.9), "fused": True}
    g_optimizer = torch.optim.Adam(G.parameters(), **options)
    d_optimizer = torch.optim.Adam(D.parameters(), **options)
    d_parameters = list(D.parameters())
    x, y = data.tensors
    dim = trainer.recipe.latent.dim
    image = x.ndim == 4
    place, order = len(x), torch.empty(0)

    def steps(count: int) -> None:
        nonlocal place, order
        for _ in range(count):
            if place + 64 > len(x):
                place, order = 0, torch.randperm(len(x))
            rows = order[place : place + 64]
            place += 64
            real, labels = x[rows], y[rows]
            if image:
                real = real.contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                fake = G(torch.randn(64, dim), labels)
            a, b = D(torch.cat([real, fake]), torch.cat([labels, labels])).split(64)
            loss = softplus(-a).mean() + softplus(b).mean()
            d_optimizer.zero_grad(set_to_none=True)
            loss.backward()
            d_optimizer.step()
            for p in d_parameters:
                p.requires_grad_(False)
            loss = softplus(-D(G(torch.randn(64, dim), labels), labels)).mean()
            g_optimizer.zero_grad(set_to_none=True)
            loss.backward()
            g_optimizer.step()
            for p in d_parameters:
                p.requires_grad_(True)

    return steps


def saved(trainer: Trainer, folder: RunFolder, watch: Watch, state: State) -> None:
    checkpoint.save(trainer, folder, watch)


def main() -> int:
    keep_freed_memory()  # as the command line does
    good = True
    for name in sys.argv[1:] or CASES:
        document, count, rounds, bound = CASES[name]
        trainer, data = trainer_for(document)
        by_hand = plain_loop(trainer, data)
        with tempfile.TemporaryDirectory() as folder:
            watch = make_watch(trainer)
            save = functools.partial(saved, trainer, RunFolder(Path(folder)), watch)
            due = standard_callbacks(trainer, RunFolder(Path(folder)), [], watch, save, None)

            def by_recipe(n: int, trainer: Trainer = trainer, due: list = due) -> None:
                train(trainer.state, trainer.state.step + n, 1, due)

            ratios, hand = [], []
            for round_ in range(rounds + 1):
                times = {}
                for loop in (by_hand, by_recipe) if round_ % 2 else (by_recipe, by_hand):
                    begun = time.perf_counter()
                    loop(count)
                    times[loop] = time.perf_counter() - begun
                if round_:  # the first warms up
                    ratios.append(times[by_recipe] / times[by_hand])
                    hand.append(times[by_hand] / count)
        low, _, high = statistics.quantiles(ratios, n=4)
        ratio = statistics.median(ratios)
        good = good and ratio <= bound
        print(
            f"{name}: recipe / plain loop = {ratio:.3f} (quartiles {low:.3f} to {high:.3f}, {rounds} rounds; "
            f"bound {bound}); plain step {statistics.median(hand) * 1e3:.3g} ms"
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
