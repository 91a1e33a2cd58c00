"""Checks of constraints: which of the three moments one uses, and what projections and wrapped critics keep."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganframe.components import Constraint, mixes_samples
from ganframe.testing.common import DEVICE, asking, buffers, changed, checked, configured, elsewhere, require, weights
from ganframe.testing.critics import IMAGE, POINT, curved, linear
from ganframe.testing.penalties import check_penalty, refusal


@checked
def check_constraint(constraint: Constraint | type[Constraint]) -> None:
    """Whichever of its three moments a constraint uses.

    A penalty is a scalar ≥ 0 in the critic's dtype and on its device, for points and images alike; it reaches D's
    weights and leaves everything else as it was, the scores' graph included; it treats samples independently, so that
    the batch's value is the mean of its samples' at any batch size, each with one norm over all its coordinates; an
    interpolation has one ε per sample; a gradient of zero gives finite numbers; a steep critic costs no less than a
    flat one; and where D is differentiated by its samples, `check` refuses a critic that mixes them. A projection
    changes weights in place, and twice is once. A wrapped critic still gives scores (N,), trains, keeps samples apart,
    changes nothing in evaluation, and keeps its state in `state_dict`.

    Raises AssertionError for the first of these that does not hold.
    """
    holds = configured(constraint, Constraint)
    name = type(holds).__qualname__
    moments = {m: getattr(type(holds), m) is not getattr(Constraint, m) for m in ("wrap", "penalty", "project")}
    require(any(moments.values()), f"{name} does nothing: override wrap, penalty or project")
    perceptrons = (linear(POINT), curved(POINT), curved(IMAGE), curved(POINT, dropout=0.5), curved(IMAGE, dropout=0.5))
    reasons = [refusal(name, holds, D) for D in perceptrons]
    require(None in reasons, f"{name}.check refuses a plain perceptron, with dropout or without: {reasons[0]}")
    if moments["wrap"]:
        _check_wrap(name, holds)
    if moments["penalty"]:
        check_penalty(name, holds)
    if moments["project"]:
        _check_project(name, holds)


def _check_project(name: str, holds: Any) -> None:
    did = False
    for D in (linear(POINT, 50.0), curved(POINT, last=50.0), curved(IMAGE).float()):
        before, identities = weights(D), [id(p) for p in D.parameters()]
        with asking(f"{name}: project(D)", "weights are changed under torch.no_grad()"):
            holds.project(D)
            once = weights(D)
            holds.project(D)
        same = [id(p) for p in D.parameters()] == identities and all(p.requires_grad for p in D.parameters())
        require(same, f"{name}: project must move weights in place; the optimiser holds the parameters there were")
        for key, value in weights(D).items():
            require(value.dtype == before[key].dtype, f"{name}: project turns {before[key].dtype} into {value.dtype}")
            require(bool(value.isfinite().all()), f"{name}: project makes weights that are not finite")
            twice_is_once = torch.allclose(value, once[key], rtol=1e-4, atol=1e-5 * once[key].abs().max().item() + 1e-9)
            require(twice_is_once, f"{name}: projecting twice must equal projecting once, and {key} moves again")
        did |= bool(changed(before, once))
    require(did, f"{name}: project leaves even weights 50 times too large as they are")
    with elsewhere(f"{name}: project"):
        holds.project(linear(POINT).to(DEVICE))


def _check_wrap(name: str, holds: Any) -> None:
    for shape in (POINT, IMAGE):
        with asking(f"{name}: wrap(D)"):
            D, other = (holds.wrap(curved(shape).float()) for _ in range(2))
        require(isinstance(D, nn.Module), f"{name}: wrap must return the critic, a module, not {type(D).__name__}")
        frozen = [key for key, p in D.named_parameters() if not p.requires_grad]
        require(not frozen, f"{name}: wrap freezes weights, no gradient reaches {', '.join(frozen)}")
        x, y = torch.randn(4, *shape), torch.zeros(4, dtype=torch.long)
        for training in (True, False):
            for n in (1, 4):
                with asking(f"{name}: the wrapped critic's D(x, y)"):
                    scores = D.train(training)(x[:n], y[:n])
                mode = "training" if training else "evaluation"
                right = scores.shape == (n,) and bool(scores.isfinite().all())
                require(right, f"{name}: wrapped, in {mode}, D gives {tuple(scores.shape)} for {n} samples, not ({n},)")
        for training in (True, False):
            _keeps_samples_apart(name, D.train(training), x, y)
        _trains(name, D.train(), x, y)
        _at_rest(name, D.eval(), x, y)
        other.load_state_dict(D.state_dict())
        same = torch.allclose(other.eval()(x, y), D(x, y), atol=1e-6)
        require(same, f"{name}: a wrapped critic must be restored by its state_dict, and scores otherwise after it")
    with elsewhere(f"{name}: the wrapped critic"):
        D = holds.wrap(curved(POINT)).to(DEVICE)
        D(torch.zeros(4, *POINT, device=DEVICE, dtype=torch.float64), torch.zeros(4, dtype=torch.long, device=DEVICE))


def _keeps_samples_apart(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    x = x.clone().requires_grad_()
    scores = D(x, y)
    require(scores.requires_grad, f"{name}: wrapped, no gradient reaches D's weights")
    for i in range(0 if mixes_samples(D) else len(y)):
        (slope,) = torch.autograd.grad(scores[i], x, retain_graph=True)
        apart = not bool(torch.cat([slope[:i], slope[i + 1 :]]).any())
        require(apart, f"{name}: wrapped, one sample's score depends on others, ∂D(x)_i/∂x_j ≠ 0, and nothing says so")


def _trains(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    x = x.clone().requires_grad_()
    with parametrize.cached():  # as in a step of the engine, where D is called once more under a penalty
        D(x.detach(), y)
        (slope,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
        slope.square().sum().backward()
    trained = any(p.grad is not None and bool(p.grad.any()) for p in D.parameters())
    require(trained, f"{name}: wrapped, no gradient reaches D's weights")


def _at_rest(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    before, first = buffers(D), D(x, y)
    moved = changed(before, dict(D.named_buffers()))
    require(not moved, f"{name}: in evaluation a wrapped critic must keep its buffers, and {', '.join(moved)} move")
    require(torch.equal(first, D(x, y)), f"{name}: in evaluation a wrapped critic must score one sample one way")
