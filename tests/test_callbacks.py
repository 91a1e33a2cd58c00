"""What happens between steps: when it is due, what it averages, writes and draws, and how it stops."""

import json
import math
import signal
import threading

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, StepLR

import ganframe
from ganframe import DataSpec, callbacks, pictures
from ganframe.builtin.distributions import Ring
from ganframe.builtin.mlp import MLPDiscriminator, MLPGenerator
from ganframe.builtin.objectives import NonSaturating
from ganframe.engine import Player, State, train
from ganframe.feed import Latents, Share, open_feed

CPU = torch.device("cpu")


@pytest.fixture
def state():
    """A small game on the ring whose networks have BatchNorm."""
    torch.manual_seed(0)
    data, share = Ring(), Share(CPU)
    G = MLPGenerator(hidden=(6,), batch_norm=True).build(data.spec, 3)
    D = MLPDiscriminator(hidden=(6,), norm="batch").build(data.spec)
    return State(
        G=Player(G, torch.optim.SGD(G.parameters(), lr=0.5)),
        D=Player(D, torch.optim.SGD(D.parameters(), lr=0.5)),
        objective=NonSaturating(),
        constraints={},
        batches=open_feed(data.build(), data.spec, 8, 0, share),
        latents=Latents(3, "normal", 0, share),
        joint=False,
        generator_batch_size=8,
        device=CPU,
    )


# ------------------------------------------------------------------------------------------------------------ schedules


@pytest.mark.parametrize(
    ("n", "last", "due"),
    [(3, 10, [3, 6, 9, 10]), (5, 10, [5, 10]), (1, 3, [1, 2, 3]), (100, 7, [7]), (4, 6, [4, 6])],
)
def test_every_acts_at_each_multiple_and_once_at_the_last_step(state, n, last, due):
    acted = []
    train(state, last, 1, [callbacks.every(n, last, lambda state: acted.append(state.step))])
    assert acted == due


def test_every_of_a_resumed_run_keeps_to_the_same_steps(state):
    acted = []
    state.step = 4
    train(state, 10, 1, [callbacks.every(3, 10, lambda state: acted.append(state.step))])
    assert acted == [6, 9, 10]


def test_schedules_advance_once_for_each_generator_step(state):
    decay = StepLR(state.G.optimizer, step_size=2, gamma=0.1)
    linear = LambdaLR(state.D.optimizer, lambda step: 1 - step / 10)
    rates = []

    def note(state):
        rates.append((state.G.optimizer.param_groups[0]["lr"], state.D.optimizer.param_groups[0]["lr"]))

    train(state, 4, 3, [callbacks.advance(iter([decay, linear])), note])  # 3 critic steps count as one
    assert rates == [pytest.approx(r) for r in [(0.5, 0.45), (0.05, 0.4), (0.05, 0.35), (0.005, 0.3)]]


# ------------------------------------------------------------------------------------------------------- moving average


@pytest.mark.parametrize("decay", [0.999, 0.25])
def test_parameters_are_averaged_with_a_decay_that_warms_up(state, decay):
    """After the first step the average is the network; then a ← d a + (1 - d) w, d = min(decay, (1 + t) / (10 + t))."""
    averaged = callbacks.moving_average(state.G.network)
    state.G.optimizer.param_groups[0]["lr"] = 20.0
    seen = []

    def note(state):
        seen.append([p.detach().double().clone() for p in state.G.network.parameters()])

    train(state, 4, 1, [note, callbacks.average_into(averaged, decay)])
    expected = seen[0]
    for t, weights in zip((2, 3, 4), seen[1:], strict=True):
        d = min(decay, (1 + t) / (10 + t))
        expected = [d * a + (1 - d) * w for a, w in zip(expected, weights, strict=True)]
    for got, one in zip(averaged.module.parameters(), expected, strict=True):
        torch.testing.assert_close(got.double(), one, rtol=1e-5, atol=1e-6)
    moved = [(a - w).abs().max() for a, w in zip(expected, seen[-1], strict=True)]
    assert max(moved) > 0.01  # the network did move, so that an average tells


def test_statistics_are_averaged_with_the_weights_they_belong_to_and_counts_are_copied(state):
    averaged = callbacks.moving_average(state.G.network)
    average = callbacks.average_into(averaged, 0.999)
    live = dict(state.G.network.named_buffers())
    expected: dict[str, torch.Tensor] = {}

    def follow(state):
        decay = min(0.999, (1 + state.step) / (10 + state.step))
        for name, buffer in live.items():
            if not buffer.is_floating_point() or name not in expected:
                expected[name] = buffer.clone()
            else:
                expected[name].lerp_(buffer, 1 - decay)

    train(state, 3, 2, [average, follow])
    kept = dict(averaged.module.named_buffers())
    assert kept.keys() == live.keys()
    for name, buffer in kept.items():
        torch.testing.assert_close(buffer, expected[name])
    assert live["norms.0.norm.num_batches_tracked"] == 9  # 3 steps of 2 critic batches and one of its own
    assert live["norms.0.norm.running_mean"].abs().max() > 0


def test_the_average_is_a_frozen_copy_in_evaluation(state):
    averaged = callbacks.moving_average(state.G.network)
    train(state, 2, 1, [callbacks.average_into(averaged, 0.9)])
    assert not any(module.training for module in averaged.modules())
    assert not any(p.requires_grad for p in averaged.parameters())
    assert state.G.network.training
    assert all(p.requires_grad for p in state.G.network.parameters())
    own = {p.data_ptr() for p in state.G.network.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in averaged.parameters())


# -------------------------------------------------------------------------------------------------------------- metrics


def recorder(records, file, tracked=None):
    def track(values, step):
        if tracked is not None:
            tracked.append((step, values))

    return callbacks.record_metrics(records, file, lambda means: means, track)


def test_metrics_are_lines_of_json_and_records_alike(state, tmp_path):
    records, tracked, file = [], [], tmp_path / "metrics.jsonl"
    train(state, 3, 1, [recorder(records, file, tracked)])
    assert [json.loads(line) for line in file.read_text().splitlines()] == records
    assert [record["step"] for record in records] == [1, 2, 3]
    means = {name: value.detach().mean().item() for name, value in state.latest.items()}
    assert set(means) == {"loss_discriminator", "loss_generator", "score_real", "score_fake"}
    assert {name: records[-1][name] for name in means} == pytest.approx(means, rel=1e-5)
    assert set(records[-1]) == {"step", *means, "seconds"}
    assert [step for step, _ in tracked] == [1, 2, 3]
    assert tracked[-1][1] == {name: records[-1][name] for name in means}
    assert records[0]["seconds"] <= records[1]["seconds"] <= records[2]["seconds"]


def test_metrics_of_a_resumed_run_go_on_in_file_and_time(state, tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 2, "seconds": 100.0}\n')
    records = [{"step": 2, "seconds": 100.0}]
    state.step = 2
    train(state, 3, 1, [recorder(records, file)])
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [2, 3]
    assert 100 <= records[-1]["seconds"] < 110


def test_metrics_are_means_over_processes_and_only_the_first_writes(state, tmp_path):
    records = []
    act = callbacks.record_metrics(records, None, lambda means: 2 * means, lambda values, step: None)
    train(state, 1, 1, [act])
    assert records[0]["loss_generator"] == pytest.approx(2 * state.latest["loss_generator"].item(), rel=1e-5)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------- pictures


def modes(network):
    return {module.training for module in network.modules()}


def draws(state, network, tmp_path, real=None):
    z, y = torch.randn(30, 3), torch.zeros(30, dtype=torch.long)
    real = torch.randn(30, 2) if real is None else real
    return callbacks.draw_samples(network, DataSpec((2,), 8), z, y, real, lambda step: tmp_path / f"{step}.png")


def test_a_picture_is_drawn_in_evaluation_and_leaves_the_networks_as_they_were(state, tmp_path):
    train(state, 2, 1)
    G, D = state.G.network, state.D.network
    before = [{k: v.clone() for k, v in n.state_dict().items()} for n in (G, D)]
    act = draws(state, G, tmp_path)
    rng = torch.get_rng_state()
    for g_training, d_training in ((True, True), (False, True), (True, False), (False, False)):
        G.train(g_training)
        D.train(d_training)
        act(state)
        assert modes(G) == {g_training}
        assert modes(D) == {d_training}
    assert torch.equal(torch.get_rng_state(), rng)
    assert (tmp_path / "2.png").exists()
    for network, stored in zip((G, D), before, strict=True):
        assert all(torch.equal(v, stored[k]) for k, v in network.state_dict().items())


def test_what_is_drawn_is_the_evaluated_network_and_the_evaluated_critic(state, tmp_path, monkeypatch):
    train(state, 2, 1)
    seen = {}

    def draw(file, spec, fake, real, scores):
        seen.update(file=file, fake=fake, real=real, scores=scores(real), grad=torch.is_grad_enabled())

    monkeypatch.setattr(pictures, "draw", draw)
    z, y, real = torch.randn(30, 3), torch.arange(30) % 8, torch.randn(30, 2)
    G, D = state.G.network, state.D.network
    callbacks.draw_samples(G, DataSpec((2,), 8), z, y, real, lambda step: tmp_path / f"{step}.png")(state)
    G.eval()
    D.eval()
    assert seen["file"] == tmp_path / "2.png"
    assert torch.equal(seen["fake"], G(z, y))
    assert torch.equal(seen["scores"], D(real, torch.zeros(30, dtype=torch.long)))
    assert torch.equal(seen["real"], real)
    assert not seen["grad"]


def test_the_modes_are_restored_where_drawing_fails(state, tmp_path):
    """From Python a full disk is an exception that a script may survive, and then go on training."""
    with pytest.raises(OSError, match="nowhere"):
        draws(state, state.G.network, tmp_path / "nowhere")(state)
    assert state.G.network.training
    assert state.D.network.training


# ------------------------------------------------------------------------------------------------------------- progress


def test_without_a_terminal_progress_is_a_line_now_and_then(state, capsys):
    records = []
    with callbacks.progress(5, 0, records, shown=True) as bar:
        train(state, 5, 1, [recorder(records, None), bar])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 3
    assert lines[-1].startswith("step 5/5  loss D ")
    assert f"loss G {records[-1]['loss_generator']:+.3f}" in lines[-1]
    assert lines[-1].endswith("0 s left")


def test_other_processes_show_nothing(state, capsys):
    with callbacks.progress(3, 0, [], shown=False) as bar:
        train(state, 3, 1, [bar])
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_progress_on_a_terminal_is_a_bar_with_the_losses(state, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    records = []
    with callbacks.progress(5, 0, records, shown=True) as bar:
        train(state, 5, 1, [recorder(records, None), bar])
    assert "5/5" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_two_steps_after_saving(state, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    saved = []

    def press(state):
        if state.step == 2:
            signal.raise_signal(number)

    with (
        pytest.raises(callbacks.Interrupted),
        callbacks.interrupts(lambda asked: asked, lambda state: saved.append(state.step)) as stop,
    ):
        train(state, 5, 1, [press, stop])
    assert saved == [2]
    assert state.step == 2
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_nothing_is_saved_and_nobody_stopped_without_a_signal(state):
    handler = signal.getsignal(signal.SIGINT)
    with callbacks.interrupts(lambda asked: asked, lambda state: pytest.fail("nobody asked")) as stop:
        assert signal.getsignal(signal.SIGINT) is not handler
        train(state, 2, 1, [stop])
    assert signal.getsignal(signal.SIGINT) is handler


def test_another_process_can_stop_this_one(state):
    with pytest.raises(callbacks.Interrupted), callbacks.interrupts(lambda asked: True, lambda state: None) as stop:
        train(state, 5, 1, [stop])
    assert state.step == 1


def test_a_second_signal_ends_the_process_at_once(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with callbacks.interrupts(lambda asked: asked, lambda state: None):
        signal.raise_signal(signal.SIGTERM)
        raised = []
        monkeypatch.setattr(signal, "raise_signal", lambda number: raised.append(signal.getsignal(number)))
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)
        assert raised == [signal.SIG_DFL]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_in_a_thread_leaves_signals_alone(state):
    done = []

    def work():
        with callbacks.interrupts(lambda asked: asked, lambda state: None) as stop:
            train(state, 2, 1, [stop])
            done.append(state.step)

    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [2]
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_loss_that_is_no_number_is_still_a_line_of_json(state, tmp_path, capsys):
    """JSON has no NaN: a strict reader, jq or JavaScript, must not choke on the whole file."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    records, file = [], tmp_path / "metrics.jsonl"
    for parameter in state.G.network.parameters():
        parameter.data.fill_(math.nan)
    with callbacks.progress(1, 0, records, shown=True) as bar:
        train(state, 1, 1, [recorder(records, file), bar])
    assert state.latest["loss_generator"].isnan()
    (line,) = file.read_text().splitlines()
    record = json.loads(line, parse_constant=refuse)
    assert record == records[0]
    assert record["step"] == 1
    assert record["loss_generator"] is None
    assert "loss G not finite" in capsys.readouterr().err


def test_a_run_calls_functions_of_ones_own_after_each_step(tiny, tmp_path):
    seen, resumed = [], []
    recipe = ganframe.load_recipe(tiny())
    run = ganframe.run(recipe, tmp_path / "run", callbacks=[lambda state: seen.append((state.step, state.G.network))])
    steps = recipe.train.steps
    assert [step for step, _ in seen] == list(range(1, steps + 1))
    assert len({id(network) for _, network in seen}) == 1
    longer = [f"train.steps={steps + 2}"]
    ganframe.resume(run.folder, longer, callbacks=[lambda state: resumed.append(state.step)])
    assert resumed == [steps + 1, steps + 2]
