"""What becomes of a run that stops being numbers, and what it warns of."""

from __future__ import annotations

import json
import math
import re
import signal

import attrs
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import ganframe
from ganframe import health
from ganframe.build import prepare
from ganframe.cli import main
from ganframe.engine import train

BATCH = 16
RECIPE = """
seed = 8
name = "faulty"
[dataset]
use = "ring"
[latent]
dim = 2
[generator]
use = "mlp"
hidden = [8]
batch_norm = true
[discriminator]
use = "mlp"
hidden = [8]
[objective]
use = "hinge_or"
[optimizer.generator]
use = "Adam"
lr = 1e-3
schedule = { use = "ExponentialLR", gamma = 0.99 }
[train]
steps = 24
batch_size = 16
ema = 0.9
[log]
every = 10
samples_every = 100
checkpoint_every = 5
keep = 10
"""

# Components that turn bad at their `at`-th call in training; what `ganframe` tries first, on two samples, is no call.
PLUGIN = '''
import attrs
import torch
from torch import nn
from torch.nn.functional import relu

import ganframe
from ganframe import Constraint, Discriminator, Generator, Objective, hookimpl, option

CALLS = {}


def now(what, at):
    CALLS[what] = CALLS.get(what, 0) + 1
    return CALLS[what] >= at if at < 0 else CALLS[what] == at


@attrs.frozen
class HingeOr(Objective):
    """Hinge, or something else."""

    player: str = option("", help="whose loss")
    value: str = option("nan", help="what it becomes")
    at: int = option(0, help="at which call; from the first on where negative")

    def discriminator_loss(self, real, fake):
        loss = relu(1 - real).mean() + relu(1 + fake).mean()
        wrong = len(real) > 2 and self.player == "discriminator" and now("d", self.at)
        return loss * float(self.value) if wrong else loss

    def generator_loss(self, fake, real=None):
        wrong = len(fake) > 2 and self.player == "generator" and now("g", self.at)
        return -fake.mean() * float(self.value) if wrong else -fake.mean()


@attrs.frozen
class Faulty(Constraint):
    """A penalty or a projection that turns bad at a call, or for some of the data."""

    what: str = option("penalty", help="penalty, weights or data")
    value: str = option("nan", help="what it becomes")
    at: int = option(0, help="at which call; from the first on where negative")
    share: float = option(0.0, help="of the batches that are bad")
    lazy: int = option(1, help="a penalty each so many calls")

    def penalty(self, D, real, fake):
        size = 1e-6 * D.head.linear.weight.square().sum()
        CALLS["lazy"] = CALLS.get("lazy", 0) + 1
        wrong = self.what == "penalty" and now("p", self.at)
        wrong = wrong or (self.what == "data" and bool((real.x[0, 0] * 1e4).frac().abs() < self.share))
        if CALLS["lazy"] % self.lazy and not wrong:
            return None
        return size * float(self.value) if wrong else size

    def project(self, D):
        if self.what == "weights" and now("w", self.at):
            D.head.linear.weight.data[0, 0] = float(self.value)


class Network(nn.Module):
    def __init__(self, inner, what, at, value):
        super().__init__()
        self.inner, self.what, self.at, self.value = inner, what, at, value

    def forward(self, a, y):
        out = self.inner(a, y)
        if self.training and len(a) > 2:
            if self.what == "score" and len(a) > 16 and now("s", self.at):
                out = torch.cat([out[:1] + float(self.value), out[1:]])
            if self.what == "statistics" and now("b", self.at):
                self.inner.norms[0].norm.running_mean.fill_(float(self.value))
        return out

    @property
    def head(self):
        return self.inner.head


@attrs.frozen
class Critic(Discriminator):
    """A perceptron with one score that is wrong."""

    at: int = option(0, help="at which call")
    value: str = option("inf", help="what it becomes")

    def build(self, data):
        inner = ganframe.component("discriminator", "mlp")(hidden=(8,)).build(data)
        return Network(inner, "score", self.at, self.value)


@attrs.frozen
class Statistics(Generator):
    """A perceptron whose BatchNorm loses its mean."""

    at: int = option(0, help="at which call")

    def build(self, data, latent_dim):
        inner = ganframe.component("generator", "mlp")(hidden=(8,), batch_norm=True).build(data, latent_dim)
        return Network(inner, "statistics", self.at, "inf")


@hookimpl
def ganframe_objectives():
    return {"hinge_or": HingeOr}


@hookimpl
def ganframe_constraints():
    return {"faulty": Faulty}


@hookimpl
def ganframe_discriminators():
    return {"wrong_score": Critic}


@hookimpl
def ganframe_generators():
    return {"wrong_statistics": Statistics}
'''


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def faulty(install, tmp_path):
    """faulty(*overrides): the recipe with a fault that the overrides put in; its calls are counted from here."""
    install("ganframe-faulty-test", PLUGIN, plugin="faulty")
    (tmp_path / "faulty.toml").write_text(RECIPE, encoding="utf-8")

    def load(*overrides):
        import ganframe_faulty_test  # the plugin's module, where the loader found it

        ganframe.load_recipe("faulty.toml")
        ganframe_faulty_test.CALLS.clear()
        return ganframe.load_recipe("faulty.toml", overrides)

    return load


def numbers(value):
    """Every number in nested tables and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, float):
        yield torch.tensor(value)


def assert_finite(folder):
    """Nothing in a run folder's checkpoints, weights and metrics is anything but a finite number."""
    held = [load_file(file) for file in folder.rglob("*.safetensors") if "damaged" not in str(file)]
    held += [torch.load(file, weights_only=True) for file in folder.rglob("training.pt")]
    for tensor in numbers(held):
        assert not tensor.is_floating_point() or tensor.isfinite().all()
    file = folder / "metrics.jsonl"
    for line in file.read_text().splitlines() if file.exists() else ():
        assert all(value is not None and math.isfinite(value) for value in json.loads(line).values()), line


def checkpoints(folder):
    return sorted(int(p.name.removeprefix("step-")) for p in (folder / "checkpoints").glob("step-*"))


def files(folder):
    """What a run leaves, without the times in it."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"):
        name = str(path.relative_to(folder))
        found[name] = path.read_bytes()
        if path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    return found


def last_state(run):
    return run.folder / "checkpoints" / "step-000040" / "training.pt"


def steps_of(run):
    return [record["step"] for record in run.metrics]


FAULTS = {
    "the loss of D": (["objective.player=discriminator", "objective.at=7"], "step 7: loss_discriminator is nan"),
    "an infinite loss": (
        ["objective.player=discriminator", "objective.at=7", "objective.value='inf'"],
        "step 7: loss_discriminator is inf",
    ),
    "the loss of G": (["objective.player=generator", "objective.at=8"], "step 8: loss_generator is nan"),
    "a penalty": (["constraints=[{use='faulty', at=9}]"], "step 9: penalty_faulty is nan"),
    "an infinite penalty": (["constraints=[{use='faulty', at=9, value='inf'}]"], "step 9: penalty_faulty is inf"),
    "a second constraint's penalty": (
        ["constraints=[{use='faulty'}, {use='faulty', at=13}]"],
        "step 7: penalty_faulty_2 is nan",  # both count the calls
    ),
    "a penalty that is not of every step": (
        ["constraints=[{use='faulty', at=9, lazy=4}]"],
        "step 9: penalty_faulty is nan",
    ),
    "a score whose loss is finite": (
        ["discriminator={use='wrong_score', at=7}"],
        "step 7: score_real is inf",
    ),
    "the last step's loss": (["objective.player=generator", "objective.at=24"], "step 24: loss_generator is nan"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_term_that_is_no_number_stops_the_run_and_is_named_with_its_step(faulty, tmp_path, fault):
    overrides, said = FAULTS[fault]
    if "second" in fault:
        overrides = ["constraints=[{use='faulty', what='none'}, {use='faulty', at=7}]"]
    with pytest.raises(ganframe.RunError) as raised:
        ganframe.run(faulty(*overrides), "run")
    message = str(raised.value)
    step = int(re.match(r"step (\d+)", said)[1])
    good = max(n for n in (5, 10, 15, 20) if n < step)
    assert message.startswith(f"run: {said}; the last good checkpoint is run/checkpoints/step-{good:06d}. ")
    assert "commonly help" in message
    assert "on_nonfinite = 'rollback'" in message
    assert len(message.splitlines()) == 1
    assert_finite(tmp_path / "run")
    assert max(checkpoints(tmp_path / "run")) == good


def test_a_weight_that_is_no_number_is_found_before_anything_of_it_is_stored(faulty, tmp_path):
    """By the next term that it spoils."""
    for at, said in ((10, "step 10: loss_generator is nan"), (24, "step 24: loss_generator is nan")):
        folder = tmp_path / str(at)
        with pytest.raises(ganframe.RunError, match=re.escape(said)):
            ganframe.run(faulty(f"constraints=[{{use='faulty', what='weights', at={at}}}]"), folder)
        assert_finite(folder)


def test_a_statistic_of_batchnorm_that_is_infinite_is_found_though_every_loss_is_finite(faulty, tmp_path):
    with pytest.raises(ganframe.RunError, match=r"step 10: the generator's weights are not finite, .*running_mean"):
        ganframe.run(faulty("generator={use='wrong_statistics', at=13}", "log.checkpoint_every=100"), "run")
    assert_finite(tmp_path / "run")
    assert not (tmp_path / "run" / "generator.safetensors").exists()


@pytest.mark.parametrize("log", [{"every": 7}, {"every": 1500}, {"samples_every": 6}, {"every": 1, "samples_every": 1}])
def test_neither_a_line_nor_a_picture_is_made_of_what_is_no_number(faulty, tmp_path, log):
    """Whatever is due at the step where it happened, or soon after."""
    settings = [f"log.{name}={value}" for name, value in log.items()]
    with pytest.raises(ganframe.RunError, match="step 6: loss_generator is nan"):
        ganframe.run(faulty("objective.player=generator", "objective.at=6", "train.steps=8", *settings), "run")
    assert_finite(tmp_path / "run")
    assert not [p for p in (tmp_path / "run" / "samples").iterdir() if int(p.stem.removeprefix("step-")) >= 6]


def test_a_run_that_stops_says_so_in_one_line_and_exits_with_1(faulty, tmp_path):
    faulty()
    settings = ["--set", "objective.player=discriminator", "--set", "objective.at=7"]
    result = CliRunner().invoke(main, ["run", "faulty.toml", "--out", "run", *settings])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    told = [line for line in result.output.splitlines() if line.startswith("run: ")]
    assert len(told) == 1
    assert "Traceback" not in result.output


def test_check_refuses_a_recipe_whose_first_steps_are_no_numbers(faulty):
    faulty()
    settings = ["--set", "objective.player=discriminator", "--set", "objective.at=1"]
    result = CliRunner().invoke(main, ["check", "faulty.toml", *settings])
    assert result.exit_code == 1
    assert "is nan" in result.output
    assert "sound" not in result.output


def test_a_run_without_a_checkpoint_has_nothing_to_roll_back_to(faulty, tmp_path):
    settings = ["objective.player=discriminator", "objective.at=3", "train.on_nonfinite=rollback"]
    with pytest.raises(ganframe.RunError, match=r"step 3: .*there is no checkpoint to go back to"):
        ganframe.run(faulty(*settings), "run")
    assert checkpoints(tmp_path / "run") == []


def test_a_signal_right_after_a_loss_went_bad_stores_nothing_of_it(faulty, tmp_path):
    def press(state):
        if state.step == 7:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(ganframe.RunError, match="step 7: loss_discriminator is nan"):
        ganframe.run(faulty("objective.player=discriminator", "objective.at=7"), "run", callbacks=[press])
    assert checkpoints(tmp_path / "run") == [5]
    assert_finite(tmp_path / "run")


def test_a_signal_before_a_rollback_is_heard_at_once_and_leaves_it_to_the_resumed_run(faulty, tmp_path):
    def press(state):
        if state.step == 7:
            signal.raise_signal(signal.SIGINT)

    settings = ["objective.player=discriminator", "objective.at=7", "train.on_nonfinite=rollback"]
    with pytest.raises(KeyboardInterrupt, match=r"step 7: loss_discriminator is nan; nothing saved; go on with: "):
        ganframe.run(faulty(*settings), "run", callbacks=[press])
    assert checkpoints(tmp_path / "run") == [5]
    assert_finite(tmp_path / "run")


def test_a_signal_is_not_forgotten_by_a_rollback_in_the_same_step(faulty, tmp_path):
    def press(state):
        if state.step == 9:

            def in_the_next_step(module, arguments, scores):
                hook.remove()
                signal.raise_signal(signal.SIGINT)

            hook = state.D.network.register_forward_hook(in_the_next_step)

    settings = ["objective.player=discriminator", "objective.at=7", "train.on_nonfinite=rollback"]
    with pytest.raises(KeyboardInterrupt, match="saved at step 6"):
        ganframe.run(faulty(*settings), "run", callbacks=[press])
    assert checkpoints(tmp_path / "run") == [5, 6]
    assert_finite(tmp_path / "run")


# ------------------------------------------------------------------------------------------------------------ rollback

ONCE = ["objective.player=discriminator", "objective.at=13", "train.on_nonfinite=rollback"]


def test_a_rollback_goes_back_to_the_newest_checkpoint_and_the_run_ends(faulty, tmp_path, capsys):
    seen = []
    run = ganframe.run(faulty(*ONCE, "log.every=4"), "run", callbacks=[lambda state: seen.append(state.step)])
    assert seen == [*range(1, 15), *range(11, 25)]  # found where something is due next, at step 15, before that
    assert steps_of(run) == [4, 8, 12, 16, 20, 24]
    assert [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()] == run.metrics
    assert_finite(run.folder)
    assert checkpoints(run.folder) == [5, 10, 15, 20, 24]
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    (warning,) = [line for line in warnings if "back to" in line]
    assert "step 13: loss_discriminator is nan; back to run/checkpoints/step-000010 (1 of 3 times" in warning
    with pytest.raises(ganframe.RequestError, match="has finished"):
        ganframe.resume(run.folder)


def test_a_rollback_restores_all_but_the_randomness(faulty):
    before, after = {}, {}

    def snapshot(state):
        opt = state.G.optimizer.state_dict()
        return {
            "weights": {k: v.clone() for k, v in state.G.network.state_dict().items()},
            "critic": {k: v.clone() for k, v in state.D.network.state_dict().items()},
            "moments": {k: v.clone() for s in opt["state"].values() for k, v in s.items()},
            "rate": opt["param_groups"][0]["lr"],
        }

    recipe = faulty(*ONCE, "train.steps=16")
    session = prepare(recipe)
    from ganframe import runfolder
    from ganframe import session as runs

    folder = runfolder.create("x", "run")
    records = []
    for callback in session.schedules:
        assert callback.last_epoch == 0
    due = runs.actions(session, folder, records, runs.watching(session))
    train(session.state, 10, 1, due)
    before.update(snapshot(session.state), averaged={k: v.clone() for k, v in session.averaged.state_dict().items()})
    noise, drawn = session.latents.state_dict(), session.feed.state_dict()
    train(session.state, 12, 1, due[:3])
    moved = session.latents.state_dict(), session.feed.state_dict()
    runs._roll_back(session, folder, records, health.NotFinite("step 12: x is nan"), 0)
    after.update(snapshot(session.state), averaged=session.averaged.state_dict())
    assert session.state.step == 10
    for table in ("weights", "critic", "moments", "averaged"):
        assert before[table].keys() == after[table].keys()
        assert all(torch.equal(before[table][name], after[table][name]) for name in before[table]), table
    assert before["rate"] == after["rate"]
    assert session.schedules[0].last_epoch == 10
    now = session.latents.state_dict(), session.feed.state_dict()
    for was, kept, start in zip(moved, now, (noise, drawn), strict=True):
        assert torch.equal(was["generator"], kept["generator"])
        assert not torch.equal(start["generator"], kept["generator"])


DATA = ["constraints=[{use='faulty', what='data', share=0.06}]", "train.on_nonfinite=rollback", "train.steps=40"]


def test_a_run_that_rolled_back_gives_the_same_bytes_again(faulty, tmp_path, capsys):
    first, second = (ganframe.run(faulty(*DATA), tmp_path / name) for name in "ab")
    rolled = [line for line in capsys.readouterr().err.splitlines() if "back to" in line]
    assert len(rolled) in (2, 4, 6)  # the same number of times in both
    ours, theirs = files(first.folder), files(second.folder)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.parametrize("stop", [3, 12, 22, 33, 38])
def test_a_run_that_rolled_back_and_was_interrupted_goes_on_to_the_same_bytes(faulty, tmp_path, stop):
    whole = ganframe.run(faulty(*DATA), tmp_path / "whole")
    visits = []

    def press(state):
        visits.append(state.step)
        if len(visits) == stop:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        ganframe.run(faulty(*DATA), tmp_path / "broken", callbacks=[press])
    broken = ganframe.resume(tmp_path / "broken")
    assert steps_of(broken) == steps_of(whole)
    ours, theirs = files(broken.folder), files(whole.folder)
    last = [name for name in theirs if re.match(r"checkpoints/step-000040/.*safetensors", name)]
    assert [n for n in ("generator.safetensors", "metrics.jsonl", *last) if ours[n] != theirs[n]] == []
    state, expected = (list(numbers(torch.load(last_state(run), weights_only=True))) for run in (broken, whole))
    assert all(torch.equal(a, b) for a, b in zip(state, expected, strict=True))


def test_three_rollbacks_and_no_more(faulty, tmp_path, capsys):
    class Always:
        calls = 0

    def spoil(state):
        if state.step == 7:
            Always.calls += 1
            with torch.no_grad():
                state.D.parameters[0].fill_(math.nan)

    with pytest.raises(ganframe.RunError) as raised:
        ganframe.run(faulty("train.on_nonfinite=rollback"), "run", callbacks=[spoil])
    message = str(raised.value)
    assert Always.calls == 4
    assert message.startswith("run: step 8: loss_discriminator is nan; the last good checkpoint is run/checkpoints/")
    assert "3 rollbacks did not help" in message
    assert "on_nonfinite = 'rollback'" not in message
    assert capsys.readouterr().err.count("back to run/checkpoints/step-000005") == 3
    assert_finite(tmp_path / "run")
    with pytest.raises(ganframe.RunError, match="3 rollbacks"):
        ganframe.resume("run", callbacks=[spoil])


def test_a_stopped_run_can_be_resumed_with_rollbacks_allowed(faulty, tmp_path):
    with pytest.raises(ganframe.RunError):
        ganframe.run(faulty(*DATA[:1], *DATA[2:]), "stopped")
    there = ganframe.resume("stopped", ["train.on_nonfinite=rollback"])
    whole = ganframe.run(faulty(*DATA), "whole")
    ours, theirs = (load_file(run.folder / "generator.safetensors") for run in (there, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_rollback_passes_a_damaged_checkpoint_by(faulty, tmp_path):
    seen = []

    def damage(state):
        seen.append(state.step)
        if len(seen) == 12:
            (tmp_path / "run/checkpoints/step-000010/generator.safetensors").write_bytes(b"")

    run = ganframe.run(faulty(*ONCE), "run", callbacks=[damage])
    assert steps_of(run) == [10, 20, 24]
    assert checkpoints(run.folder) == [5, 10, 15, 20, 24]
    assert_finite(run.folder)


# ----------------------------------------------------------------------------------------------- the watch by itself


def watch(every=10, agree=lambda found: found):
    return health.Watch(every, lambda step: step % every == 0, agree)


def test_another_processs_fault_stops_this_one_and_all_are_asked_alike(faulty):
    asked = []

    def agree(found):
        asked.append(found.item())
        return found + (len(asked) == 2)

    session = prepare(faulty())
    with pytest.raises(health.NotFinite, match="step 20: another process"):
        train(session.state, 30, 1, [watch(agree=agree)])
    assert asked == [0.0, 0.0]


def test_huge_finite_weights_are_no_fault(faulty):
    """The sum of their squares is infinite in float32."""
    session = prepare(faulty())
    train(session.state, 1, 1)
    with torch.no_grad():
        session.state.G.parameters[0].fill_(1e25)
    watch().check(session.state)
    with torch.no_grad():
        session.state.G.parameters[0][0, 0] = math.nan
    with pytest.raises(health.NotFinite, match="the generator's weights"):
        watch().check(session.state)


def test_steps_that_the_scaler_of_fp16_skips_are_no_faults_and_no_victory(faulty, capsys):
    sgd = "{use='SGD', lr=1e-9}"
    steep = ["objective.player=generator", "objective.at=-1", "objective.value='1e5'"]
    session = prepare(faulty(*steep, f"optimizer.generator={sgd}", f"optimizer.discriminator={sgd}"))
    state = session.state
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=10_000)
    before = [p.detach().clone() for p in state.G.parameters]
    observed = watch(every=1)
    train(state, 1, 1, [observed])
    assert all(torch.equal(a, b) for a, b in zip(before, state.G.parameters, strict=True))  # skipped
    train(state, 80, 1, [observed])
    assert state.scaler.get_scale() < 2.0**127
    assert math.isfinite(observed.greatest)
    assert "warning" not in capsys.readouterr().err


def test_nothing_is_read_from_the_device_between_two_looks(faulty, monkeypatch):
    session = prepare(faulty())
    observed = watch(every=100)
    train(session.state, 1, 1)
    for name in ("item", "tolist", "__bool__", "__float__", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, lambda *a, name=name: pytest.fail(f"{name} waits for the device"))
    for _ in range(5):
        session.state.step += 1
        observed(session.state)


# ------------------------------------------------------------------------------------------------------------ warnings

LOST = """
seed = 1
[dataset]
use = "gaussian_1d"
means = [40.0]
[latent]
dim = 2
[generator]
use = "mlp"
hidden = [8]
[discriminator]
use = "mlp"
hidden = [16]
[objective]
use = "vanilla"
[optimizer.generator]
use = "SGD"
lr = 1e-9
[optimizer.discriminator]
use = "Adam"
lr = 0.1
[train]
steps = 200
batch_size = 16
[log]
every = 10
samples_every = 1000
checkpoint_every = 1000
"""


def warned(text, tmp_path, capsys, overrides=()):
    """The warnings of a recipe's run."""
    (tmp_path / "w.toml").write_text(text, encoding="utf-8")
    capsys.readouterr()
    ganframe.run(ganframe.load_recipe(tmp_path / "w.toml", overrides), tmp_path / "warned")
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


def test_a_critic_that_has_won_for_good_is_warned_of_once(tmp_path, capsys):
    (line,) = warned(LOST, tmp_path, capsys)
    assert "the critic tells all real samples from all fakes" in line
    assert "non-saturating" in line


def test_a_sure_critic_whose_generator_still_learns_is_no_loss(tmp_path, capsys):
    assert warned(LOST, tmp_path, capsys, ["objective.use=non_saturating"]) == []


COLLAPSING = [
    "dataset={use='ring'}",
    "objective.use=wgan",
    "optimizer.generator={use='SGD', lr=0.1, weight_decay=5.0}",
    "optimizer.discriminator.lr=1e-5",
    "log.samples_every=20",
]


def test_a_generator_that_has_collapsed_is_warned_of_once(tmp_path, capsys):
    (line,) = warned(LOST, tmp_path, capsys, COLLAPSING)
    assert "the generator has collapsed" in line
    assert "data's" in line


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset={use='gaussian_1d', means=[0.0], stds=[1e-3]}", "objective.use=non_saturating"],
        ["dataset={use='ring'}", "generator.condition=concat", "discriminator.condition=projection"],
        ["dataset={use='digits'}", "objective.use=non_saturating", "train.batch_size=1"],
        ["dataset={use='digits'}", "generator.condition=concat", "discriminator.condition=concat"],
        ["dataset={use='grid'}", "generator.hidden=[64, 64, 64, 64]", "objective.use=non_saturating"],
    ],
    ids=["a narrow Gaussian", "a labelled ring", "digits one by one", "labelled digits", "a deep network at first"],
)
def test_a_healthy_run_is_warned_of_nothing(tmp_path, capsys, overrides):
    rates = [f"optimizer.{player}={{use='Adam', lr=1e-3}}" for player in ("generator", "discriminator")]
    assert warned(LOST, tmp_path, capsys, [*rates, "train.steps=20", "log.samples_every=5", *overrides]) == []


@pytest.mark.parametrize("name", ["vanilla_ring", "wgan_gp_grid", "wgan_clip_grid", "wgan_sn", "gan_1d"])
def test_the_first_steps_of_the_recipes_are_warned_of_nothing(tmp_path, capsys, name):
    from pathlib import Path

    recipe = ganframe.load_recipe(Path(__file__).parent.parent / "recipes" / f"{name}.toml")
    short = attrs.evolve(recipe.train, steps=3, batch_size=32)
    often = attrs.evolve(recipe.log, every=1, samples_every=1)
    capsys.readouterr()
    ganframe.run(attrs.evolve(recipe, train=short, log=often), tmp_path / "run")
    assert "warning" not in capsys.readouterr().err
