"""Checks that what a constraint remembers, and what its options say, is where a checkpoint and a recipe keep it."""

from __future__ import annotations

import copy
import math
from typing import Any

import attrs
import torch
from torch import nn

from ganframe.testing.calls import call, plain_shape, prepared, refusal, same_state
from ganframe.testing.common import calling, changed, descend, require, scheduled_options, weights
from ganframe.testing.discriminators import RecordingDiscriminator, curved, linear, points

STEPS = 5
"""Steps before the state is saved, and after it is restored."""


def check_memory(name: str, constraint: Any) -> None:
    """Saved after some steps and loaded into a new discriminator, the next steps must have the same losses."""
    shape = plain_shape(constraint)
    for make in (lambda: curved(shape), lambda: curved(shape, dropout=0.5)):
        if refusal(name, constraint, make()) is not None:
            continue
        D = prepared(constraint, make())
        keys = set(D.state_dict())
        for step in range(STEPS):
            _step(name, constraint, D, step)
        late = sorted(set(D.state_dict()) - keys)
        require(
            not late,
            f"{name}: {', '.join(late)} is registered by penalty or by a call of D, so a resumed run has no place for "
            "it (Unexpected key in state_dict); register it in wrap",
        )
        saved = copy.deepcopy(D.state_dict())
        expected = [_step(name, constraint, D, step) for step in range(STEPS, 2 * STEPS)]
        again = attrs.evolve(constraint)
        restored = prepared(again, make(), seed=2)
        with calling(f"{name}: load_state_dict of the wrapped D"):
            restored.load_state_dict(saved)
        found = [_step(name, again, restored, step) for step in range(STEPS, 2 * STEPS)]
        close = all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(expected, found, strict=True))
        require(
            close,
            f"{name}: saved after {STEPS} steps and restored in a new discriminator, the next losses are "
            f"{_shown(found)}, not {_shown(expected)}: what a constraint remembers must be a buffer or a weight in "
            "what wrap returns, not in the component, a global or an attribute",
        )


def _shown(values: list[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _step(name: str, constraint: Any, D: nn.Module, step: int) -> float:
    """One step of D; the loss with the penalty."""
    torch.default_generator.manual_seed(100 + step)
    shape = plain_shape(constraint)
    value, real, fake = call(name, constraint, D.train(), points(4, shape), points(4, shape), None)
    loss = fake.scores.mean() - real.scores.mean() + (0 if value is None else value)
    loss.backward()
    descend(D)
    constraint.project(D)
    return loss.item()


def check_scheduled(name: str, constraint: Any) -> None:
    """A scheduled option that moves after `wrap` must change the penalty or the projection, and not the wrapped D."""

    shape = plain_shape(constraint)

    def makers() -> list[RecordingDiscriminator]:
        return [linear(shape, 50.0), linear(shape, 0.5), curved(shape), curved(shape, dropout=0.5)]

    def wrapped(part: Any, plain: nn.Module) -> Any:
        D = prepared(part, copy.deepcopy(plain))
        torch.default_generator.manual_seed(5)
        return D(torch.ones(4, *shape, dtype=torch.float64), torch.zeros(4, dtype=torch.long)), D

    def results(part: Any, D: nn.Module) -> tuple[Any, dict[str, torch.Tensor]]:
        torch.default_generator.manual_seed(5)
        with same_state(D):
            values = [call(name, part, D, points(8, shape), points(8, shape), None)[0] for _ in range(8)]
            part.project(D)
            return [None if value is None else value.item() for value in values], weights(D)

    for option, others in scheduled_options(constraint):
        effective = False
        for plain in makers():
            if refusal(name, constraint, plain) is not None:
                continue
            (scores, D), before = wrapped(constraint, plain), None
            for other in others:
                moved, _ = wrapped(other, plain)
                require(
                    torch.equal(scores, moved),
                    f"{name}: {option} is scheduled, but wrap reads it, and wrap is called once; declare it without "
                    "scheduled=True, or read it in penalty or project",
                )
                before, after = results(constraint, D), results(other, D)
                effective |= before[0] != after[0] or bool(changed(before[1], after[1]))
        require(
            effective,
            f"{name}: {option} is scheduled, but neither the penalty nor the projection changes when it moves after "
            "wrap; declare it without scheduled=True",
        )
