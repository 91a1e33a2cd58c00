"""Records an iteration of Algorithm 1 as a graph of operations on the tensors of the training.

The engine's own functions run, on the real tensors, while torch notes each operation (make_fx): losses, gradients,
also second ones, and the optimisers' arithmetic. What Python decides on the way is decided once: so an iteration that
reads a value of a tensor, or that changes anything but tensors, has no graph.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from ganframe.engine.algorithm import training_iteration
from ganframe.engine.state import Logs, State, itself
from ganframe.engine.timing import Numbers
from ganframe.engine.updates import RULES, Descent, moving_options, rule_of

PLAIN = (int, float, bool, str, type(None))


class NotCompilable(Exception):
    """An iteration that has no graph: the part of the recipe, and why."""


@attrs.frozen
class Draw:
    """A call of a source of batches: of latents for n samples, or of real samples where n is None."""

    n: int | None

    def __call__(self, state: State) -> tuple[Tensor, ...]:
        return state.batches() if self.n is None else (state.latents(self.n),)


@attrs.define
class Recording:
    """An iteration as a graph.

    `graph` takes the tensors of the training, those of `draws`, the `numbers` of the step and the options of optimisers
    that may move (float64). It changes the first in place, and returns the values of the logs `names`
    and the gradients of `graded`. The y at `labels` of the drawn tensors becomes `State.labels`. `updates` are those of
    G and of D.
    """

    graph: torch.fx.GraphModule
    draws: list[Draw]
    numbers: list[Callable[[int], Any]]
    names: list[str]
    graded: list[nn.Parameter]
    labels: int | None
    updates: tuple[int, int]


def tensors_of(state: State, others: Sequence[nn.Module]) -> list[Tensor]:
    """Every tensor that an iteration reads or changes: of the networks, the optimisers, and of `others`."""
    modules = [state.game.G, state.game.D, *state.G.modules, *state.D.modules, *others]
    found: list[Tensor] = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    for player in (state.G, state.D):
        for p in player.parameters:
            found += [value for value in player.optimizer.state.get(p, {}).values() if isinstance(value, Tensor)]
    return list({id(tensor): tensor for tensor in found}.values())


# ------------------------------------------------------------------------------------------------------------ rehearsal


class Rehearsal:
    """An iteration that is run as it is, to its end, to learn what it draws, and that nothing but tensors changes.

    Afterwards `draws`, the drawn tensors `drawn` and the `numbers` of the step are known, and `logs`, what it reported.
    `changed` is an attribute that it has changed, or nothing; `made`, that there was nothing in its place before.
    """

    def __init__(self, state: State, critic_steps: int, others: Sequence[nn.Module]) -> None:
        self.draws: list[Draw] = []
        self.drawn: list[Tensor] = []
        self.numbers: list[Callable[[int], Any]] = []
        self.other_randomness = False
        before, self.generators = watched(state, others), _other_generators()
        batches, latents = state.batches, state.latents
        state.batches = lambda: self._noted(Draw(None), batches)  # type: ignore[assignment,return-value]
        state.latents = lambda n: self._noted(Draw(n), lambda: (latents(n),))[0]
        state.stand_in = self._number(state.step)
        updates = state.G.updates, state.D.updates
        try:
            training_iteration(state, critic_steps)
        finally:
            state.batches, state.latents, state.stand_in = batches, latents, None
        self._look_at_other_generators()
        if self.other_randomness:
            raise NotCompilable("a network or a loss draws from Python's or numpy's random generator")
        self.updates = state.G.updates - updates[0], state.D.updates - updates[1]
        self.logs: Logs = dict(state.latest)
        self.changed, self.made = _changed(before, state, others)

    def _number(self, step: int) -> Numbers:
        def number(of_step: Callable[[int], Any]) -> Any:
            if of_step not in self.numbers:
                self.numbers.append(of_step)
            return of_step(step)

        return number

    def _noted(self, draw: Draw, source: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        self._look_at_other_generators()
        # Other objects than the source's, which may return one object several times.
        found = tuple(tensor.detach() for tensor in source())
        self.generators = _other_generators()
        self.draws.append(draw)
        self.drawn += found
        return found

    def _look_at_other_generators(self) -> None:
        self.other_randomness |= _other_generators() != self.generators


def _other_generators() -> tuple[Any, ...]:
    _, keys, *rest = np.random.get_state(legacy=True)
    return (random.getstate(), np.asarray(keys).tobytes(), *rest)


def watched(state: State, others: Sequence[nn.Module]) -> dict[tuple[str, str], Any]:
    """What must not change in an iteration, by (part, attribute): plain values, which tensors there are, lengths."""
    found: dict[tuple[str, str], Any] = {}
    for owner, part in parts_of(state, others):
        if isinstance(part, nn.Module):
            derived = any(
                type(hook).__name__ in ("SpectralNorm", "WeightNorm") for hook in part._forward_pre_hooks.values()
            )
            own = {**vars(part), **part._parameters, **part._buffers}
            own = {k: v for k, v in own.items() if not (derived and k not in part._buffers and isinstance(v, Tensor))}
        else:
            own = attrs.asdict(part, recurse=False) if attrs.has(type(part)) else dict(vars(part))
        for name, value in own.items():
            if isinstance(value, PLAIN):
                found[owner, name] = value
            elif isinstance(value, Tensor):
                held = isinstance(part, nn.Module) and (name in part._parameters or name in part._buffers)
                found[owner, name] = (id(value), None if held else value._version)
            elif isinstance(value, (list, dict, set)):
                found[owner, name] = (id(value), len(value))
    return found


def changed_since(before: dict[tuple[str, str], Any], state: State, others: Sequence[nn.Module]) -> str:
    """The first attribute that is not as `watched` found it, with its part, or nothing."""
    now = watched(state, others)
    return next(
        (f"{part}: its attribute {name}" for (part, name), value in before.items() if now.get((part, name)) != value),
        "",
    )


def _changed(before: dict[tuple[str, str], Any], state: State, others: Sequence[nn.Module]) -> tuple[str, bool]:
    """The first attribute that is not as it was, with its part, or nothing; and whether all of them are new ones."""
    changed = [place for place, value in watched(state, others).items() if before.get(place) != value]
    new = all(before.get(place) is None for place in changed)
    return (f"{changed[0][0]}: changes its attribute {changed[0][1]} at each step" if changed else ""), new


def parts_of(state: State, others: Sequence[nn.Module]) -> Iterator[tuple[str, Any]]:
    """(name, part) of each component and each module of the networks."""
    game = state.game
    yield "objective", game.objective
    yield from ((f"constraint '{name}'", part) for name, part in game.constraints.items())
    yield from ((f"term '{name}'", part) for name, part in game.terms.items())
    networks = [("generator", game.G), ("discriminator", game.D)]
    networks += [(f"term '{name}'", m) for name, part in game.parts.items() for m in part.trained.values()]
    networks += [("", module) for module in others]
    for owner, network in networks:
        for name, module in network.named_modules():
            yield f"{owner}{name and '.'}{name}" if owner else name, module


def repeat(state: State, critic_steps: int, rehearsal: Rehearsal) -> None:
    """The iteration that was rehearsed once more, on the same batches and latents."""
    kept, drawn = (state.batches, state.latents), iter(rehearsal.drawn)
    state.batches, state.latents = lambda: (next(drawn), next(drawn)), lambda n: next(drawn)
    try:
        training_iteration(state, critic_steps)
    finally:
        state.batches, state.latents = kept
        state.shared = None


def refuse_changes(state: State, critic_steps: int, others: Sequence[nn.Module], rehearsal: Rehearsal) -> None:
    """Raises NotCompilable where an iteration changes an attribute, as counters do.

    What was made in it, as modules do that keep something from their first call on, must stay as it is in a second one.
    """
    changed = rehearsal.changed
    if changed and rehearsal.made:
        before = watched(state, others)
        repeat(state, critic_steps, rehearsal)
        changed, _ = _changed(before, state, others)
    if changed:
        raise NotCompilable(changed)


# ------------------------------------------------------------------------------------------------------------ recording


def record(state: State, critic_steps: int, others: Sequence[nn.Module], rehearsal: Rehearsal) -> Recording:
    """The graph of the iteration that was rehearsed, which is run once more for it. Raises NotCompilable."""
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a second

    players, optimizers = (state.G, state.D), (state.G.optimizer, state.D.optimizer)
    names: list[str] = []
    graded: list[nn.Parameter] = []

    def iteration(*given: Tensor) -> tuple[Tensor, ...]:
        *_, numbers, options = given
        state.stand_in = lambda of_step: _as_used(of_step, numbers[rehearsal.numbers.index(of_step)])
        values = iter(options.unbind())
        for player in players:
            own = [next(values) for _ in moving_options(player.optimizer)]
            player.optimizer = Descent(player.optimizer, own)  # type: ignore[assignment]
        repeat(state, critic_steps, rehearsal)
        names[:] = state.latest
        graded[:] = [p for player in players for p in player.parameters if p.grad is not None]
        return (*state.latest.values(), *(p.grad for p in graded if p.grad is not None))

    try:
        graph = make_fx(iteration, tracing_mode="real")(
            *tensors_of(state, others), *rehearsal.drawn, numbers_now(state, rehearsal.numbers), options_now(state)
        )
    except Exception as error:
        raise NotCompilable(_blame(error, state, others)) from error
    finally:
        state.stand_in = None
        state.G.optimizer, state.D.optimizer = optimizers
    labels = [i for i, tensor in enumerate(rehearsal.drawn) if tensor is state.labels]
    place = labels[0] if labels else None
    return Recording(graph, rehearsal.draws, rehearsal.numbers, names, graded, place, rehearsal.updates)


def numbers_now(state: State, numbers: list[Callable[[int], Any]]) -> Tensor:
    """The numbers of this step, float64."""
    return torch.tensor([float(of_step(state.step)) for of_step in numbers], dtype=torch.float64, device=state.device)


def options_now(state: State) -> Tensor:
    """The options of both players' optimisers that may move, float64."""
    values = [value for player in (state.G, state.D) for value in moving_options(player.optimizer)]
    return torch.tensor(values, dtype=torch.float64, device=state.device)


def _as_used(of_step: Callable[[int], Any], value: Tensor) -> Tensor:
    return value.long() if of_step is itself else value.to(torch.get_default_dtype())


def refuse_optimizers(state: State) -> None:
    """Raises NotCompilable for an optimiser whose arithmetic is not in RULES."""
    for name, player in (("generator", state.G), ("discriminator", state.D)):
        if rule_of(player.optimizer) is None:
            known = ", ".join(cls.__name__ for cls in RULES)
            raise NotCompilable(f"optimizer.{name}: {type(player.optimizer).__name__} is not one of {known}")


def _blame(error: Exception, state: State, others: Sequence[nn.Module]) -> str:
    """The innermost part of the recipe in which recording failed, the line, and why, in one line."""
    names = {id(part): name for name, part in parts_of(state, others)}
    part, place = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        part = names.get(id(frame.f_locals.get("self")), part)
        file = Path(frame.f_code.co_filename)
        if "torch" not in file.parts:
            place = f"{file.name}:{line}"
    text = str(error).partition("\n")[0]
    reads = "_local_scalar_dense" in text or "data-dependent" in text or "item()" in text
    why = "reads a value of a tensor, as item() or an if does" if reads else f"{type(error).__name__}: {text[:160]}"
    return f"{part or 'the step'} ({place}): {why}"
