"""What the engine costs against the best plain loop; loop.py compares a run with its engine.

`python tests/benchmarks/engine.py [mlp|sngan …]`

Both train the same networks with the same arithmetic: data indexed from a tensor, fused Adam, fakes without a graph,
one discriminator call on real and fake samples together, the discriminator frozen in the generator's step. Rounds of
both alternate in one process, and the results are medians of the ratios of their times, with quartiles, because the
machine's speed drifts. Run it with nothing else at work. Exits with 1 where a bound is broken.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch.nn.functional import softplus
from torch.utils.data import TensorDataset

from ganframe.cli.process import keep_freed_memory
from ganframe.data.feed import Share, open_feed
from ganframe.engine.algorithm import train
from ganframe.engine.state import State
from ganframe.plugins import registry
from ganframe.recipes.reading import structure
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
CASES = {"mlp": (MLP, 500, 40, 1.05), "sngan": (SNGAN, 2, 8, 1.02)}
"""The recipe, steps a round, rounds, and the bound of the engine against the plain loop."""


def trainer_for(document: dict[str, object]) -> tuple[Trainer, TensorDataset]:
    """The recipe made ready to train on 4,096 samples held as a tensor."""
    common = {"objective": {"use": "non_saturating"}, "train": {"steps": 10**9}}
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


def spread(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} (quartiles {low:.3f} to {high:.3f}, {len(ratios)} rounds)"


def main() -> int:
    keep_freed_memory()  # as the command line does
    good = True
    for name in sys.argv[1:] or CASES:
        document, count, rounds, bound = CASES[name]
        trainer, data = trainer_for(document)
        state = trainer.state

        def engine(n: int, state: State = state) -> None:
            train(state, state.step + n, 1)

        loops = {"hand": plain_loop(trainer, data), "engine": engine}
        seconds: dict[str, list[float]] = {"hand": [], "engine": []}
        for round_ in range(rounds + 1):
            for which in loops if round_ % 2 else reversed(loops):
                begun = time.perf_counter()
                loops[which](count)
                seconds[which].append(time.perf_counter() - begun)
        hand, own = (seconds[which][1:] for which in loops)  # the first round warms up
        ratios = [a / b for a, b in zip(own, hand, strict=True)]
        good = good and statistics.median(ratios) <= bound
        print(f"{name}: engine / plain loop = {spread(ratios)}; bound {bound}")
        print(f"{name}: a step of the plain loop takes {statistics.median(hand) / count * 1e3:.3g} ms", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
