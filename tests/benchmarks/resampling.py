"""What resampling in nine taps gains in SN-GAN's networks. `python tests/benchmarks/resampling.py [case …]`

The residual networks for 32×32 pixels at a batch of 64, with one form of the resampling convolutions or another:

- `nine`: as in ganframe.layers, means of 2×2 pixels and 3×3 convolutions at half the resolution, nine taps;
- `sixteen`: one 4×4 convolution, whose kernel is the 3×3 kernel summed over 2×2 shifts, sixteen taps;
- `plain`: convolution and pooling, or upsampling and convolution, as two steps: four times nine taps.

Cases: `fp32` and `bf16` are a discriminator's and a generator's step with the hinge loss and spectral normalisation,
and `penalised` a critic's step with a gradient penalty. Contestants take turns in one process, on the same networks. A
ratio is the median over the rounds, with quartiles: of the processor's time, which other programs disturb less, and of
the clock's. Operations of convolutions and linear layers are counted. On a processor without instructions for bf16 its
case says nothing of others.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

import ganframe
from ganframe import DataSpec, layers
from ganframe.cli.process import keep_freed_memory

BATCH = 64
Form = tuple[Callable[..., Tensor], Callable[..., Tensor]]
Times = tuple[float, float]  # of the processor, of the clock


def box(kernel: Tensor) -> Tensor:
    return sum(F.pad(kernel, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1))  # type: ignore[return-value]


FORMS: dict[str, Form] = {
    "nine": (layers.conv_then_pool2d, layers.upsample_then_conv2d),
    "sixteen": (
        lambda x, w, b: F.conv2d(x, box(w) / 4, b, stride=2, padding=1),
        lambda x, w, b: F.conv_transpose2d(x, box(w.flip(2, 3)).transpose(0, 1), b, stride=2, padding=1),
    ),
    "plain": (
        lambda x, w, b: F.avg_pool2d(F.conv2d(x, w, b, padding=1), 2),
        lambda x, w, b: F.conv2d(F.interpolate(x, scale_factor=2), w, b, padding=1),
    ),
}


class Game:
    """G and D of SN-GAN for 32×32 pixels, with their optimisers."""

    def __init__(self, bf16: bool = False, spectral_norm: bool = True) -> None:
        data = DataSpec((3, 32, 32))
        G = ganframe.component("generator", "resnet")().build(data, 128)
        D = ganframe.component("discriminator", "resnet")().build(data)
        if spectral_norm:
            for module in D.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    parametrizations.spectral_norm(module)
        self.G = G.to(memory_format=torch.channels_last)
        self.D = D.to(memory_format=torch.channels_last)
        self.bf16 = bf16
        self.real = torch.rand(BATCH, 3, 32, 32).mul(2).sub(1).contiguous(memory_format=torch.channels_last)
        self.y = torch.zeros(BATCH, dtype=torch.long)
        options = {"lr": 1e-6, "betas": (0.0, 0.9), "fused": True}
        self.optimizers = {net: torch.optim.Adam(net.parameters(), **options) for net in (self.G, self.D)}

    def fake(self) -> Tensor:
        return self.G(torch.randn(BATCH, 128), self.y)

    def descend(self, net: nn.Module, loss: Tensor) -> None:
        self.optimizers[net].zero_grad()
        loss.backward()
        self.optimizers[net].step()

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16, cache_enabled=False)

    def discriminator_step(self) -> None:
        with self.autocast():
            with torch.no_grad():
                fake = self.fake().float()
            a, b = self.D(torch.cat([self.real, fake]), torch.cat([self.y, self.y])).float().chunk(2)
        self.descend(self.D, F.relu(1 - a).mean() + F.relu(1 + b).mean())

    def generator_step(self) -> None:
        self.D.requires_grad_(False)
        with self.autocast():
            scores = self.D(self.fake(), self.y)
        self.descend(self.G, -scores.float().mean())
        self.D.requires_grad_(True)

    def penalised_step(self) -> None:
        with torch.no_grad():
            fake = self.fake()
        a, b = self.D(torch.cat([self.real, fake]), torch.cat([self.y, self.y])).chunk(2)
        x = torch.lerp(self.real, fake, torch.rand(BATCH, 1, 1, 1)).requires_grad_()
        x = x.clone()  # gradients by a leaf cannot be counted
        (slope,) = torch.autograd.grad(self.D(x, self.y).sum(), x, create_graph=True)
        self.descend(self.D, b.mean() - a.mean() + 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean())


def use(form: str) -> None:
    layers.conv_then_pool2d, layers.upsample_then_conv2d = FORMS[form]
    torch.manual_seed(0)


def counted(step: Callable[[], None], form: str) -> float:
    """GFLOP of convolutions and linear layers."""
    use(form)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def timed(step: Callable[[], None], form: str) -> Times:
    use(form)
    begun = time.process_time(), time.perf_counter()
    step()
    return time.process_time() - begun[0], time.perf_counter() - begun[1]


def compare(name: str, steps: dict[str, Callable[[], None]], forms: tuple[str, str], rounds: int) -> None:
    """Prints how often the first form's time goes into the second's, for each step and for all of them together."""
    taken: dict[tuple[str, str], list[Times]] = {(form, step): [] for form in forms for step in steps}
    operations = {(form, step): counted(function, form) for form in forms for step, function in steps.items()}
    for number in range(rounds):
        for step, function in steps.items():
            for form in forms if number % 2 else forms[::-1]:
                taken[form, step].append(timed(function, form))
    first, second = forms
    sums = {"sum": list(steps)} if len(steps) > 1 else {}
    for what, parts in ({step: [step] for step in steps} | sums).items():
        a, b = (sum(operations[form, part] for part in parts) for form in forms)
        print(f"{name}, {what}: {first} against {second}; {a:.4g} GFLOP against {b:.4g}, × {a / b:.3f}", end="")
        for clock, words in enumerate(("processor", "clock")):
            total = {
                form: [sum(taken[form, part][i][clock] for part in parts) for i in range(rounds)] for form in forms
            }
            ratios = [new / old for new, old in zip(total[first], total[second], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"; {words}: time × {middle:.3f} ({low:.3f} to {high:.3f}), speed × {1 / middle:.3f}", end="")
        print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help="fp32, bf16, penalised; by default all")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    for case in arguments.cases or ["fp32", "bf16", "penalised"]:
        torch.manual_seed(0)
        if case == "penalised":
            game = Game(spectral_norm=False)
            for form in ("plain", "sixteen"):
                compare(case, {"critic's step": game.penalised_step}, ("nine", form), arguments.rounds)
        elif case in ("fp32", "bf16"):
            game = Game(bf16=case == "bf16")
            both = {"discriminator's step": game.discriminator_step, "generator's step": game.generator_step}
            compare(case, both, ("nine", "sixteen"), arguments.rounds)
        else:
            sys.exit(f"unknown case: {case}")


if __name__ == "__main__":
    main()
