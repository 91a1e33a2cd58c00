"""Images a second and peak memory of training steps of these networks, by precision and memory format; run by hand.

    python plugins/ganframe-translate/tests/benchmark.py [--seconds 0.7] [--batch 16] [--size 256]

A step updates D and then G, with the L1 distance, as the recipes in gpu/ do, on random data on the device. Prints one
table; about a minute on a GPU. Peak memory is that of torch's allocator, on a GPU only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import attrs
import torch
from ganframe_translate import Patch, Residual, SRResNet, UNet
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganframe import DataSpec, Generator

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LATENT = 8


@attrs.frozen
class Case:
    """A generator, the data that it is built for, and how many samples a batch has."""

    name: str
    generator: Generator
    spec: DataSpec
    batch: int


def cases(size: int, batch: int) -> list[Case]:
    """The networks of pix2pix_256 and srgan_x4 at this size, residual, and srgan_x4 as in its recipe."""
    same = DataSpec((3, size, size), condition=(3, size, size))
    small = DataSpec((3, size, size), condition=(3, size // 4, size // 4))
    crop = DataSpec((3, 96, 96), condition=(3, 24, 24))
    return [
        Case(f"unet {size}, pix2pix_256, batch 1", UNet(norm="instance"), same, 1),
        Case(f"unet {size}, pix2pix_256", UNet(norm="instance"), same, batch),
        Case(f"unet {size}, BatchNorm", UNet(), same, batch),
        Case(f"residual {size}", Residual(), same, batch),
        Case("srresnet 24 to 96, srgan_x4", SRResNet(), crop, batch),
        Case(f"srresnet {size // 4} to {size}", SRResNet(), small, batch),
    ]


def steps(case: Case, precision: str, channels_last: bool, device: torch.device) -> Iterator[None]:
    """Endless training steps."""
    torch.manual_seed(0)
    form = torch.channels_last if channels_last else torch.contiguous_format
    with device:
        G = case.generator.build(case.spec, LATENT).to(memory_format=form)
        D = Patch(receptive_field=70).build(case.spec).to(memory_format=form)
    optimizers = [torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999)) for network in (G, D)]
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    assert case.spec.condition is not None
    x, y = (
        (torch.rand(case.batch, *shape, device=device) * 2 - 1).to(memory_format=form)
        for shape in (case.spec.shape, case.spec.condition)
    )

    def descend(loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    while True:
        z = torch.randn(case.batch, LATENT, device=device)
        with torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32"):
            with torch.no_grad():
                fake = G(z, y)
            scores = D(torch.cat([x, fake.float()]), torch.cat([y, y])).float()
            real, made = scores.chunk(2)
            loss = softplus(-real).mean() + softplus(made).mean()
        descend(loss, D, optimizers[1])
        D.requires_grad_(False)
        with torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32"):
            fake = G(z, y).float()
            loss = softplus(-D(fake, y).float()).mean() + 100 * (x - fake).abs().mean()
        descend(loss, G, optimizers[0])
        D.requires_grad_(True)
        yield


def measured(
    case: Case, precision: str, channels_last: bool, device: torch.device, seconds: float
) -> tuple[float, float]:
    """Images a second, and peak memory in GiB, 0 on a CPU."""

    def synchronized() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    running = steps(case, precision, channels_last, device)
    for _ in range(3 if device.type == "cuda" else 1):  # the first steps choose algorithms
        next(running)
    begun, count = synchronized(), 0
    while count == 0 or synchronized() - begun < seconds:
        for _ in range(2 if device.type == "cuda" else 1):
            next(running)
            count += 1
    speed = count * case.batch / (synchronized() - begun)
    return speed, torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.7, help="measured for each cell, after the first steps")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}; batches of {options.batch} where not said; images/s (peak GiB)\n")
    precisions = DTYPES if device.type == "cuda" else ("fp32", "bf16")  # fp16 is slow on a CPU
    columns = [(precision, last) for precision in precisions for last in (False, True)]
    print("| networks | " + " | ".join(p + (", channels-last" if last else "") for p, last in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for case in cases(options.size, options.batch):
        cells = []
        for precision, last in columns:
            try:
                speed, memory = measured(case, precision, last, device, options.seconds)
                cells.append(f"{speed:.3g} ({memory:.1f})" if memory else f"{speed:.3g}")
            except torch.OutOfMemoryError:
                cells.append("out of memory")
        print(f"| {case.name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
