"""Pictures for the trackers of Accelerate, which get the numbers of each log line besides.

Each tracker of Accelerate takes numbers alike. Pictures it takes in its own way, or by the library beneath it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ganframe.engine.state import Callback, State
from ganframe.errors import warn

TAG = "samples"


def track_pictures(trackers: Sequence[Any], file: Callable[[int], Path]) -> Callback:
    """Gives the picture of a step, in `file(step)`, to every tracker. One that fails is named once, and left out then.

    A run does not end because a picture could not be sent.
    """
    working = list(trackers)

    def callback(state: State) -> None:
        picture = file(state.step)
        if not working or not picture.is_file():
            return
        for tracker in tuple(working):
            try:
                _give(tracker, picture, state.step)
            except Exception as error:  # of any tracker's library, or its connection
                working.remove(tracker)
                warn(f"tracker {tracker.name}: takes no more pictures: {type(error).__name__}: {error}")

    return callback


def _give(tracker: Any, file: Path, step: int) -> None:
    if tracker.name == "mlflow":  # a file, whose name has the step
        tracker.log_artifact(str(file), TAG)
    elif tracker.name == "dvclive":
        tracker.live.log_image(f"{TAG}/{file.name}", str(file))
    elif tracker.name == "comet_ml":
        tracker.writer.log_image(str(file), name=TAG, step=step)
    elif tracker.name == "trackio":
        tracker.log({TAG: importlib.import_module("trackio").Image(str(file))}, step=step)
    elif tracker.name == "tensorboard":
        tracker.log_images({TAG: _pixels(file)[None]}, step=step, dataformats="NHWC")
    elif tracker.name == "aim":
        tracker.log_images({TAG: _image(file)}, step=step)
    elif tracker.name == "clearml":
        tracker.log_images({TAG: _pixels(file)}, step=step)
    elif hasattr(tracker, "log_images"):  # wandb, swanlab, and those of the same form: lists of pictures
        tracker.log_images({TAG: [_pixels(file)]}, step=step)


def _image(file: Path) -> Any:
    from PIL import Image

    with Image.open(file) as opened:
        return opened.convert("RGB")


def _pixels(file: Path) -> Any:
    """(H, W, 3), uint8."""
    import numpy as np

    return np.asarray(_image(file))
