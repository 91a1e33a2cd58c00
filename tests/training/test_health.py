"""Non-finite losses and weights, rollbacks from them, and warnings of a lost discriminator or generator."""

from __future__ import annotations

import math
import re
import signal
import time
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import load_file

import ganframe
from ganframe.engine.algorithm import train
from ganframe.training import health
from ganframe.training.log import LogMeans
from ganframe.training.prepare import prepare

RECIPES = Path(__file__).parents[2] / "recipes"
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

# Components that turn bad at their `at`-th call in training, whose batches have 16 samples. Calls on other numbers, by
# which a recipe's parts are tried, do not count.
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
        wrong = len(real) == 16 and self.player == "discriminator" and now("d", self.at)
        return loss * float(self.value) if wrong else loss

    def generator_loss(self, fake, real=None):
        wrong = len(fake) == 16 and self.player == "generator" and now("g", self.at)
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
        if len(real.x) != 16:
            return size
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
class WrongScore(Discriminator):
    """A perceptron with one wrong score."""

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
    return {"wrong_score": WrongScore}


@hookimpl
def ganframe_generators():
    return {"wrong_statistics": Statistics}
'''


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
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


def tensors(value):
    """Every tensor and float in nested tables and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, float):
        yield torch.tensor(value)


@pytest.fixture
def assert_finite(read_records):
    """assert_finite(folder): all numbers in a run's checkpoints, weights and log are finite."""

    def check(folder):
        held = [load_file(file) for file in folder.rglob("*.safetensors") if "damaged" not in str(file)]
        held += [torch.load(file, weights_only=True) for file in folder.rglob("training.pt")]
        for tensor in tensors(held):
            assert not tensor.is_floating_point() or tensor.isfinite().all()
        for record in read_records(folder) if (folder / "log.jsonl").exists() else ():
            assert all(value is not None and math.isfinite(value) for value in record.values()), record

    return check


def checkpoints(folder):
    return sorted(int(p.name.removeprefix("step-")) for p in (folder / "checkpoints").glob("step-*"))


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def steps_of(run):
    return [record["step"] for record in run.log]


def press_at(step):
    """A callback that sends SIGINT at a step."""
    return lambda state: signal.raise_signal(signal.SIGINT) if state.step == step else None


FAULTS = {
    "loss of D": (["objective.player=discriminator", "objective.at=7"], "step 7: loss_discriminator is nan"),
    "infinite loss": (
        ["objective.player=discriminator", "objective.at=7", "objective.value='inf'"],
        "step 7: loss_discriminator is inf",
    ),
    "loss of G": (["objective.player=generator", "objective.at=8"], "step 8: loss_generator is nan"),
    "penalty": (["constraints=[{use='faulty', at=9}]"], "step 9: penalty_faulty is nan"),
    "infinite penalty": (["constraints=[{use='faulty', at=9, value='inf'}]"], "step 9: penalty_faulty is inf"),
    "penalty of a second constraint": (
        ["constraints=[{use='faulty', what='none'}, {use='faulty', at=7}]"],
        "step 7: penalty_faulty_2 is nan",
    ),
    "penalty that only some steps have": (
        ["constraints=[{use='faulty', at=9, lazy=4}]"],
        "step 9: penalty_faulty is nan",
    ),
    "score whose loss is finite": (["discriminator={use='wrong_score', at=7}"], "step 7: score_real is inf"),
    "loss of the last step": (["objective.player=generator", "objective.at=24"], "step 24: loss_generator is nan"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_non_finite_value_stops_the_run_and_is_named_with_its_step(faulty, tmp_path, assert_finite, fault):
    overrides, said = FAULTS[fault]
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


@pytest.mark.parametrize("at", [10, 24])
def test_non_finite_weight_is_found_before_anything_of_it_is_stored(faulty, tmp_path, assert_finite, at):
    """By the next value that is computed from it."""
    with pytest.raises(ganframe.RunError, match=f"step {at}: loss_generator is nan"):
        ganframe.run(faulty(f"constraints=[{{use='faulty', what='weights', at={at}}}]"), "run")
    assert_finite(tmp_path / "run")


def test_infinite_batch_norm_statistic_is_found_though_every_loss_is_finite(faulty, tmp_path, assert_finite):
    with pytest.raises(ganframe.RunError, match=r"step 10: weights of the generator are not finite, .*running_mean"):
        ganframe.run(faulty("generator={use='wrong_statistics', at=13}", "log.checkpoint_every=100"), "run")
    assert_finite(tmp_path / "run")
    assert not (tmp_path / "run" / "generator.safetensors").exists()


@pytest.mark.parametrize("log", [{"every": 7}, {"every": 1500}, {"samples_every": 6}, {"every": 1, "samples_every": 1}])
def test_non_finite_step_leaves_neither_record_nor_picture(faulty, tmp_path, assert_finite, log):
    """Whatever is due at the step where it happens, or soon after."""
    settings = [f"log.{name}={value}" for name, value in log.items()]
    with pytest.raises(ganframe.RunError, match="step 6: loss_generator is nan"):
        ganframe.run(faulty("objective.player=generator", "objective.at=6", "train.steps=8", *settings), "run")
    assert_finite(tmp_path / "run")
    assert not [p for p in (tmp_path / "run" / "samples").iterdir() if int(p.stem.removeprefix("step-")) >= 6]


def test_command_reports_a_non_finite_value_in_one_line_and_exits_with_1(faulty, call):
    faulty()
    settings = ["--set", "objective.player=discriminator", "--set", "objective.at=7"]
    result = call("run", "faulty.toml", "--out", "run", *settings, code=1)
    assert len([line for line in result.output.splitlines() if line.startswith("run: step 7: ")]) == 1


def test_check_refuses_a_recipe_whose_first_steps_are_not_finite(faulty, call):
    faulty()
    settings = ["--set", "objective.player=discriminator", "--set", "objective.at=1"]
    result = call("check", "faulty.toml", *settings, code=1)
    assert "is nan" in result.output
    assert "sound" not in result.output


def test_without_a_checkpoint_there_is_no_rollback(faulty, tmp_path):
    settings = ["objective.player=discriminator", "objective.at=3", "train.on_nonfinite=rollback"]
    with pytest.raises(ganframe.RunError, match=r"step 3: .*there is no checkpoint to return to"):
        ganframe.run(faulty(*settings), "run")
    assert checkpoints(tmp_path / "run") == []


def test_signal_after_a_non_finite_step_saves_nothing(faulty, tmp_path, assert_finite):
    settings = ["objective.player=discriminator", "objective.at=7"]
    with pytest.raises(ganframe.RunError, match="step 7: loss_discriminator is nan"):
        ganframe.run(faulty(*settings), "run", callbacks=[press_at(7)])
    assert checkpoints(tmp_path / "run") == [5]
    assert_finite(tmp_path / "run")


# ------------------------------------------------------------------------------------------------------------ rollback

SEVENTH = ["objective.player=discriminator", "objective.at=7", "train.on_nonfinite=rollback"]
ONCE = ["objective.player=discriminator", "objective.at=13", "train.on_nonfinite=rollback"]
DATA = ["constraints=[{use='faulty', what='data', share=0.06}]", "train.on_nonfinite=rollback", "train.steps=40"]


def test_signal_before_a_rollback_stops_at_once_and_leaves_it_to_the_resumed_run(faulty, tmp_path, assert_finite):
    with pytest.raises(KeyboardInterrupt, match=r"step 7: loss_discriminator is nan; nothing saved; resume with: "):
        ganframe.run(faulty(*SEVENTH), "run", callbacks=[press_at(7)])
    assert checkpoints(tmp_path / "run") == [5]
    assert_finite(tmp_path / "run")


def test_signal_in_the_step_of_a_rollback_is_not_lost(faulty, tmp_path, assert_finite):
    def press(state):
        if state.step == 9:

            def in_the_next_step(module, arguments, scores):
                hook.remove()
                signal.raise_signal(signal.SIGINT)

            hook = state.D.network.register_forward_hook(in_the_next_step)

    with pytest.raises(KeyboardInterrupt, match="saved at step 6"):
        ganframe.run(faulty(*SEVENTH), "run", callbacks=[press])
    assert checkpoints(tmp_path / "run") == [5, 6]
    assert_finite(tmp_path / "run")


def test_rollback_returns_to_the_newest_checkpoint_and_the_run_ends(faulty, capsys, assert_finite, read_records):
    seen = []
    run = ganframe.run(faulty(*ONCE, "log.every=4"), "run", callbacks=[lambda state: seen.append(state.step)])
    assert seen == [*range(1, 15), *range(11, 25)]  # found where something is due next, at step 15, before that
    assert steps_of(run) == [4, 8, 12, 16, 20, 24]
    assert read_records(run.folder) == [{k: v for k, v in record.items() if k != "seconds"} for record in run.log]
    assert_finite(run.folder)
    assert checkpoints(run.folder) == [5, 10, 15, 20, 24]
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    (warning,) = [line for line in warnings if "returning to" in line]
    assert "step 13: loss_discriminator is nan; returning to run/checkpoints/step-000010 (rollback 1 of at most 3" in (
        warning
    )
    with pytest.raises(ganframe.RequestError, match="has finished"):
        ganframe.resume(run.folder)


def test_rollback_past_the_checkpoint_of_an_interruption_renames_it_superseded(faulty, tmp_path):
    with pytest.raises(KeyboardInterrupt, match="saved at step 6"):
        ganframe.run(faulty(*SEVENTH), "run", callbacks=[press_at(6)])
    assert checkpoints(tmp_path / "run") == [5, 6]
    seen = []
    ganframe.resume("run", callbacks=[lambda state: seen.append(state.step)])
    assert seen == [7, 8, 9, *range(6, 25)]
    assert checkpoints(tmp_path / "run") == [5, 10, 15, 20, 24]
    renamed = [p.name for p in (tmp_path / "run" / "checkpoints").iterdir() if not p.name.startswith("step-")]
    assert renamed == ["superseded-step-000006"]


def test_run_with_rollbacks_is_reproducible_to_the_byte(faulty, tmp_path, capsys, read_records):
    first, second = (ganframe.run(faulty(*DATA), tmp_path / name).folder for name in "ab")
    rolled = [line for line in capsys.readouterr().err.splitlines() if "returning to" in line]
    assert len(rolled) in (2, 4, 6)  # equally often in both

    def files(folder):
        found = (p for p in folder.rglob("*") if p.is_file() and p.name not in (".lock", "log.jsonl"))
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    ours, theirs = files(first), files(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert read_records(first) == read_records(second)


@pytest.mark.parametrize("stop", [3, 12, 22, 33, 38])
def test_resume_of_a_run_with_rollbacks_ends_with_the_same_bytes(faulty, tmp_path, read_records, stop):
    unbroken = ganframe.run(faulty(*DATA), tmp_path / "unbroken").folder
    visits = []

    def press(state):
        visits.append(state.step)
        if len(visits) == stop:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        ganframe.run(faulty(*DATA), tmp_path / "broken", callbacks=[press])
    broken = ganframe.resume(tmp_path / "broken").folder
    assert read_records(broken) == read_records(unbroken)
    last = Path("checkpoints") / "step-000040"
    weights = [p.relative_to(unbroken) for p in (unbroken / last).glob("*.safetensors")]
    assert len(weights) == 3
    for file in (Path("generator.safetensors"), *weights):
        assert (broken / file).read_bytes() == (unbroken / file).read_bytes(), file
    ours, theirs = (
        list(tensors(torch.load(folder / last / "training.pt", weights_only=True))) for folder in (broken, unbroken)
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_run_rolls_back_at_most_three_times(faulty, tmp_path, capsys, assert_finite):
    calls = []

    def spoil(state):
        if state.step == 7:
            calls.append(state.step)
            with torch.no_grad():
                state.D.parameters[0].fill_(math.nan)

    with pytest.raises(ganframe.RunError) as raised:
        ganframe.run(faulty("train.on_nonfinite=rollback"), "run", callbacks=[spoil])
    message = str(raised.value)
    assert len(calls) == 4
    assert message.startswith("run: step 8: loss_discriminator is nan; the last good checkpoint is run/checkpoints/")
    assert "3 rollbacks did not help" in message
    assert "on_nonfinite = 'rollback'" not in message
    assert capsys.readouterr().err.count("returning to run/checkpoints/step-000005") == 3
    assert_finite(tmp_path / "run")
    with pytest.raises(ganframe.RunError, match="3 rollbacks"):
        ganframe.resume("run", callbacks=[spoil])


def test_stopped_run_can_be_resumed_with_rollbacks(faulty):
    with pytest.raises(ganframe.RunError):
        ganframe.run(faulty(*DATA[:1], *DATA[2:]), "stopped")
    there = ganframe.resume("stopped", ["train.on_nonfinite=rollback"])
    unbroken = ganframe.run(faulty(*DATA), "unbroken")
    ours, theirs = (load_file(run.folder / "generator.safetensors") for run in (there, unbroken))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_rollback_skips_a_damaged_checkpoint(faulty, tmp_path, assert_finite):
    seen = []

    def damage(state):
        seen.append(state.step)
        if len(seen) == 12:
            wait_for(tmp_path / "run/checkpoints/step-000010")  # it is written in a thread
            (tmp_path / "run/checkpoints/step-000010/generator.safetensors").write_bytes(b"")

    run = ganframe.run(faulty(*ONCE), "run", callbacks=[damage])
    assert seen == [*range(1, 15), *range(6, 25)]
    assert steps_of(run) == [10, 20, 24]
    assert checkpoints(run.folder) == [5, 10, 15, 20, 24]
    assert (run.folder / "checkpoints" / "damaged-step-000010").is_dir()
    assert_finite(run.folder)


# ----------------------------------------------------------------------------------------------------- the watch alone


def watch(every=10, agree=lambda found: found):
    return health.Watch(LogMeans(), every, lambda step: step % every == 0, agree)


def test_fault_of_another_process_stops_this_one(faulty):
    asked = []

    def agree(found):
        asked.append(found.item())
        return found + (len(asked) == 2)

    trainer = prepare(faulty())
    with pytest.raises(health.NotFinite, match="step 20: another process"):
        train(trainer.state, 30, 1, [watch(agree=agree)])
    assert asked == [0.0, 0.0]


def test_huge_finite_weights_are_no_fault(faulty):
    """The sum of their squares is infinite in float32."""
    state = prepare(faulty()).state
    train(state, 1, 1)
    with torch.no_grad():
        state.G.parameters[0].fill_(1e25)
    watch().check(state)
    with torch.no_grad():
        state.G.parameters[0][0, 0] = math.nan
    with pytest.raises(health.NotFinite, match="weights of the generator are not finite"):
        watch().check(state)


def test_steps_that_the_fp16_scaler_skips_are_no_faults(faulty, capsys):
    """Nor do they count as a vanished gradient."""
    sgd = "{use='SGD', lr=1e-9}"
    steep = ["objective.player=generator", "objective.at=-1", "objective.value='1e5'"]
    state = prepare(faulty(*steep, f"optimizer.generator={sgd}", f"optimizer.discriminator={sgd}")).state
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=10_000)
    before = [p.detach().clone() for p in state.G.parameters]
    watching = watch(every=1)
    train(state, 1, 1, [watching])
    assert all(torch.equal(a, b) for a, b in zip(before, state.G.parameters, strict=True))  # skipped
    train(state, 80, 1, [watching])
    assert state.scaler.get_scale() < 2.0**127
    assert math.isfinite(watching.largest)
    assert "warning" not in capsys.readouterr().err


def test_nothing_is_read_from_the_device_between_two_checks(faulty, monkeypatch):
    state = prepare(faulty()).state
    watching = watch(every=100)
    train(state, 1, 1)
    for name in ("item", "tolist", "cpu", "__bool__", "__float__", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, lambda *a, name=name: pytest.fail(f"{name} waits for the device"))
    for _ in range(5):
        state.step += 1
        watching(state)


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


@pytest.fixture
def warnings_of(tmp_path, capsys):
    """warnings_of(recipe): the warnings of its run."""

    def run(recipe):
        capsys.readouterr()
        ganframe.run(recipe, tmp_path / "warned")
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]

    return run


@pytest.fixture
def lost(tmp_path):
    """lost(*overrides): the recipe whose discriminator wins."""
    (tmp_path / "lost.toml").write_text(LOST, encoding="utf-8")
    return lambda *overrides: ganframe.load_recipe("lost.toml", overrides)


def test_discriminator_that_has_won_is_warned_of_once(lost, warnings_of):
    (line,) = warnings_of(lost())
    assert "the discriminator separates all real samples from all fakes" in line
    assert "non-saturating" in line


def test_perfect_discriminator_is_not_warned_of_while_the_generator_learns(lost, warnings_of):
    assert warnings_of(lost("objective.use=non_saturating")) == []


def test_collapsed_generator_is_warned_of_once(lost, warnings_of):
    said = warnings_of(
        lost(
            "dataset={use='ring'}",
            "objective.use=wgan",
            "optimizer.generator={use='SGD', lr=0.1, weight_decay=5.0}",
            "optimizer.discriminator.lr=1e-5",
            "log.samples_every=20",
        )
    )
    (line,) = [line for line in said if "linear in the scores" not in line]
    assert "the generator has collapsed" in line
    assert "that of the data" in line


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset={use='gaussian_1d', means=[0.0], stds=[1e-3]}", "objective.use=non_saturating"],
        ["dataset={use='ring'}", "generator.condition=concat", "discriminator.condition=projection"],
        ["dataset={use='digits'}", "objective.use=non_saturating", "train.batch_size=1"],
        ["dataset={use='digits'}", "generator.condition=concat", "discriminator.condition=concat"],
        ["dataset={use='grid'}", "generator.hidden=[64, 64, 64, 64]", "objective.use=non_saturating"],
    ],
    ids=["narrow Gaussian", "labelled ring", "digits in batches of one", "labelled digits", "deep network"],
)
def test_healthy_run_has_no_warnings(lost, warnings_of, overrides):
    rates = [f"optimizer.{player}={{use='Adam', lr=1e-3}}" for player in ("generator", "discriminator")]
    assert warnings_of(lost(*rates, "train.steps=20", "log.samples_every=5", *overrides)) == []


@pytest.mark.parametrize("name", ["vanilla_ring", "wgan_gp_grid", "wgan_clip_grid", "wgan_sn", "gan_1d"])
def test_first_steps_of_the_recipes_have_no_warnings(warnings_of, name):
    recipe = ganframe.load_recipe(RECIPES / f"{name}.toml")
    short = attrs.evolve(recipe.train, steps=3, batch_size=32)
    often = attrs.evolve(recipe.log, every=1, samples_every=1)
    assert warnings_of(attrs.evolve(recipe, train=short, log=often)) == []


@pytest.mark.parametrize("rule", ["stop", "rollback"])
def test_a_loss_that_is_not_finite_for_the_data_names_the_item(make_recipe, tmp_path, rule):
    """Item 555 is none of those that are checked at the start. Other noise does not help, so nothing is rolled back."""

    class Holed(torch.utils.data.Dataset):
        def __len__(self):
            return 900

        def __getitem__(self, index):
            return torch.full((1, 2, 2), torch.nan if index == 555 else 0.5), 0

    @attrs.frozen
    class Table(ganframe.Dataset):
        spec = ganframe.DataSpec((1, 2, 2))

        def build(self):
            return Holed()

    def feed_the_hole(state):
        """The batch of the second step begins with that item."""
        state.batches.order.permutation[8:9] = 555

    recipe = make_recipe(train={"steps": 6, "batch_size": 8, "on_nonfinite": rule}, log={"every": 1})
    trainer = prepare(attrs.evolve(recipe, dataset=Table()))
    with pytest.raises(health.NotFiniteData, match=r"step 2: .* is nan.*: dataset: .*: item 555 has nan"):
        train(trainer.state, 6, 1, [watch(every=1), feed_the_hole])
