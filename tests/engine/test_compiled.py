"""Compiled iterations: the same training as without, seen to move, and refused where it would not be.

Here the graph of an iteration is recorded and called as it is; tests/training/test_compiling.py compiles it.
"""

from __future__ import annotations

import random
from typing import ClassVar

import attrs
import numpy as np
import pytest
import torch
from torch import nn

from ganframe import Parts, Term
from ganframe.builtin.constraints import GradientPenalty
from ganframe.engine import compiled
from ganframe.engine.algorithm import train
from ganframe.engine.compiled import CompiledIteration
from ganframe.engine.recording import NotCompilable
from ganframe.engine.state import Timetable
from ganframe.engine.timing import Ramp, Timing
from ganframe.training.moving_average import average_into, moving_average


@pytest.fixture(autouse=True)
def graphs_are_called_as_they_are(monkeypatch):
    monkeypatch.setattr(compiled, "_compiled", lambda graph, example: graph)


@attrs.frozen
class Pull(Term):
    """Draws fakes to 0, by a part of its own, more strongly with each step."""

    weight: float = 1.0
    needs_real: ClassVar = None

    def prepare(self, G, D, spec):
        return Parts()

    def generator_term(self, turn):
        return self.weight * (1 + turn.step) * turn.fake.x.square().mean()


def pair(make_state, steps=20, k=1, prepared=lambda state: None, **options):
    """Two equal states, and what they report, after so many steps: without a graph, and with one."""
    found = []
    for graphs in (False, True):
        state = make_state(**options)
        prepared(state)
        lines: list[str] = []
        iteration = CompiledIteration([], lines.append) if graphs else None
        logs = []
        torch.manual_seed(3)
        train(
            state, steps, k, [lambda s, logs=logs: logs.append({n: v.clone() for n, v in s.latest.items()})], iteration
        )
        found.append((state, logs, iteration, lines))
    return found


def same_training(plain, graphs, rtol=5e-4):
    """Logs and weights of both agree, and weights have moved."""
    (a, logs, _, _), (b, other, iteration, lines) = plain, graphs
    assert [line for line in lines if "not compiled" in line] == []
    assert any(graph is not None and graph.compared == 2 for graph in iteration.graphs.values())
    for one, two in zip(logs, other, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            torch.testing.assert_close(two[name], one[name], rtol=rtol, atol=1e-5)
    for player in ("G", "D"):
        for module, twin in zip(getattr(a, player).modules, getattr(b, player).modules, strict=True):
            held, twins = module.state_dict(), twin.state_dict()
            for name, value in held.items():
                torch.testing.assert_close(twins[name], value, rtol=rtol, atol=1e-5)
    assert (a.G.updates, a.D.updates, a.step) == (b.G.updates, b.D.updates, b.step)
    assert torch.equal(a.labels, b.labels)


GAMES = {
    "plain": {},
    "k": {"k": 3},
    "gradient_penalty": {"objective": "wgan", "constraints": [GradientPenalty(weight=0.1)], "k": 2},
    "r1": {"constraints": ["r1"]},
    "spectral_norm": {"objective": "wgan", "constraints": ["spectral_norm"], "k": 2},
    "weight_clipping": {"objective": "wgan", "constraints": ["weight_clipping"]},
    "relativistic": {"objective": "relativistic"},
    "batch_norm_and_dropout": {"G": {"batch_norm": True}, "D": {"dropout": 0.3}},
    "generator_batch": {"generator_batch": 12},
    "accumulate": {"accumulate": 2},
    "share_fakes": {"share_fakes": True, "k": 2},
    "term": {"terms": {"pull": Pull(0.01)}},
}


@pytest.mark.parametrize("name", GAMES)
def test_compiled_iterations_train_as_others(make_state, name):
    plain, graphs = pair(make_state, **GAMES[name])
    same_training(plain, graphs)
    first = graphs[1][0]["loss_generator"], graphs[1][-1]["loss_generator"]
    assert not torch.equal(*first)


@pytest.mark.parametrize("cls", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.SGD])
def test_compiled_iterations_follow_a_rate_that_moves(make_state, cls):
    def prepared(state):
        for player in (state.G, state.D):
            player.optimizer = cls(player.parameters, lr=0.01)
            batches = state.batches

        def drawn():
            for player in (state.G, state.D):
                player.optimizer.param_groups[0]["lr"] = 0.01 / (1 + state.step)
            return batches()

        state.batches = drawn

    plain, graphs = pair(make_state, prepared=prepared)
    same_training(plain, graphs)
    assert sum(graph is not None for graph in graphs[2].graphs.values()) == 1  # one graph for all rates


def test_compiled_iterations_follow_ramps_and_what_is_due(make_state):
    """A penalty that ramps and is due at each third update, and a term that starts later."""
    timings = {
        "penalty_0": Timing(every=3, ramps={"gamma": Ramp(0.1, 3.0, 15)}),
        "term_pull": Timing(start=9, ramps={"weight": Ramp(0.0, 1.0, 20, "cosine")}),
    }

    def prepared(state):
        state.timetable = Timetable(timings)

    options = {"constraints": ["r1"], "terms": {"pull": Pull()}}
    plain, graphs = pair(make_state, steps=30, prepared=prepared, **options)
    same_training(plain, graphs)
    assert len(graphs[2].graphs) == 4
    assert None not in graphs[2].graphs.values()


def test_moving_average_is_part_of_the_graph(make_state):
    plain, graphs = [], []
    for found in (plain, graphs):
        state = make_state(G={"batch_norm": True})
        state.G.optimizer.param_groups[0]["lr"] = 1.0
        averaged = moving_average(state.G.network)
        state.moving_average = average_into(averaged, 0.6, 10)
        train(state, 20, 1, (), CompiledIteration([averaged], lambda line: None) if found is graphs else None)
        found += averaged.state_dict().values()
        assert not torch.equal(next(averaged.module.parameters()), next(state.G.network.parameters()))
    for a, b in zip(plain, graphs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_gradients_are_left_as_without(make_state):
    (a, *_), (b, *_) = pair(make_state)
    for player in ("G", "D"):
        for p, q in zip(getattr(a, player).parameters, getattr(b, player).parameters, strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)


def test_steps_after_weights_and_optimiser_were_replaced_train_the_new_ones(make_state):
    """As where a checkpoint is restored, or a callback gives a weight other memory."""
    state = make_state()
    for player in (state.G, state.D):
        player.optimizer = torch.optim.Adam(player.parameters, lr=0.01)
    iteration = CompiledIteration([], lambda line: None)
    train(state, 5, 1, (), iteration)
    state.D.optimizer.load_state_dict(state.D.optimizer.state_dict())  # new tensors
    weight = state.G.parameters[0]
    weight.data = weight.data.clone()
    before, counts = weight.detach().clone(), state.D.optimizer.state[state.D.parameters[0]]["step"].item()
    train(state, 8, 1, (), iteration)
    assert not torch.equal(before, weight)
    assert state.D.optimizer.state[state.D.parameters[0]]["step"].item() == counts + 3


# ------------------------------------------------------------------------------------------------------------- refusals


class Own(nn.Module):
    """A discriminator that does something else besides."""

    def __init__(self, act):
        super().__init__()
        self.inner, self.act, self.calls = nn.Linear(2, 1), act, 0

    def forward(self, x, y):
        return self.act(self, self.inner(x).flatten())


def reads(module, scores):
    return scores * (2 if scores.mean() > 0 else 1)


def counts(module, scores):
    module.calls += 1
    return scores * module.calls


def keeps(module, scores):
    module.last = scores.detach().mean()
    return scores


def draws(module, scores):
    return scores * random.random()


def draws_by_numpy(module, scores):
    return scores * float(np.random.rand())


def leaves_torch(module, scores):
    return scores * float(scores.detach().numpy().mean())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (reads, "discriminator (test_compiled.py:"),
        (counts, "discriminator: changes its attribute calls"),
        (keeps, "discriminator: changes its attribute last"),
        (draws, "draws from Python's or numpy's random generator"),
        (draws_by_numpy, "draws from Python's or numpy's random generator"),
    ],
)
def test_iteration_that_python_decides_is_refused_with_its_part(make_state, act, message):
    with pytest.raises(NotCompilable) as caught:
        train(make_state(D=Own(act)), 3, 1, (), CompiledIteration([], lambda line: None))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("act", [reads, counts, draws, leaves_torch])
def test_refused_iteration_trains_as_it_is_where_that_is_allowed(make_state, act):
    """With a line that says so, once, and with the same weights."""
    ends, lines = [], []
    for iteration in (None, CompiledIteration([], lines.append, required=False)):
        random.seed(0)
        torch.manual_seed(1)
        state = make_state(D=Own(act))
        train(state, 6, 2, (), iteration)
        ends.append(torch.cat([p.detach().flatten() for player in (state.G, state.D) for p in player.parameters]))
    assert torch.equal(*ends)
    assert len([line for line in lines if "not compiled: " in line]) == 1


def test_what_a_module_makes_once_and_keeps_is_no_hindrance(make_state):
    """Also where the first step that a process takes is not the first one of the run, as after a resume."""

    def keeps_once(module, scores):
        if not hasattr(module, "scale"):
            module.scale = torch.full((), 2.0)
        return scores * module.scale

    state = make_state(D=Own(keeps_once))
    state.step = 5
    lines: list[str] = []
    iteration = CompiledIteration([], lines.append)
    train(state, 9, 1, (), iteration)
    assert [graph.compared for graph in iteration.graphs.values()] == [2]


def test_what_a_callback_changes_is_not_a_constant_of_the_graph(make_state):
    """As noise that a program lets fade: the graph would keep its first value."""

    def scaled(module, scores):
        return scores * module.calls

    ends, lines = [], []
    for iteration in (None, CompiledIteration([], lines.append, watching=True)):
        torch.manual_seed(1)
        state = make_state(D=Own(scaled))
        state.game.D.calls = 1

        def fade(state):
            state.game.D.calls = 1 if state.step < 5 else 3

        train(state, 9, 1, [fade], iteration)
        ends.append(torch.cat([p.detach().flatten() for player in (state.G, state.D) for p in player.parameters]))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)
    assert sum("discriminator: its attribute calls was changed between two steps" in line for line in lines) == 1


def test_graph_that_trains_nothing_is_refused(make_state, monkeypatch):
    """Its logs are right, and no weight moves."""

    def inert(graph, example):
        def call(*tensors):
            return graph(*(tensor.clone() for tensor in tensors))

        return call

    monkeypatch.setattr(compiled, "_compiled", inert)
    with pytest.raises(NotCompilable, match="the changes of weights: a difference of"):
        train(make_state(), 3, 1, (), CompiledIteration([], lambda line: None))


def test_optimiser_without_a_rule_is_refused(make_state):
    state = make_state()
    state.D.optimizer = torch.optim.Adagrad(state.D.parameters)
    with pytest.raises(
        NotCompilable, match=r"optimizer.discriminator: Adagrad is not one of Adam, AdamW, RMSprop, SGD"
    ):
        train(state, 3, 1, (), CompiledIteration([], lambda line: None))


def test_no_more_graphs_than_a_few(make_state, monkeypatch):
    """Options that change at each step make an iteration of a new kind each time."""
    monkeypatch.setattr(compiled, "GRAPHS", 3)
    lines: list[str] = []
    state = make_state()

    def move(state):
        state.D.optimizer.param_groups[0]["dampening"] = 0.01 * state.step

    iteration = CompiledIteration([], lines.append)
    train(state, 9, 1, [move], iteration)
    assert sum(graph is not None for graph in iteration.graphs.values()) == 3
    assert sum("3 different iterations are compiled already" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("first line\nsecond"), "torch's compiler: RuntimeError: first line"),
        (RuntimeError("InvalidCxxCompiler: No working C++ compiler found"), r"no C\+\+ compiler is installed"),
    ],
)
def test_fault_of_the_compiler_is_one_line(make_state, monkeypatch, error, message):
    import torch._inductor as inductor

    def compile(*_, **__):
        raise error

    monkeypatch.undo()  # the compiler itself
    monkeypatch.setattr(inductor, "compile", compile)
    with pytest.raises(NotCompilable, match=message) as caught:
        train(make_state(), 3, 1, (), CompiledIteration([], lambda line: None))
    assert "\n" not in str(caught.value)


def test_compiled_code_that_fails_leaves_the_training_as_it_is(make_state, monkeypatch):
    def failing(graph, example):
        def call(*tensors):
            raise RuntimeError("expected a contiguous tensor")

        return call

    monkeypatch.setattr(compiled, "_compiled", failing)
    lines: list[str] = []
    plain, state = make_state(), make_state()
    train(plain, 4, 1)
    train(state, 4, 1, (), CompiledIteration([], lines.append, required=False))
    assert all(torch.equal(a, b) for a, b in zip(plain.G.parameters, state.G.parameters, strict=True))
    assert any("what torch has compiled fails: RuntimeError: expected a contiguous tensor" in line for line in lines)


@pytest.mark.parametrize(("rounding", "accepted"), [(20, True), (0, False)])
def test_rounding_that_grows_within_a_step_is_not_taken_for_another_step(make_state, monkeypatch, rounding, accepted):
    """With many critic steps, each carries on the rounding of those before it."""

    def rounded(graph, example):
        generator = torch.Generator().manual_seed(5)

        def call(*tensors):
            for tensor in tensors:
                if tensor.dtype == torch.float32:
                    tensor.mul_(1 + 1e-7 * torch.randn(tensor.shape, generator=generator))
            return graph(*tensors)

        return call

    def prepared(state):
        for player in (state.G, state.D):
            player.optimizer = torch.optim.Adam(player.parameters, lr=0.05, betas=(0.0, 0.9))

    monkeypatch.setattr(compiled, "_compiled", rounded)
    monkeypatch.setattr(compiled, "ROUNDING", rounding)
    state = make_state("wgan", ["spectral_norm"], G={"batch_norm": True})
    prepared(state)
    lines: list[str] = []
    iteration = CompiledIteration([], lines.append, required=False, tolerance=1e-8)
    train(state, 4, 8, (), iteration)
    assert [graph is not None and graph.compared == 2 for graph in iteration.graphs.values()] == [accepted]
    assert any("not the same" in line for line in lines) is not accepted
