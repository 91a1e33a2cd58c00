"""Trackers: each step of a run is shown once, also after a crash or a rollback; pictures and rates reach them all."""

from __future__ import annotations

import math
import sys
from collections import Counter
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from accelerate import tracking
from accelerate.state import PartialState
from PIL import Image

import ganframe
from ganframe.training.trackers import track_pictures

MORE = """
[log]
every = 1
checkpoint_every = 2
trackers = ["tensorboard"]
"""


class Killed(Exception):
    pass


@pytest.fixture
def shown():
    """shown(run): how often TensorBoard shows each step of the generator's loss."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read(run):
        events = reading.EventAccumulator(str(run.folder / "tiny"))
        events.Reload()
        return Counter(event.step for event in events.Scalars("loss_generator"))

    return read


def written_before(folder):
    """Dates files of TensorBoard a second back: those of one second and process are read as 1, 10, 2."""
    for file in (folder / "tiny").glob("events.out.tfevents.*"):
        _, _, _, second, rest = file.name.split(".", 4)
        file.rename(file.with_name(f"events.out.tfevents.{int(second) - 1}.{rest}"))


@pytest.mark.parametrize("killed", [1, 2, 5, 6])
def test_steps_after_a_crash_are_shown_once(tiny, tmp_path, shown, killed):
    """At step 1 there is no checkpoint yet, and the run begins again."""

    def kill(state):
        if state.step == killed:
            raise Killed

    with pytest.raises(Killed):
        ganframe.run(ganframe.load_recipe(tiny(MORE), ["train.steps=8"]), tmp_path / "run", callbacks=[kill])
    written_before(tmp_path / "run")
    run = ganframe.resume(tmp_path / "run")
    assert shown(run) == dict.fromkeys(range(1, 9), 1)
    assert [record["step"] for record in run.log] == [*range(1, 9)]


def test_steps_after_a_rollback_are_shown_once(tiny, tmp_path, shown):
    spoiled = []

    def spoil(state):
        if state.step == 5 and not spoiled:
            spoiled.append(next(state.G.network.parameters()).data.fill_(math.nan))

    settings = ["train.steps=8", "train.on_nonfinite='rollback'"]
    run = ganframe.run(ganframe.load_recipe(tiny(MORE), settings), tmp_path / "run", callbacks=[spoil])
    assert spoiled
    assert shown(run) == dict.fromkeys(range(1, 9), 1)


def test_run_that_is_continued_shows_its_first_steps_too(tiny, tmp_path, shown):
    ganframe.run(ganframe.load_recipe(tiny(MORE), ["train.steps=4"]), tmp_path / "run")
    written_before(tmp_path / "run")
    run = ganframe.resume(tmp_path / "run", ["train.steps=6"])
    assert shown(run) == dict.fromkeys(range(1, 7), 1)


# ------------------------------------------------------------------------------------------------ pictures, rates


def test_tensorboard_shows_pictures_and_the_learning_rates_of_each_step(tiny, tmp_path):
    """The rate is that of the step itself: 1e-3 · (1 - (t - 1)/4) at step t of a linear schedule to 0 in 4 steps."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    schedule = "schedule = { use = 'LinearLR', start_factor = 1.0, end_factor = 0.0, total_iters = 4 }"
    more = f"{MORE}samples_every = 2\n[optimizer.generator]\nuse = 'Adam'\nlr = 1e-3\n{schedule}\n"
    run = ganframe.run(ganframe.load_recipe(tiny(more), ["train.steps=4"]), tmp_path / "run")
    events = reading.EventAccumulator(str(run.folder / "tiny"), size_guidance={"images": 0})
    events.Reload()
    rates = [event.value for event in events.Scalars("lr_generator")]
    assert rates == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])
    assert [event.step for event in events.Images("samples")] == [2, 4]
    drawn = Image.open(run.folder / "samples" / "step-000004.png")
    assert (events.Images("samples")[-1].width, events.Images("samples")[-1].height) == drawn.size
    assert [record["lr_generator"] for record in run.log] == pytest.approx(rates)


@pytest.fixture
def tracker(monkeypatch):
    """tracker(class): one of Accelerate's own, without its library: what it calls are mocks."""
    PartialState()

    def make(cls):
        made = object.__new__(cls)
        for name in ("run", "writer", "live", "task"):
            setattr(made, name, MagicMock())
        library = ModuleType(cls.name)
        library.Image = lambda image, **more: SimpleNamespace(image=image)
        library.log_artifact = MagicMock()
        monkeypatch.setitem(sys.modules, library.__name__, library)
        return made, library

    return make


def received(made, library):
    """(picture, step) of the one picture that a tracker passed to its library."""
    name = made.name
    if name in ("wandb", "swanlab"):
        ((values,), more) = made.run.log.call_args
        return values["samples"][0].image, more["step"]
    if name == "trackio":
        ((values,), more) = made.run.log.call_args
        return values["samples"].image, more["step"]
    if name == "tensorboard":
        ((tag, images), more) = made.writer.add_images.call_args
        assert (tag, more["dataformats"]) == ("samples", "NHWC")
        return images[0], more["global_step"]
    if name == "aim":
        ((image,), more) = made.writer.track.call_args
        assert more["name"] == "samples"
        return np.asarray(image.image), more["step"]
    if name == "clearml":
        more = made.task.get_logger().report_image.call_args.kwargs
        return more["image"], more["iteration"]
    if name == "comet_ml":
        ((file,), more) = made.writer.log_image.call_args
        assert more["name"] == "samples"
        return file, more["step"]
    if name == "dvclive":
        ((path, file), _) = made.live.log_image.call_args
        assert path == "samples/step-000007.png"
        return file, 7
    more = library.log_artifact.call_args.kwargs
    assert more["artifact_path"] == "samples"
    return more["local_path"], 7


@pytest.mark.parametrize("name", sorted(set(map(str, tracking.LOGGER_TYPE_TO_CLASS))))
def test_every_tracker_of_accelerate_gets_the_picture_of_a_step(tracker, tmp_path, name):
    cls = tracking.LOGGER_TYPE_TO_CLASS[name]
    file = tmp_path / "step-000007.png"
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    Image.fromarray(pixels).save(file)
    made, library = tracker(cls)
    track_pictures([made], lambda step: tmp_path / f"step-{step:06d}.png")(SimpleNamespace(step=7))
    picture, step = received(made, library)
    assert step == 7
    shown = np.asarray(Image.open(picture)) if isinstance(picture, str) else picture
    assert np.array_equal(shown, pixels)


def test_tracker_that_fails_is_named_once_and_the_others_go_on(tracker, tmp_path, capsys):
    Image.new("L", (3, 3)).save(tmp_path / "x.png")
    (broken, _), (fine, _) = tracker(tracking.WandBTracker), tracker(tracking.SwanLabTracker)
    broken.run.log.side_effect = ConnectionError("no network")
    give = track_pictures([broken, fine], lambda step: tmp_path / "x.png")
    for step in (1, 2):
        give(SimpleNamespace(step=step))
    assert capsys.readouterr().err == "warning: tracker wandb: takes no more pictures: ConnectionError: no network\n"
    assert fine.run.log.call_count == 2


def test_picture_that_is_not_there_is_left_out(tracker, tmp_path):
    made, _ = tracker(tracking.WandBTracker)
    track_pictures([made], lambda step: tmp_path / "none.png")(SimpleNamespace(step=1))
    assert not made.run.log.called
