"""The iterations of Algorithm 1 as compiled graphs: losses, gradients, penalties and optimisers, each in one call.

Which parts are due, and so which graph an iteration has, is decided in Python as ever. Batches and latents are drawn
outside. The first two iterations by each graph are compared with the same ones as they are without: it is used only if
losses agree and the same weights move.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ganframe.engine.algorithm import training_iteration
from ganframe.engine.recording import (
    NotCompilable,
    Recording,
    Rehearsal,
    numbers_now,
    options_now,
    record,
    refuse_optimizers,
    tensors_of,
)
from ganframe.engine.state import State
from ganframe.engine.updates import MOVING

GRAPHS = 8
"""Different iterations that are compiled at most; others run as they are."""

COMPARED = 2
"""Iterations by each graph that are compared with the same ones without it."""

NOISE = 1e-5
"""Share of the largest gradient below which one may be rounding, which Adam turns into a whole step."""

Key = tuple[Any, ...]


@attrs.define
class Graph:
    """A compiled recording, and the tensors of the training that it was last called on."""

    recording: Recording
    call: Callable[..., Sequence[Tensor]]
    others: Sequence[nn.Module]
    held: list[Tensor] = attrs.field(factory=list)
    tensors: list[Tensor] = attrs.field(factory=list)
    places: list[int] = attrs.field(factory=list)
    owners: tuple[Any, ...] = ()
    compared: int = 0

    def __call__(self, state: State, drawn: Sequence[Tensor]) -> None:
        """An iteration on the tensors `drawn`."""
        self._look_again(state)
        recording = self.recording
        numbers = numbers_now(state, recording.numbers)
        with torch.no_grad():
            found = self.call(*self.tensors, *drawn, numbers, options_now(state))
        count = len(recording.names)
        state.latest = dict(zip(recording.names, found[:count], strict=True))
        for p, gradient in zip(recording.graded, found[count:], strict=True):
            p.grad = gradient
        if recording.labels is not None:
            state.labels = drawn[recording.labels]
        state.G.updates += recording.updates[0]
        state.D.updates += recording.updates[1]

    def _look_again(self, state: State) -> None:
        """Finds the training's tensors again where they are others: a checkpoint was restored, or memory replaced."""
        owners = (state.G.optimizer.state, state.D.optimizer.state)
        same = len(self.owners) == 2 and all(a is b for a, b in zip(self.owners, owners, strict=True))
        if same and self.places == [tensor.data_ptr() for tensor in self.held]:
            return
        self.owners, self.held = owners, tensors_of(state, self.others)
        self.tensors = [tensor.detach() for tensor in self.held]
        self.places = [tensor.data_ptr() for tensor in self.held]


class CompiledIteration:
    """Takes the place of `training_iteration` in `train`.

    `others` are modules, besides the networks, that an iteration reads or changes. `say` prints a line. `worthwhile`
    decides from the recording whether it is compiled: a line says why not. Without `required`, what has no graph runs
    as it is, after a line that says why; with it, NotCompilable is raised where that is the first graph. `tolerance` is
    the relative difference of logs that is taken for rounding. `compiled` is told the seconds of each compilation.
    """

    def __init__(
        self,
        others: Sequence[nn.Module],
        say: Callable[[str], None],
        required: bool = True,
        worthwhile: Callable[[torch.fx.GraphModule], str] = lambda graph: "",
        compiled: Callable[[float], None] = lambda seconds: None,
        tolerance: float = 1e-4,
    ) -> None:
        self.others, self.say, self.required, self.tolerance = others, say, required, tolerance
        self.worthwhile, self.compiled = worthwhile, compiled
        self.graphs: dict[Key, Graph | None] = {}
        self.said: set[str] = set()

    def __call__(self, state: State, critic_steps: int) -> None:
        key = _key(state, critic_steps)
        graph = self.graphs.get(key)
        if graph is not None and graph.compared >= COMPARED:
            graph(state, [tensor for draw in graph.recording.draws for tensor in draw(state)])
        elif state.step == 0 or (graph is None and key in self.graphs):  # the first one creates what others move
            training_iteration(state, critic_steps)
        else:
            self._compare(state, critic_steps, key, graph)

    def _compare(self, state: State, critic_steps: int, key: Key, graph: Graph | None) -> None:
        """An iteration as it is, then the same by its graph, which is made if there is none. The second one counts.

        Where it creates state of an optimiser, it has no graph yet, and the first one counts.
        """
        before = _Snapshot(state, self.others)
        try:
            rehearsal = Rehearsal(state, critic_steps, self.others)
        except NotCompilable as fault:
            return self._refuse(state, key, fault)
        after = _Snapshot(state, self.others)
        if len(after.tensors) != len(before.tensors):
            return None
        before.restore(state)
        try:
            graph = graph or self._made(state, critic_steps, rehearsal, before)
            graph(state, rehearsal.drawn)
            compiled = _Snapshot(state, self.others)
            if (apart := _difference(before, after, compiled, self.tolerance)) != "":
                raise NotCompilable(f"the compiled step is not the same: {apart}")
        except NotCompilable as fault:
            after.restore(state)
            return self._refuse(state, key, fault)
        graph.compared += 1
        self.graphs[key] = graph
        return None

    def _made(self, state: State, critic_steps: int, rehearsal: Rehearsal, before: _Snapshot) -> Graph:
        if sum(graph is not None for graph in self.graphs.values()) >= GRAPHS:
            raise NotCompilable(f"{GRAPHS} different iterations are compiled already")
        refuse_optimizers(state)
        recording = record(state, critic_steps, self.others, rehearsal)
        before.restore(state)
        if (reason := self.worthwhile(recording.graph)) != "":
            raise NotCompilable(reason)
        self.say("compiling the training step")
        begun = time.monotonic()
        given = [*tensors_of(state, self.others), *rehearsal.drawn, numbers_now(state, recording.numbers)]
        call = _compiled(recording.graph, [tensor.detach() for tensor in (*given, options_now(state))])
        seconds = time.monotonic() - begun
        self.say(f"compiled in {seconds:.0f} s")
        self.compiled(seconds)
        return Graph(recording, call, self.others)

    def _refuse(self, state: State, key: Key, fault: NotCompilable) -> None:
        first = not any(self.graphs.values())
        if self.required and first:
            raise fault
        self.graphs[key] = None
        if str(fault) not in self.said:  # a line for each reason
            self.said.add(str(fault))
            self.say(f"step {state.step + 1}: not compiled: {fault}")


def _key(state: State, critic_steps: int) -> Key:
    """What decides which operations an iteration has: the parts that are due, and the options of optimisers."""
    table, k = state.timetable, critic_steps if state.timetable.starts(state.step) else 0
    due: tuple[Any, ...] = ()
    if table.timings:
        own = [name for name in table.due(state.step, state.G.updates) if not name.startswith("penalty_")]
        due = (*(table.due(state.step, state.D.updates + i) for i in range(k)), tuple(own))
    options = tuple(
        tuple(value) if isinstance(value, list) else value
        for player in (state.G, state.D)
        for group in player.optimizer.param_groups
        for name, value in group.items()
        if name != "params" and name not in MOVING
    )
    momentum = tuple(
        bool(group.get("momentum")) for player in (state.G, state.D) for group in player.optimizer.param_groups
    )
    return (k, due, id(state.game), options, momentum)


def _compiled(graph: torch.fx.GraphModule, example: list[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """The graph by inductor, with torch's own random numbers. Raises NotCompilable."""
    log = logging.getLogger("torch.utils.cpp_extension")  # warns where CUDA is installed and there is no GPU
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        import torch._inductor as inductor

        return inductor.compile(graph, example, options={"fallback_random": True})  # type: ignore[arg-type]
    except Exception as error:
        if "CxxCompiler" in type(error).__name__ or "CxxCompiler" in str(error):
            raise NotCompilable("no C++ compiler is installed (g++ or clang++)") from error
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        raise NotCompilable(f"torch's compiler: {type(error).__name__}: {line[:160]}") from error
    finally:
        log.setLevel(level)


# ----------------------------------------------------------------------------------------------------------- comparison


class _Snapshot:
    """A copy of what an iteration changes."""

    def __init__(self, state: State, others: Sequence[nn.Module]) -> None:
        self.tensors = tensors_of(state, others)
        self.values = [tensor.detach().clone() for tensor in self.tensors]
        self.gradients = [(p, p.grad) for player in (state.G, state.D) for p in player.parameters]
        self.random = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(state.device) if state.device.type == "cuda" else None
        self.updates = state.G.updates, state.D.updates
        self.latest, self.labels = state.latest, state.labels

    def restore(self, state: State) -> None:
        for tensor, value in zip(self.tensors, self.values, strict=True):
            tensor.detach().copy_(value)
        for p, gradient in self.gradients:
            p.grad = gradient
        torch.set_rng_state(self.random)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, state.device)
        state.G.updates, state.D.updates = self.updates
        state.latest, state.labels = self.latest, self.labels


def _difference(before: _Snapshot, plain: _Snapshot, compiled: _Snapshot, tolerance: float) -> str:
    """What differs between an iteration as it is and the same one compiled, by more than rounding; or nothing."""
    if plain.latest.keys() != compiled.latest.keys():
        return "it reports other values"
    scale = max((value.detach().abs().max().item() for value in plain.latest.values()), default=0.0)
    if not math.isfinite(scale):  # a training that has failed
        return ""
    for name, value in plain.latest.items():
        apart = (compiled.latest[name] - value).abs().max().item()
        if not apart <= tolerance * scale:
            return f"{name} differs by {apart:.1e}, of {scale:.1e}"
    for new, other in zip(plain.values, compiled.values, strict=True):
        if not new.is_floating_point() and not torch.equal(new, other):
            return "another count changes"
    both = [(p, g, h) for (p, g), (_, h) in zip(plain.gradients, compiled.gradients, strict=True)]
    if any((g is None) != (h is None) for _, g, h in both):
        return "other weights have gradients"
    pairs = [(p, g, h) for p, g, h in both if g is not None and h is not None]
    largest = max((g.abs().max().item() for _, g, _ in pairs), default=0.0)
    places = {id(tensor): i for i, tensor in enumerate(before.tensors)}
    rest = set(range(len(before.values)))
    gradients, weights, others = _Apart(), _Apart(), _Apart()
    for p, g, h in pairs:
        i = places[id(p)]
        rest.discard(i)
        real = g.abs() > NOISE * largest
        gradients.add(g, h)
        weights.add((plain.values[i] - before.values[i])[real], (compiled.values[i] - before.values[i])[real])
    for i in rest:  # averages, statistics, moments of optimisers
        if plain.values[i].is_floating_point():
            others.add(plain.values[i] - before.values[i], compiled.values[i] - before.values[i])
    if (share := gradients.share()) > 100 * tolerance:
        return f"gradients differ by {share:.0e} of their size"
    if (share := weights.share()) > max(0.05, 15 * tolerance):
        return f"weights move otherwise, by {share:.0e} of their change"
    if (share := others.share()) > 0.5:
        return f"averages, statistics or moments move otherwise, by {share:.0e} of their change"
    return ""


class _Apart:
    """How far tensors are from others, as a share of their size."""

    def __init__(self) -> None:
        self.apart = self.size = 0.0

    def add(self, a: Tensor, b: Tensor) -> None:
        self.apart += (a - b).double().square().sum().item()
        self.size += a.double().square().sum().item()

    def share(self) -> float:
        return (self.apart / max(self.size, 1e-12)) ** 0.5
