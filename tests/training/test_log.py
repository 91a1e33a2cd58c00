"""Records of the training log: means over the steps since the last one, the same after a resume or a rollback."""

from __future__ import annotations

import copy
import json
import math
import signal

import attrs
import pytest
import torch

import ganframe
from ganframe import Constraint
from ganframe.engine.algorithm import train
from ganframe.training.log import LogMeans, write_line


@attrs.frozen
class Lazy(Constraint):
    """A penalty that is reported in every third step only."""

    calls: list = attrs.field(factory=list)

    def penalty(self, D, real, fake):
        self.calls.append(None)
        return None if len(self.calls) % 3 else sum(p.square().sum() for p in D.parameters())


@pytest.fixture
def log(state, tmp_path):
    """log: the callback that writes records at each step, with its `records`, `tracked` values and `file`."""

    class Log:
        means, records, tracked, file = LogMeans(), [], [], tmp_path / "log.jsonl"

        def append(self, record):
            with self.file.open("a") as file:
                file.write(json.dumps(record) + "\n")

        def callbacks(self):
            track = lambda values, step: self.tracked.append((step, values))  # noqa: E731
            return [self.means, write_line(self.means, self.records, self.append, track)]

    return Log()


def note_each(steps):
    """A callback that keeps the value of each step, scores as their means over the batch."""
    return lambda state: steps.append({name: value.double().mean().item() for name, value in state.latest.items()})


def means_of(steps):
    names = dict.fromkeys(name for step in steps for name in step)
    values = {name: [step[name] for step in steps if name in step] for name in names}
    return {name: sum(found) / len(found) for name, found in values.items()}


# ------------------------------------------------------------------------------------------------------------- records


def test_records_are_the_same_in_memory_file_and_trackers(state, log):
    train(state, 3, 1, log.callbacks())
    assert [json.loads(line) for line in log.file.read_text().splitlines()] == log.records
    assert [record["step"] for record in log.records] == [1, 2, 3]
    values = {name: value.mean().item() for name, value in state.latest.items()}
    assert set(values) == {"loss_discriminator", "loss_generator", "score_real", "score_fake"}
    assert {name: log.records[-1][name] for name in values} == pytest.approx(values, rel=1e-5)
    others = {"gradient_norm_generator", "gradient_norm_discriminator", "lr_generator", "lr_discriminator"}
    assert set(log.records[-1]) == {"step", *values, *others, "seconds"}
    assert [step for step, _ in log.tracked] == [1, 2, 3]
    assert log.tracked[-1][1] == {name: log.records[-1][name] for name in (*values, *others)}
    assert log.records[0]["seconds"] <= log.records[1]["seconds"] <= log.records[2]["seconds"]


def test_resumed_log_continues_steps_and_seconds(state, log):
    log.records.append({"step": 2, "seconds": 100.0})
    state.step = 2
    train(state, 3, 1, log.callbacks())
    assert [record["step"] for record in log.records] == [2, 3]
    assert [json.loads(line)["step"] for line in log.file.read_text().splitlines()] == [3]
    assert 100 <= log.records[-1]["seconds"] < 110


def test_value_that_is_not_finite_is_null_in_the_record(state, log, read_records):
    """JSON has no NaN: a strict reader, as of jq or JavaScript, would refuse the file."""
    for parameter in state.G.network.parameters():
        parameter.data.fill_(math.nan)
    train(state, 1, 1, log.callbacks())
    assert state.latest["loss_generator"].isnan()
    (record,) = read_records(log.file.parent)
    assert record["step"] == 1
    assert record["loss_generator"] is None
    assert math.isnan(log.tracked[0][1]["loss_generator"])


def test_record_has_the_gradient_norms_and_the_rates_of_its_step(state, log):
    train(state, 3, 1, log.callbacks())
    for name, player in (("generator", state.G), ("discriminator", state.D)):
        squares = sum(p.grad.double().square().sum().item() for p in player.parameters)
        assert log.records[-1][f"gradient_norm_{name}"] == pytest.approx(math.sqrt(squares), rel=1e-5)
        assert log.records[-1][f"lr_{name}"] == player.optimizer.param_groups[0]["lr"]


# --------------------------------------------------------------------------------------------------------------- means


def test_means_are_over_the_steps_since_the_last_record(state):
    means, steps = LogMeans(), []
    for last in (5, 7, 8):
        begun = len(steps)
        train(state, last, 2, [means, note_each(steps)])
        assert means.take(last) == pytest.approx(means_of(steps[begun:]), abs=1e-6)


def test_steps_that_report_nothing_have_no_means():
    means = LogMeans()
    means.kept = [{}, {}]  # as before the objective and all terms start
    assert means.fold(2) is None
    assert means.take(2) == {}


def test_penalty_counts_only_in_the_steps_that_report_it(state):
    state.game = attrs.evolve(state.game, constraints={"lazy": Lazy()})
    means, steps = LogMeans(), []
    train(state, 7, 1, [means, note_each(steps)])
    reported = [step["penalty_lazy"] for step in steps if "penalty_lazy" in step]
    assert len(reported) == 2
    taken = means.take(7)
    assert taken["penalty_lazy"] == pytest.approx(sum(reported) / 2, rel=1e-6)
    assert taken == pytest.approx(means_of(steps), rel=1e-6)
    train(state, 8, 1, [means])
    assert "penalty_lazy" not in means.take(8)


def test_means_are_over_processes(state):
    """Here another process has the threefold value in each step, and a penalty that this one has not."""

    def gather(own):
        return [own, {name: (3 * value, count) for name, (value, count) in own.items()} | {"penalty_r1": (8.0, 4)}]

    means, steps = LogMeans(gather), []
    train(state, 3, 1, [means, note_each(steps)])
    expected = {name: 2 * value for name, value in means_of(steps).items()} | {"penalty_r1": 2.0}
    assert means.take(3) == pytest.approx(expected, rel=1e-6)


def test_values_that_a_callback_adds_are_not_logged(state):
    """Callbacks of the user run after the log has seen the step, and may write to `state.latest`."""
    means = LogMeans()
    train(state, 2, 1, [means, lambda state: state.latest.update(mine=3.0, loss_generator=torch.tensor(math.nan))])
    assert means.fold(2) is None
    assert "mine" not in means.take(2)


def test_first_process_holds_the_saved_sums_of_all(state):
    first, other = LogMeans(lambda own: [own, own]), LogMeans(lambda own: [own, own], first=False)
    train(state, 2, 1, [first, other])
    for means in (first, other):
        means.fold(2)
        before = means.sums
        saved = means.state_dict()["sums"]
        assert saved == {name: (2 * value, 2 * count) for name, (value, count) in before.items()}
    assert (first.sums, other.sums) == (saved, {})


def test_fold_reports_the_first_value_that_is_not_finite_with_its_step(state):
    means = LogMeans()
    for value in ([0.5, 1.0], [math.nan, 1.0], [1.0, -math.inf]):
        state.latest = {"loss_generator": torch.tensor(0.0), "score_fake": torch.tensor(value)}
        means(state)
    assert means.fold(12) == "step 11: score_fake is nan"
    state.latest = {"loss_generator": torch.tensor(-math.inf), "score_fake": torch.tensor([math.nan])}
    means(state)
    assert means.fold(13) == "step 13: loss_generator is -inf"
    state.latest = {"score_fake": torch.tensor([3e38, 3e38])}  # finite, though their mean in float32 is not
    means(state)
    assert means.fold(14) is None
    assert means.fold(14) is None


def test_sums_are_restored_with_the_state(state):
    means, steps = LogMeans(), []
    train(state, 2, 1, [means, note_each(steps)])
    means.fold(2)
    saved = copy.deepcopy(means.state_dict())
    other = LogMeans()
    train(state, 4, 1, [means, other])
    other.load_state_dict(saved)
    train(state, 5, 1, [other, note_each(steps)])
    assert other.take(5) == pytest.approx(means_of(steps), abs=1e-6)
    assert means.kept  # the saved state is not that of the means that went on


# --------------------------------------------------------------------------------------------------------- whole runs

LAZY = """
import attrs
from ganframe import Constraint, hookimpl

COUNT = [0]

@attrs.frozen
class Lazy(Constraint):
    '''A penalty that depends on the data, in some steps.'''
    def penalty(self, D, real, fake):
        if real.x[0, 0] > 0:
            return None
        return 1e-3 * sum(p.square().sum() for p in D.parameters())

@hookimpl
def ganframe_constraints():
    return {"lazy": Lazy}
"""


@pytest.fixture
def run(tiny, install, tmp_path):
    """run(name, every, *overrides): a run of twenty steps with a penalty in some steps only."""
    install("lazy", LAZY)

    def start(name, every, *overrides, **options):
        settings = ["constraints=[{use='lazy'}]", "train.steps=20", f"log.every={every}", *overrides]
        return ganframe.run(ganframe.load_recipe(tiny(), settings), tmp_path / name, **options)

    return start


OF_ONE_STEP = ("gradient_norm_", "lr_")  # no means, but those of the step of the record


@pytest.mark.parametrize("every", [5, 8])
def test_records_are_means_of_the_records_of_single_steps(run, read_records, every):
    singly, together = (read_records(run(str(n), n).folder) for n in (1, every))
    assert 0 < sum("penalty_lazy" in record for record in singly) < 20
    lasts = [step for step in range(1, 21) if step % every == 0 or step == 20]
    assert [record.pop("step") for record in together] == lasts
    for first, last, record in zip([0, *lasts], lasts, together, strict=False):
        steps = [{k: v for k, v in single.items() if k != "step"} for single in singly[first:last]]
        means = {name: value for name, value in means_of(steps).items() if not name.startswith(OF_ONE_STEP)}
        record = {name: value for name, value in record.items() if not name.startswith(OF_ONE_STEP)}
        assert record == pytest.approx(means, abs=1e-6)
        assert record == {name: torch.tensor(value).item() for name, value in record.items()}  # of float32


@pytest.mark.parametrize("stop", [3, 7, 8, 13])
def test_records_after_a_resume_between_two_lines_are_those_of_an_unbroken_run(run, read_records, stop):
    unbroken = run("unbroken", 5)

    def press(state):
        if state.step == stop:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=f"saved at step {stop}"):
        run("broken", 5, callbacks=[press])
    broken = ganframe.resume(unbroken.folder.with_name("broken"))
    assert read_records(broken.folder) == read_records(unbroken.folder)


def test_checkpoints_between_two_lines_do_not_change_the_records(run, read_records):
    """Also where a run is resumed from one that is older than the last line."""
    expected = read_records(run("straight", 5).folder)
    often = run("often", 5, "log.checkpoint_every=3", "log.keep=10").folder
    assert read_records(often) == expected
    for step in (15, 18, 20):
        (often / "checkpoints" / f"step-{step:06d}" / "training.pt").unlink()
    ganframe.resume(often)
    assert read_records(often) == expected


def test_rollback_restores_the_sums(run, read_records):
    """A run that returns from step 13 to step 12 has the mean of steps 11, 12 and of those after the return."""
    visited = []

    def spoil(state):
        visited.append({name: value.double().mean().item() for name, value in state.latest.items()})
        if len(visited) == 12:
            state.D.parameters[0].data.fill_(math.nan)

    settings = ["log.checkpoint_every=3", "train.on_nonfinite=rollback", "optimizer.discriminator={use='SGD', lr=0.01}"]
    folder = run("rolled", 5, *settings, callbacks=[spoil]).folder
    assert math.isnan(visited[12]["score_real"])
    after = next(at for at, found in enumerate(visited[12:], 12) if all(map(math.isfinite, found.values())))
    (record,) = [record for record in read_records(folder) if record["step"] == 15]
    record = {name: value for name, value in record.items() if not name.startswith(("step", *OF_ONE_STEP))}
    assert record == pytest.approx(means_of([*visited[10:12], *visited[after : after + 3]]), abs=1e-6)
