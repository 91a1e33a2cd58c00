"""The iterations of Algorithm 1 as compiled graphs: losses, gradients, penalties and optimisers, each in one call.

Which parts are due, and so which graph an iteration has, is decided in Python as ever. Batches and latents are drawn
outside. The first two iterations by each graph are compared with the same ones as they are without: it is used only if
losses agree and the same weights move.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ganframe.engine.agreement import OTHERS, WEIGHTS, Snapshot, shaken, shares_of
from ganframe.engine.algorithm import training_iteration
from ganframe.engine.recording import (
    NotCompilable,
    Recording,
    Rehearsal,
    changed_since,
    numbers_now,
    options_now,
    record,
    refuse_changes,
    refuse_optimizers,
    repeat,
    tensors_of,
    watched,
)
from ganframe.engine.state import Game, State
from ganframe.engine.updates import MOVING

GRAPHS = 8
"""Different iterations that are compiled at most; others run as they are."""

COMPARED = 2
"""Iterations by each graph that are compared with the same ones without it."""

CHUNK = 4_096
"""Numbers of an elementwise operation that a thread has at least: fewer take less time than waking the thread."""

SHAKES, ROUNDING = 4, 20
"""A compiled iteration may differ by so many times what errors of the last digit in all weights change, tried so often.

It can be much: Adam makes a whole step of a gradient that is 0 but for rounding, as that of a bias after which scores
are only subtracted from each other.
"""

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
    attributes: dict[tuple[str, str], Any] = attrs.field(factory=dict)

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
    the relative difference of logs that is taken for rounding. `compiled` is told the seconds of each compilation. With
    `watching`, as where callbacks of a program may do anything, each step looks whether attributes of the networks and
    losses are those of the graph, which has their values as constants.
    """

    def __init__(
        self,
        others: Sequence[nn.Module],
        say: Callable[[str], None],
        required: bool = True,
        worthwhile: Callable[[torch.fx.GraphModule], str] = lambda graph: "",
        compiled: Callable[[float], None] = lambda seconds: None,
        tolerance: float = 1e-4,
        watching: bool = False,
    ) -> None:
        self.others, self.say, self.required, self.tolerance = others, say, required, tolerance
        self.worthwhile, self.compiled, self.watching = worthwhile, compiled, watching
        self.graphs: dict[Key, Graph | None] = {}
        self.games: list[Game] = []  # kept, so that no other game has the identity of one in a key
        self.said: set[str] = set()
        self.rounding: dict[str, float] = {}  # what errors of the last digit have changed, where that was looked at

    def __call__(self, state: State, critic_steps: int) -> None:
        key = _key(state, critic_steps)
        graph = self.graphs.get(key)
        if graph is not None and self.watching and (place := changed_since(graph.attributes, state, self.others)):
            self._refuse(state, key, NotCompilable(f"{place} was changed between two steps"))
            training_iteration(state, critic_steps)
        elif graph is not None and graph.compared >= COMPARED:
            graph(state, [tensor for draw in graph.recording.draws for tensor in draw(state)])
        elif state.step == 0 or (graph is None and key in self.graphs):  # the first one creates what others move
            training_iteration(state, critic_steps)
        else:
            self._compare(state, critic_steps, key, graph)

    def _compare(self, state: State, critic_steps: int, key: Key, graph: Graph | None) -> None:
        """An iteration as it is, then the same by its graph, which is made if there is none. The second one counts.

        Where it creates state of an optimiser, it has no graph yet, and the first one counts.
        """
        self.games.append(state.game)
        before = Snapshot(state, self.others)
        try:
            rehearsal = Rehearsal(state, critic_steps, self.others)
            if rehearsal.made and rehearsal.changed:
                before.restore(state)  # for a second iteration
            refuse_changes(state, critic_steps, self.others, rehearsal)
        except NotCompilable as fault:
            return self._refuse(state, key, fault)
        after = Snapshot(state, self.others)
        if len(after.tensors) != len(before.tensors):
            return None
        before.restore(state)
        try:
            graph = graph or self._made(state, critic_steps, rehearsal, before)
            _called_first(graph, state, rehearsal.drawn)
            compiled = Snapshot(state, self.others)
            shares = shares_of(before, after, compiled)
            excess = self._excess(shares)
            for seed in range(SHAKES if excess else 0):
                before.restore(state)
                shaken(state, 1e-7 if self.tolerance < 1e-3 else 4e-3, seed)
                repeat(state, critic_steps, rehearsal)
                for name, share in shares_of(before, after, Snapshot(state, self.others)).items():
                    self.rounding[name] = max(share, self.rounding.get(name, 0.0))
                compiled.restore(state)
            excess = excess and self._excess(shares)
            if excess:
                raise NotCompilable(f"the compiled step is not the same: {excess}")
        except NotCompilable as fault:
            after.restore(state)
            return self._refuse(state, key, fault)
        graph.compared += 1
        graph.attributes = watched(state, self.others) if self.watching else {}
        self.graphs[key] = graph
        return None

    def _made(self, state: State, critic_steps: int, rehearsal: Rehearsal, before: Snapshot) -> Graph:
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

    def _excess(self, shares: dict[str, float]) -> str:
        """The first share that is larger than allowed, or nothing."""
        kinds = {"gradients": 100 * self.tolerance, WEIGHTS: max(0.05, 15 * self.tolerance), OTHERS: 0.5}
        for name, share in shares.items():
            allowed = max(kinds.get(name, self.tolerance), ROUNDING * self.rounding.get(name, 0.0))
            if not share <= min(allowed, 0.9):
                return f"{name}: a difference of {share:.0e} of the size"
        return ""

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


def _called_first(graph: Graph, state: State, drawn: Sequence[Tensor]) -> None:
    """Calls a graph. Raises NotCompilable where what torch has compiled fails."""
    try:
        graph(state, drawn)
    except RuntimeError as error:
        raise NotCompilable(f"what torch has compiled fails: {_line(error)}") from error


def _compiled(graph: torch.fx.GraphModule, example: list[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """The graph by inductor, with torch's own random numbers. Raises NotCompilable."""
    import torch._inductor as inductor  # takes seconds
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    for node in graph.graph.nodes:  # tensors of the recording, which belong to another mode than those below
        node.meta.clear()
    mode = FakeTensorMode(shape_env=ShapeEnv())  # without it torch would not keep on disk what it has compiled
    given = [mode.from_tensor(tensor, static_shapes=True) for tensor in example]
    on_cpu = all(tensor.device.type == "cpu" for tensor in example)
    log = logging.getLogger("torch.utils.cpp_extension")  # warns where CUDA is installed and there is no GPU
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        # Calls between kernels in C++ save an eighth to a third of a small step. By default inductor gives a thread 512
        # numbers, with which a small step by two threads took 1.6 times as long as by one.
        options = {"fallback_random": True, "cpp_wrapper": on_cpu, "cpp.min_chunk_size": CHUNK}
        return inductor.compile(graph, given, options=options)  # type: ignore[arg-type]
    except Exception as error:
        if "CxxCompiler" in type(error).__name__ or "CxxCompiler" in str(error):
            raise NotCompilable("no C++ compiler is installed (g++ or clang++)") from error
        raise NotCompilable(f"torch's compiler: {_line(error)}") from error
    finally:
        log.setLevel(level)


def _line(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {next((line for line in str(error).splitlines() if line.strip()), '')[:160]}"
