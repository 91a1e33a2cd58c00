"""What a notebook shows: samples, a finished run, the progress of one that trains."""

from __future__ import annotations

import base64
import html
import io
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ganframe.components import DataSpec
from ganframe.report import pictures
from ganframe.report.grids import grid
from ganframe.storage.evaluations import read_evaluations
from ganframe.storage.log import Record
from ganframe.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH = 512  # pixels of a picture, at least for small ones and at most inside a run's summary
HIDDEN = ("step", "seconds")


def show(samples: Any, columns: int | None = None) -> Image:
    """A picture of samples (N, *shape), a tensor or an array, which a notebook shows where it is a cell's last value.

    Samples (N, C, H, W) are a grid of images, floats in [-1, 1] or uint8, of `columns`, by default about square; small
    ones are enlarged by a whole factor. Others are points: densities in one dimension, scatters in more. Raises
    ValueError where there are no samples, or their shape has no sense.
    """
    x = torch.as_tensor(samples).detach().cpu()
    if x.ndim < 2 or not x.numel():
        raise ValueError(f"samples have shape {tuple(x.shape)}: it must be (N, *shape), as (16, 3, 32, 32) or (500, 2)")
    spec = DataSpec(tuple(x.shape[1:]))
    if spec.is_image and spec.shape[0] not in (1, 2, 3, 4):
        raise ValueError(f"images have {spec.shape[0]} channels: it must be 1 to 4, in the order (N, C, H, W)")
    x = x.float() / 127.5 - 1 if x.dtype == torch.uint8 and spec.is_image else x.float()
    return _enlarged(grid(x, columns)) if spec.is_image else _drawn(x, spec)


def _drawn(x: torch.Tensor, spec: DataSpec) -> Image:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "points.png"
        pictures.draw(file, spec, x)
        with Image.open(file) as opened:
            return opened.copy()


def _enlarged(image: Image) -> Image:
    from PIL.Image import Resampling

    factor = -(-WIDTH // image.width)
    size = (image.width * factor, image.height * factor)
    return image if factor == 1 else image.resize(size, Resampling.NEAREST)


def run_html(folder: RunFolder, records: list[Record]) -> str:
    """A finished run in HTML: its folder, the last means of its log, its last scores, its last picture."""
    last = records[-1] if records else {}
    rows = [(name, _shown(value)) for name, value in last.items() if name not in HIDDEN]
    rows += [(name, _shown(value)) for name, value in _scores(read_evaluations(folder))]
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{value}</td></tr>" for name, value in rows)
    said = f"step {last['step']:,}, {last['seconds']:,.0f} s" if last else "no step was logged"
    parts = [f"<p><b>{html.escape(str(folder.path))}</b>: {said}</p>", f"<table>{cells}</table>"]
    drawn = [folder.samples(record["step"]) for record in reversed(records) if folder.samples(record["step"]).is_file()]
    if drawn:
        parts.append(f'<img alt="samples of step {drawn[0].stem.removeprefix("step-")}" src="{_inline(drawn[0])}">')
    return f"<div>{''.join(parts)}</div>"


def _scores(found: Iterable[dict[str, Any]]) -> Iterable[tuple[str, float]]:
    """The last numbers of each metric."""
    last = {score["metric"]: score for score in found if "error" not in score}
    for metric, score in last.items():
        for name, value in score.items():
            if name not in ("metric", "protocol", "judged"):
                yield f"{metric}: {name}", value


def _shown(value: Any) -> str:
    return "not finite" if value is None else f"{value:.5g}" if isinstance(value, float) else html.escape(str(value))


def _inline(file: Path) -> str:
    """A picture as the address of an <img>, no wider than WIDTH."""
    from PIL import Image

    with Image.open(file) as opened:
        image = opened.convert("RGBA" if opened.mode in ("LA", "RGBA") else "RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, max(1, round(image.height * WIDTH / image.width))))
    written = io.BytesIO()
    image.save(written, "png")
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


def in_notebook() -> bool:
    """Whether the program is a cell of a notebook, whose kernel shows HTML; a terminal of IPython does not."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


def live_bar(steps: int) -> Callable[[int, str], None]:
    """A bar below the cell. What is returned shows a step and a text."""
    from IPython.display import HTML, display

    def drawn(step: int, text: str) -> Any:
        bar = f'<progress value="{step}" max="{steps}" style="width: 16em"></progress>'
        return HTML(f"<div>{bar} {html.escape(text)}</div>")

    handle = display(drawn(0, ""), display_id=True)
    return lambda step, text: handle.update(drawn(step, text))
