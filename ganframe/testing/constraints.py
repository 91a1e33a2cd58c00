"""Checks of constraints: the methods that one overrides, its projection and the discriminator that it wraps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganframe.components import Constraint
from ganframe.declarations import has_extras, mixes_samples
from ganframe.errors import counted
from ganframe.testing.calls import plain_shape, prepared, refusal
from ganframe.testing.common import (
    DEVICE,
    buffers,
    calling,
    changed,
    checked,
    configured,
    require,
    require_same_device,
    weights,
)
from ganframe.testing.discriminators import IMAGE, POINT, Featured, curved, linear
from ganframe.testing.memory import check_memory, check_scheduled
from ganframe.testing.penalties import check_penalty
from ganframe.testing.slopes import check_lipschitz_constants


@checked
def check_constraint(constraint: Constraint | type[Constraint]) -> None:
    """Checks the methods that a constraint overrides: `penalty`, `project`, `wrap`.

    `penalty` returns a scalar ≥ 0 in D's dtype and on D's device, for points and for images. Its gradient reaches D's
    weights. It changes nothing else, and it does not free the graph of the scores. It treats samples independently: at
    any batch size, the penalty of a batch is the mean of the penalties of its samples, each with one norm over all its
    coordinates. Points between real and fake use one ε per sample. Where D's gradient is zero, all values are finite.
    A steep D has no smaller penalty than a flat one. If the penalty differentiates D with respect to samples, `check`
    refuses a discriminator that mixes samples.

    `project` changes weights in place and is idempotent.

    Where the wrapped D or the penalty raises ValueError for points, all of this is required for images only.

    A D returned by `wrap` returns scores (N,), trains, treats samples independently, changes nothing in evaluation
    mode, and keeps its state in `state_dict`. The Lipschitz constants that its modules declare are not below a slope.

    Raises AssertionError for the first property that is violated.
    """
    constraint = configured(constraint, Constraint)
    name = type(constraint).__qualname__
    overridden = {m: getattr(type(constraint), m) is not getattr(Constraint, m) for m in ("wrap", "penalty", "project")}
    require(any(overridden.values()), f"{name} does nothing: override wrap, penalty or project")
    perceptrons = (linear(POINT), curved(POINT), curved(IMAGE), curved(POINT, dropout=0.5), curved(IMAGE, dropout=0.5))
    reasons = [refusal(name, constraint, D) for D in perceptrons]
    require(None in reasons, f"{name}.check refuses every plain perceptron, with and without dropout: {reasons[0]}")
    if overridden["wrap"]:
        _check_wrap(name, constraint)
    if overridden["penalty"]:
        check_penalty(name, constraint)
    if overridden["project"]:
        _check_project(name, constraint)
    check_memory(name, constraint)
    check_scheduled(name, constraint)


def _check_project(name: str, constraint: Any) -> None:
    effective = False
    for D in (linear(POINT, 50.0), curved(POINT, last=50.0), curved(IMAGE).float()):
        before, identities = weights(D), [id(p) for p in D.parameters()]
        with calling(f"{name}: project(D)", "change weights under torch.no_grad()"):
            constraint.project(D)
            once = weights(D)
            constraint.project(D)
        same = [id(p) for p in D.parameters()] == identities and all(p.requires_grad for p in D.parameters())
        require(same, f"{name}: project must change weights in place and keep requires_grad, for the optimiser")
        for key, value in weights(D).items():
            require(value.dtype == before[key].dtype, f"{name}: project changes {before[key].dtype} to {value.dtype}")
            require(bool(value.isfinite().all()), f"{name}: project produces non-finite weights")
            twice_is_once = torch.allclose(value, once[key], rtol=1e-4, atol=1e-5 * once[key].abs().max().item() + 1e-9)
            require(twice_is_once, f"{name}: projecting twice must equal projecting once, but {key} changes again")
        effective |= bool(changed(before, once))
    require(effective, f"{name}: project does not change weights, even when they are 50 times too large")
    with require_same_device(f"{name}: project"):
        constraint.project(linear(POINT).to(DEVICE))


def _check_wrap(name: str, constraint: Any) -> None:
    plain = plain_shape(constraint)
    for shape in (plain, IMAGE):
        with calling(f"{name}: wrap(D)"):
            D, other = (prepared(constraint, curved(shape).float(), seed) for seed in (1, 2))
        require(
            isinstance(D, nn.Module), f"{name}: wrap must return the discriminator, a module, not {type(D).__name__}"
        )
        frozen = [key for key, p in D.named_parameters() if not p.requires_grad]
        require(not frozen, f"{name}: wrap freezes weights: no gradient reaches {', '.join(frozen)}")
        x, y = torch.randn(4, *shape), torch.zeros(4, dtype=torch.long)
        for training in (True, False):
            for n in (1, 4):
                with calling(f"{name}: the wrapped D(x, y)"):
                    scores = D.train(training)(x[:n], y[:n])
                mode = "training" if training else "evaluation"
                right = scores.shape == (n,) and bool(scores.isfinite().all())
                require(
                    right,
                    f"{name}: in {mode} mode the wrapped D must return finite scores of shape ({n},) for "
                    f"{counted(n, 'sample')}; their shape is {tuple(scores.shape)}",
                )
        for training in (True, False):
            _check_independence(name, D.train(training), x, y)
        _check_gradients(name, D.train(), x, y)
        _check_evaluation_mode(name, D.eval(), x, y)
        check_lipschitz_constants(name, D, x, y)
        other.load_state_dict(D.state_dict())
        same = torch.allclose(other.eval()(x, y), D(x, y), atol=1e-6)
        require(same, f"{name}: state_dict must restore the wrapped D, but its scores differ after loading")
    _check_forwarded(name, constraint)
    with require_same_device(f"{name}: the wrapped D"):
        D = prepared(constraint, curved(plain)).to(DEVICE)
        D(torch.zeros(4, *plain, device=DEVICE, dtype=torch.float64), torch.zeros(4, dtype=torch.long, device=DEVICE))


def _check_forwarded(name: str, constraint: Any) -> None:
    """What wraps D must pass on what it does not know, as the dict `extras`."""
    x, y = torch.randn(4, *plain_shape(constraint), dtype=torch.float64), torch.zeros(4, dtype=torch.long)
    D = prepared(constraint, Featured(*curved(plain_shape(constraint)).layers[1:]).double())
    hint = "a network around D passes on what it does not know: forward(self, x, *args, **kwargs)"
    for positional in (True, False):
        extras: dict[str, Tensor] = {}
        with calling(f"{name}: the wrapped D(x, y, extras) of a D that gives extras", hint):
            D(x, y, extras) if positional else D(x, y, extras=extras)
        filled = has_extras(D) and "features" in extras
        require(filled, f"{name}: the wrapped D does not fill the dict extras of a D that gives extras; {hint}")


def _check_independence(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    x = x.clone().requires_grad_()
    scores = D(x, y)
    require(scores.requires_grad, f"{name}: no gradient reaches the weights of the wrapped D")
    for i in range(0 if mixes_samples(D) else len(y)):
        (slope,) = torch.autograd.grad(scores[i], x, retain_graph=True)
        independent = not bool(torch.cat([slope[:i], slope[i + 1 :]]).any())
        require(
            independent,
            f"{name}: the wrapped D mixes samples, ∂D(x)_i/∂x_j ≠ 0 for i ≠ j, but does not set mixes_samples",
        )


def _check_gradients(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    x = x.clone().requires_grad_()
    with parametrize.cached():  # as in a step of the engine, where a penalty calls D once more
        D(x.detach(), y)
        (slope,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
        slope.square().sum().backward()
    trained = any(p.grad is not None and bool(p.grad.any()) for p in D.parameters())
    require(trained, f"{name}: no gradient reaches the weights of the wrapped D")


def _check_evaluation_mode(name: str, D: nn.Module, x: Tensor, y: Tensor) -> None:
    before, first = buffers(D), D(x, y)
    moved = changed(before, dict(D.named_buffers()))
    require(not moved, f"{name}: in evaluation mode the wrapped D must not change its buffers: {', '.join(moved)}")
    require(
        torch.equal(first, D(x, y)),
        f"{name}: in evaluation mode the wrapped D must return the same score for the same sample",
    )
