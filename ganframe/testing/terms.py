"""Checks of terms: their values, whom their gradients reach, what they read, and where their memory is."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import attrs
import torch

from ganframe.components import DataSpec, Discriminator, Generator, Term
from ganframe.testing.common import (
    DEVICE,
    calling,
    changed,
    checked,
    configured,
    require,
    require_same_device,
    scheduled_options,
    snapshot,
)
from ganframe.testing.matches import BOTH, Makers, Match, game_loss
from ganframe.testing.networks import SPECS
from ganframe.testing.players import SmallDiscriminator, SmallGenerator

STEPS = 3
"""Steps before the memory is saved, and after it is restored."""


@checked
def check_term(
    term: Term | type[Term],
    data: DataSpec | None = None,
    generator: Generator | None = None,
    discriminator: Discriminator | None = None,
) -> None:
    """Checks a term with small networks, or those given, for `data`, by default for several kinds of data it accepts.

    `prepare` returns Parts or None, changes neither network, and may refuse data or networks by ValueError. Each term
    is None or a finite scalar in float32 on the networks' device. The gradient of `generator_term` reaches G and
    `parts.generator` only, that of `discriminator_term` D and `parts.discriminator` only, and one of them reaches
    something. Nothing else changes. `generator_term` reads of a real batch what `needs_real` says; extras are those of
    `needs_extras`. What the term remembers is in its parts from the start: restored in a new game, they give the same
    next values. A scheduled option changes the value after `prepare`.

    Raises AssertionError for the first property that is violated.
    """
    config = configured(term, Term)
    name = type(config).__qualname__
    own = [method for method in BOTH if getattr(type(config), method) is not getattr(Term, method)]
    require(bool(own), f"{name} does nothing: override discriminator_term or generator_term")
    needs = config.needs_real
    require(needs in (None, "x", "scores"), f"{name}: needs_real must be None, 'x' or 'scores', not {needs!r}")
    right = isinstance(config.needs_extras, tuple) and all(isinstance(extra, str) for extra in config.needs_extras)
    require(right, f"{name}: needs_extras must be a tuple of names, as in ('features',), not {config.needs_extras!r}")
    makers = Makers(
        generator or SmallGenerator(),
        discriminator or SmallDiscriminator(tuple(sorted({*config.needs_extras} - {"features", "classes"}))),
    )
    specs = _accepted(name, config, makers, data)
    for spec in specs:
        _check_prepare(name, config, makers, spec)
        _check_values(name, config, makers, spec)
        _check_memory(name, config, makers, spec)
        _check_device(name, config, makers, spec)
    reached = any(_reaches_something(name, config, makers, spec) for spec in specs)
    require(reached, f"{name}: no gradient of it reaches a weight; is a tensor detached, or the value always None?")
    _check_scheduled(name, config, makers, specs)


def _accepted(name: str, term: Any, makers: Makers, data: DataSpec | None) -> list[DataSpec]:
    """The data that `prepare` accepts. Data that the caller passes must be; else at least one of SPECS."""
    accepted, refusals = [], []
    for spec in SPECS if data is None else (data,):
        try:
            match = Match(name, term, makers, spec)
        except ValueError as error:  # networks that were passed need not suit all data
            refusals.append(f"{spec}: {error}")
            continue
        with calling(f"{name}: prepare(G, D, data), which must raise ValueError for what it does not support,"):
            try:
                match.prepare()
                accepted.append(spec)
            except ValueError as error:
                refusals.append(f"{spec.shape}: {error}")
            except AssertionError:
                accepted.append(spec)  # checked again, and reported, below
    require(bool(accepted), f"{name} accepts none of the data tried; pass `data` to the check. {'; '.join(refusals)}")
    return accepted


def _check_prepare(name: str, term: Any, makers: Makers, spec: DataSpec) -> None:
    match = Match(name, term, makers, spec)
    before = snapshot(match.everything())
    match.prepare()
    again = Match(name, term, makers, spec).prepare()
    _require_unchanged(f"{name}: prepare", before, snapshot({"G": match.G, "D": match.D}))
    owners: dict[int, str] = {}
    for part, module in match.everything().items():
        for parameter in {id(p) for p in module.parameters()}:
            owner = owners.setdefault(parameter, part)
            require(owner == part, f"{name}: {part} holds a weight of {owner}; give it a network of its own, or a copy")
    for part, module in match.modules("generator", "discriminator", "frozen").items():
        differs = changed(module.state_dict(), again.everything()[part].state_dict())
        require(not differs, f"{name}: prepared twice from one seed, {', '.join(differs)} in {part} differ")


def _require_unchanged(what: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    differs = [key for key in {**before, **after} if key not in before or key not in after or before[key] != after[key]]
    require(not differs, f"{what} changes {', '.join(differs)}; networks are trained by the engine only")


def _check_values(name: str, term: Any, makers: Makers, spec: DataSpec) -> None:
    """A call changes nothing but buffers of the term's parts, and its gradient reaches its own player only."""
    match = Match(name, term, makers, spec).prepare()
    for method in BOTH:
        for step in range(STEPS):
            before = snapshot(match.everything())
            value, turn = match.call(method, step)
            after = snapshot(match.everything())
            _require_unchanged(f"{name}: {method}", *map(_without_memory, (before, after)))
            if value is None or not value.requires_grad:
                continue
            hint = "the engine adds it to the player's loss and calls backward() once"
            with match.frozen(method), calling(f"{name}: backward() of {method}", hint):
                (value + game_loss(turn, method)).backward()
            for module in match.everything().values():
                module.zero_grad(set_to_none=True)


def _without_memory(found: dict[str, Any]) -> dict[str, Any]:
    """A snapshot without the buffers that a call may change: running means, of a network or of the term."""
    return {k: value for k, value in found.items() if not k.endswith(".buffer") or k.startswith("parts.frozen")}


def _reaches_something(name: str, term: Any, makers: Makers, spec: DataSpec) -> bool:
    """Whether a gradient of the term reaches a weight of its player, at one of many steps, as it may be lazy."""
    match = Match(name, term, makers, spec).prepare()
    for step in range(64):
        for method in BOTH:
            value, _ = match.call(method, step)
            if value is not None and value.requires_grad:
                weights = [p for m in match.players()[method].values() for p in m.parameters() if p.requires_grad]
                slopes = torch.autograd.grad(value, weights, allow_unused=True)
                if any(slope is not None and bool(slope.any()) for slope in slopes):
                    return True
    return False


def _check_memory(name: str, term: Any, makers: Makers, spec: DataSpec) -> None:
    """Saved after some steps and loaded into new networks and parts, the next steps must have the same values."""
    match = Match(name, term, makers, spec).prepare()
    keys = {part: set(module.state_dict()) for part, module in match.everything().items()}
    frozen = snapshot(match.modules("frozen"))
    for step in range(STEPS):
        match.step(step)
    for part, module in match.everything().items():
        late = sorted(set(module.state_dict()) - keys[part])
        require(
            not late,
            f"{name}: {', '.join(late)} appears in {part} after the first step, so a resumed run has no place for it; "
            "register it in the modules that prepare returns",
        )
    _require_unchanged(f"{name}: training", frozen, snapshot(match.modules("frozen")))
    saved = {part: copy.deepcopy(module.state_dict()) for part, module in match.everything().items()}
    expected = [match.step(step) for step in range(STEPS, 2 * STEPS)]
    restored = Match(name, attrs.evolve(term), makers, spec, seed=2).prepare()
    for part, module in restored.everything().items():
        with calling(f"{name}: load_state_dict of {part}"):
            module.load_state_dict(saved[part])
    found = [restored.step(step) for step in range(STEPS, 2 * STEPS)]
    require(
        _close(expected, found),
        f"{name}: saved after {STEPS} steps and restored in new networks, the next values are {found}, not {expected} "
        "(of D and of G): what a term remembers must be a buffer or a weight in the modules that prepare returns, not "
        "in the component, a global or the networks",
    )


def _close(one: list[list[float | None]], other: list[list[float | None]]) -> bool:
    pairs = zip(itertools.chain(*one), itertools.chain(*other), strict=True)
    return all(
        a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)) for a, b in pairs
    )


def _check_scheduled(name: str, term: Any, makers: Makers, specs: list[DataSpec]) -> None:
    """A scheduled option that moves after `prepare` must change a value."""

    def values(spec: DataSpec, moved: Any) -> list[list[float | None]]:
        match = Match(name, term, makers, spec).prepare()
        match.term = moved
        return [match.step(step) for step in range(STEPS)]

    for option, others in scheduled_options(term):
        effective = any(values(spec, other) != values(spec, term) for spec in specs for other in others)
        require(
            effective,
            f"{name}: {option} is scheduled, but the term does not change when it moves after prepare; read it in the "
            "terms, or declare it without scheduled=True",
        )


def _check_device(name: str, term: Any, makers: Makers, spec: DataSpec) -> None:
    match = Match(name, term, makers, spec).prepare().to(DEVICE)
    for method in BOTH:
        with require_same_device(f"{name}: {method}"):
            match.call(method, 0)
