"""The whole batch of several processes: its values, and its gradient after averaging over processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ganframe import whole_batch


def loss(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """No mean over samples: a squared mean, and a mean over pairs."""
    scaled = whole_batch(weight * values)
    return scaled.mean().square() + (scaled[:, None] - scaled[None]).abs().mean()


def test_one_process_keeps_values():
    values = torch.randn(4, 3)
    assert whole_batch(values) is values


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradient_of_one(tmp_path: Path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    subprocess.run([*command, str(tmp_path / "found.pt")], check=True, timeout=300)
    found = torch.load(tmp_path / "found.pt")
    weight = torch.tensor(2.0, requires_grad=True)
    expected = loss(torch.arange(8.0) ** 1.5, weight)
    expected.backward()
    assert found["loss"] == pytest.approx(expected.item())
    assert found["gradient"] == pytest.approx(weight.grad.item())


def process(out: str) -> None:
    """One of the two: the loss of its half of the samples, and the gradient averaged over processes."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    weight = torch.tensor(2.0, requires_grad=True)
    value = loss((torch.arange(8.0) ** 1.5).chunk(2)[rank], weight)
    value.backward()
    torch.distributed.all_reduce(weight.grad)
    if rank == 0:
        torch.save({"loss": value.item(), "gradient": weight.grad.item() / 2}, out)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    process(sys.argv[1])
