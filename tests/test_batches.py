"""The whole batch of several processes: its values, and its gradient after averaging over processes."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from ganframe import whole_batch


def loss(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """No mean over samples: a squared mean, and a mean over pairs, whose second derivatives differ between samples."""
    scaled = whole_batch(weight * values)
    return scaled.mean().square() + (scaled[:, None] - scaled[None]).abs().pow(3).mean()


def slope(values: torch.Tensor, weight: torch.Tensor, processes: int) -> torch.Tensor:
    """A penalty on the gradient by each value: the sum over this process's values, of one process's loss."""
    values = values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(values, weight), values, create_graph=True)
    return (gradient / processes).square().sum()


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
    weight = torch.tensor(2.0, requires_grad=True)
    expected = slope(torch.arange(8.0) ** 1.5, weight, 1)
    expected.backward()
    assert found["slope"] == pytest.approx(expected.item())
    assert found["gradient of slope"] == pytest.approx(weight.grad.item())


def process(out: str) -> None:
    """One of the two: the loss of its half of the samples, and the gradient averaged over processes."""
    import torch.distributed.nn.functional  # torch does so later, and then holds the process group until the end

    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    weight = torch.tensor(2.0, requires_grad=True)
    value = loss((torch.arange(8.0) ** 1.5).chunk(2)[rank], weight)
    value.backward()
    torch.distributed.all_reduce(weight.grad)
    found = {"loss": value.item(), "gradient": weight.grad.item() / 2}
    weight = torch.tensor(2.0, requires_grad=True)
    value = slope((torch.arange(8.0) ** 1.5).chunk(2)[rank], weight, 2)
    value.backward()
    both = torch.stack([value.detach(), weight.grad])
    torch.distributed.all_reduce(both)
    if rank == 0:
        torch.save({**found, "slope": both[0].item(), "gradient of slope": both[1].item()}, out)
    group = weakref.ref(torch.distributed.group.WORLD)
    torch.distributed.destroy_process_group()
    gc.collect()
    assert group() is None, "a process group that is held until the interpreter ends often aborts then"


if __name__ == "__main__":
    process(sys.argv[1])
