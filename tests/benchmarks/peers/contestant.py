"""One library that trains, in a process of its own: `python contestant.py NAME CASE CRITIC_STEPS THREADS`.

It trains by the library's own loop, with what that does between steps. Where the loop asks for data, or where ganframe
calls its callbacks, a gate counts steps; for each number of steps on standard input it lets as many through, and prints
their seconds, the processor's seconds and the most memory held so far, in KiB.

What old packages need of today's torch is in `shims` and in the methods of `Batches`, and nothing else is changed.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCH = 64
ENDLESS = 10**9
ADAM = {"lr": 2e-4, "betas": (0.0, 0.9)}


class Gate:
    """Lets as many steps through as standard input says, each of which passes `critic_steps` times."""

    def __init__(self, passes: int = 1) -> None:
        self.passes, self.left, self.asked, self.shut = passes, 0, 0, 0.0
        self.answers = os.fdopen(os.dup(1), "w")
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (what libraries print at each step)

    def __call__(self, *_: Any) -> None:
        if self.left:
            self.left -= 1
            return
        if self.asked:
            times = time.perf_counter() - self.begun, time.process_time() - self.used
            print(*times, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=self.answers, flush=True)
        else:
            print("ready", file=self.answers, flush=True)
        closed = time.monotonic()
        line = sys.stdin.readline()
        self.shut += time.monotonic() - closed
        if not line:
            os._exit(0)  # a library would write its last checkpoint
        self.asked = int(line)
        self.left = self.asked * self.passes - 1
        self.begun, self.used = time.perf_counter(), time.process_time()

    def clock(self) -> float:
        """Seconds that stand still while others are at work."""
        return time.monotonic() - self.shut


class Batches(DataLoader):  # type: ignore[type-arg]
    """Endless batches indexed from a tensor, which is faster than what a DataLoader does, as (x, y) or x alone."""

    def __init__(self, x: Tensor, gate: Gate, labels: bool) -> None:
        super().__init__(TensorDataset(x), batch_size=BATCH)
        self.x, self.gate, self.labels = x, gate, labels

    def __len__(self) -> int:
        return ENDLESS

    def __iter__(self) -> Any:
        return Endless(self.drawn())

    def drawn(self) -> Iterator[Any]:
        y = torch.zeros(BATCH, dtype=torch.long)
        while True:
            for rows in torch.randperm(len(self.x)).split(BATCH):
                if len(rows) == BATCH:
                    self.gate()
                    yield (self.x[rows], y) if self.labels else self.x[rows]


class Endless:
    """An iterator with the method `next` of Python 2, which vegans calls."""

    def __init__(self, items: Iterator[Any]) -> None:
        self.items = items

    def __iter__(self) -> Endless:
        return self

    def __next__(self) -> Any:
        return next(self.items)

    next = __next__


def shims() -> None:
    """Modules that mimicry imports and does not use here: its metrics need TensorFlow, others scikit-image."""
    for name in ("torch_mimicry.metrics", "torch_mimicry.datasets", "skimage", "skimage.io", "skimage.transform"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["skimage"].io = sys.modules["skimage.io"]  # type: ignore[attr-defined]
    sys.modules["skimage"].transform = sys.modules["skimage.transform"]  # type: ignore[attr-defined]


def perceptron(out: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, out), *last
    )


def ring() -> Tensor:
    """Points like those of ganframe's dataset `ring`."""
    angle = torch.randint(8, (100_000,)) * (torch.pi / 4)
    return 2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.02 * torch.randn(100_000, 2)


def images() -> Tensor:
    return 2 * torch.rand(4096, 3, 32, 32) - 1


def sngan() -> tuple[nn.Module, nn.Module]:
    """mimicry's G and D."""
    from torch_mimicry.nets.sngan.sngan_32 import SNGANDiscriminator32, SNGANGenerator32

    return SNGANGenerator32(), SNGANDiscriminator32()


def mimicry(case: str, critic_steps: int, folder: str) -> None:
    assert case == "sngan"
    from torch_mimicry.training import Trainer

    G, D = sngan()
    optimizers = {"optD": torch.optim.Adam(D.parameters(), **ADAM), "optG": torch.optim.Adam(G.parameters(), **ADAM)}
    batches = Batches(images(), Gate(critic_steps), labels=True)
    Trainer(
        netD=D, netG=G, n_dis=critic_steps, num_steps=ENDLESS, dataloader=batches, log_dir=folder, **optimizers
    ).train()


def torchgan(case: str, critic_steps: int, folder: str) -> None:
    from torch.nn.functional import relu
    from torchgan import losses
    from torchgan.trainer import Trainer

    class HingeG(losses.GeneratorLoss):  # type: ignore[misc]
        def forward(self, fake: Tensor) -> Tensor:
            return -fake.mean()

    class HingeD(losses.DiscriminatorLoss):  # type: ignore[misc]
        def forward(self, real: Tensor, fake: Tensor) -> Tensor:
            return relu(1 - real).mean() + relu(1 + fake).mean()

    small = case == "mlp"
    G, D = (perceptron(2), perceptron(1)) if small else sngan()
    G.encoding_dims = 2 if small else 128  # type: ignore[assignment]
    G.label_type = D.label_type = "none"  # type: ignore[assignment]
    used = [losses.MinimaxGeneratorLoss(), losses.MinimaxDiscriminatorLoss()] if small else [HingeG(), HingeD()]
    models = {
        name: {"name": lambda network=network: network, "optimizer": {"name": torch.optim.Adam, "args": ADAM}}
        for name, network in (("generator", G), ("discriminator", D))
    }
    trainer = Trainer(
        models,
        used,
        device=torch.device("cpu"),
        ncritic=critic_steps,
        epochs=1,
        checkpoints=f"{folder}/model/gan",
        recon=f"{folder}/images",
    )
    trainer(Batches(ring() if small else images(), Gate(critic_steps), labels=False))


def vegans(case: str, critic_steps: int, folder: str) -> None:
    assert case == "mlp"
    assert critic_steps == 1
    import matplotlib as mpl

    mpl.use("agg")
    from vegans.GAN import VanillaGAN

    game = VanillaGAN(
        perceptron(2),
        perceptron(1, nn.Sigmoid()),
        x_dim=2,
        z_dim=2,
        optim=torch.optim.Adam,
        optim_kwargs={"Generator": ADAM, "Adversary": ADAM},
        device="cpu",
        folder=f"{folder}/vegans",
    )
    game.fit(Batches(ring(), Gate(), labels=False), epochs=1, batch_size=BATCH)


def ganframe(case: str, critic_steps: int, folder: str, engine: bool = False, **train: Any) -> None:
    """`ganframe run` with a moving average and all that it does between steps; with `engine` its steps alone."""
    from ganframe.cli.process import keep_freed_memory
    from ganframe.plugins import registry
    from ganframe.recipes.reading import structure

    keep_freed_memory()  # as the command line does
    network = {"use": "mlp", "hidden": [64, 64]} if case == "mlp" else {"use": "resnet"}
    more = train if engine else {"ema": 0.999, **train}
    parts: dict[str, Any] = {
        "latent": {"dim": 2 if case == "mlp" else 128},
        "generator": network,
        "discriminator": network,
        "train": {"steps": ENDLESS, "critic_steps": critic_steps, "batch_size": BATCH, **more},
    }
    if case == "mlp":
        parts |= {"dataset": {"use": "ring"}, "objective": {"use": "non_saturating"}}
    else:
        parts |= {"dataset": {"use": "noise_images"}, "objective": {"use": "hinge"}}
        parts |= {"constraints": [{"use": "spectral_norm"}]}
    recipe = structure(parts, "benchmark", registry.load())
    from ganframe.engine.algorithm import train as train_engine
    from ganframe.training.cadence import Cadence
    from ganframe.training.prepare import prepare

    gate = Gate()
    if engine:
        train_engine(prepare(recipe).state, ENDLESS, critic_steps, [gate])
        return
    from ganframe.training import run

    # Not a callback of the program's: each step of a compiled run would look what it has changed.
    run.train = lambda state, steps, k, callbacks, iteration: train_engine(  # type: ignore[attr-defined]
        state, steps, k, [*callbacks, gate], iteration
    )
    defaults = Cadence.__init__.__defaults__
    Cadence.__init__.__defaults__ = (*defaults[:-1], gate.clock)  # type: ignore[attr-defined, index, misc]
    run.run(recipe, f"{folder}/run")


CONTESTANTS: dict[str, Callable[[str, int, str], None]] = {
    "mimicry": mimicry,
    "torchgan": torchgan,
    "vegans": vegans,
    "ganframe": ganframe,
    "engine": lambda *case: ganframe(*case, engine=True),
    "compiled": lambda *case: ganframe(*case, compile=True),
    "bf16": lambda *case: ganframe(*case, precision="bf16"),
}
OURS = {"ganframe", "engine", "compiled", "bf16"}


def main(name: str, case: str, critic_steps: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    if name not in OURS:
        shims()
    with tempfile.TemporaryDirectory() as folder:
        CONTESTANTS[name](case, int(critic_steps), folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
