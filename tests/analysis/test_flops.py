"""Counted operations, and the most that a machine reaches."""

import functools
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from ganframe.analysis import flops
from ganframe.analysis.flops import counted_flops, peak_flops
from ganframe.declarations import score_gradients


def test_matrix_products_are_counted_forward_and_backward():
    layer, x = nn.Linear(3, 5), torch.randn(7, 3)
    forward = 2 * 7 * 3 * 5
    assert counted_flops(lambda: layer(x)) == forward
    assert counted_flops(lambda: layer(x).sum().backward()) == 2 * forward  # x requires no gradient
    assert counted_flops(lambda: layer(x.requires_grad_()).sum().backward()) == 3 * forward


def test_convolutions_are_counted():
    layer, x = nn.Conv2d(3, 4, 3, padding=1), torch.randn(2, 3, 8, 8)
    assert counted_flops(lambda: layer(x)) == 2 * (2 * 8 * 8) * (3 * 3 * 3) * 4


def test_gradients_of_penalties_are_counted():
    """torch's FlopCounterMode fails there: samples are leaves that autograd.grad asks for."""
    D, x = nn.Linear(3, 1), torch.randn(7, 3, requires_grad=True)

    def penalised():
        score_gradients(D, D(x).squeeze(1), x).square().sum().backward()

    assert counted_flops(penalised) > counted_flops(lambda: D(x))


@pytest.mark.parametrize("autocast", [nullcontext, functools.partial(torch.autocast, "cpu", dtype=torch.bfloat16)])
def test_peak_is_that_of_the_faster_product_in_the_precision_of_the_run(monkeypatch, autocast):
    monkeypatch.setitem(flops.SIZE, "cpu", 256)
    types = set()

    def rate(device, act):
        types.add(act().dtype)
        return float(len(types) + counted_flops(act))

    monkeypatch.setattr(flops, "_rate", rate)
    convolution = 2 * (32 * 32) * 256 * 256 * 9
    assert peak_flops(torch.device("cpu"), autocast) == 1 + max(2 * 256**3, convolution)
    assert types == {torch.float32 if autocast is nullcontext else torch.bfloat16}
