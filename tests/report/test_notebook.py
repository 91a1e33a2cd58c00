"""What a notebook shows: samples, a run, progress; and the example notebook, which is run."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import ganframe
from ganframe.report.notebook import in_notebook, run_html, show
from ganframe.storage.run_folder import RunFolder
from ganframe.training.progress import progress

EXAMPLE = Path(__file__).parents[2] / "recipes" / "first_run.ipynb"


def test_images_are_shown_as_an_enlarged_grid_of_their_pixels():
    """Two images of one colour each, in two columns: the middle of each half has that colour."""
    x = torch.stack([torch.full((3, 8, 8), -1.0), torch.full((3, 8, 8), 1.0)])
    picture = show(x, columns=2)
    assert picture.width >= 500
    place = picture.height // 2
    assert picture.getpixel((picture.width // 4, place)) == (0, 0, 0)
    assert picture.getpixel((3 * picture.width // 4, place)) == (255, 255, 255)
    of_bytes = show((x.numpy() * 127.5 + 127.5).astype(np.uint8), columns=2)
    assert np.array_equal(np.asarray(of_bytes), np.asarray(picture))


@pytest.mark.parametrize("shape", [(50, 1), (50, 2), (50, 3), (50, 7), (50, 4, 3), (1, 1, 5, 9)])
def test_samples_of_any_form_are_a_picture(shape):
    picture = show(torch.randn(*shape, requires_grad=True))
    assert min(picture.size) > 50


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (torch.zeros(0, 2), r"samples have shape \(0, 2\)"),
        (torch.zeros(5), r"samples have shape \(5,\): it must be \(N, \*shape\)"),
        (torch.zeros(2, 16, 16, 3), r"images have 16 channels: it must be 1 to 4, in the order \(N, C, H, W\)"),
    ],
)
def test_samples_without_sense_are_refused(samples, said):
    with pytest.raises(ValueError, match=said):
        show(samples)


def test_run_is_shown_with_its_losses_scores_and_last_picture(tiny, tmp_path):
    more = '[[metrics]]\nuse = "modes"\nsamples = 50\n[log]\nevery = 3\nsamples_every = 3\n'
    run = ganframe.run(ganframe.load_recipe(tiny(more)), tmp_path / "a <b> & c")
    shown = run._repr_html_()
    assert "a &lt;b&gt; &amp; c" in shown
    assert "step 6, " in shown
    assert f"<td>loss_generator</td><td>{run.log[-1]['loss_generator']:.5g}</td>" in shown
    assert "<td>modes: modes</td>" in shown
    assert 'alt="samples of step 000006"' in shown
    (encoded,) = re.findall(r"data:image/png;base64,([\w+/=]+)", shown)
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).width <= 512
    assert repr(run).endswith("log=<2 records>)")


def test_run_without_log_pictures_or_finite_losses_is_shown(tmp_path):
    folder = RunFolder(tmp_path)
    assert "no step was logged" in run_html(folder, [])
    shown = run_html(folder, [{"step": 1, "loss_generator": None, "seconds": 0.1}])
    assert "<td>not finite</td>" in shown
    assert "<img" not in shown


@pytest.mark.parametrize(
    ("shell", "expected"), [(None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)]
)
def test_notebook_is_told_from_a_terminal(monkeypatch, shell, expected):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook() is expected
    monkeypatch.delitem(sys.modules, "IPython")
    assert not in_notebook()


def test_progress_in_a_notebook_is_one_bar_that_moves(monkeypatch):
    shown = []

    class Handle:
        def update(self, drawn):
            shown.append(drawn)

    def display(drawn, display_id):
        shown.append(drawn)
        return Handle()

    library = SimpleNamespace(HTML=str, display=display)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    monkeypatch.setitem(sys.modules, "IPython.display", library)
    records = [{"step": 3, "loss_generator": 0.5, "loss_discriminator": None, "seconds": 1.0}]
    with progress(3, 0, records, True, lambda: "score <1>") as bar:
        for step in (1, 3):
            bar(SimpleNamespace(step=step))
    assert '<progress value="0" max="3"' in shown[0]
    assert '<progress value="3" max="3"' in shown[-1]
    assert "3/3" in shown[-1]
    assert "score &lt;1&gt;" in shown[-1]
    assert "loss D not finite  loss G +0.500" in shown[-1]


def test_example_notebook_runs_and_its_outputs_are_kept(tmp_path):
    """Every cell runs, each gives the kind of output that the file has, and the file tells nothing of a machine."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text) < 400_000
    assert not re.findall(r"/(?:tmp|home|root|Users|usr|work)/", re.sub(r"[A-Za-z0-9+/=]{200,}", "", text))
    kept = nbformat.reads(text, as_version=4)
    again = nbformat.reads(text, as_version=4)
    for cell in again.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbclient.NotebookClient(again, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()

    def kinds(document):
        cells = [cell for cell in document.cells if cell.cell_type == "code"]
        return [{kind for output in cell.outputs for kind in output.get("data", {})} for cell in cells]

    assert kinds(again) == kinds(kept)
    assert {"text/html", "text/plain"} in kinds(again)
    assert {"image/png", "text/plain"} in kinds(again)
    assert (tmp_path / "runs" / "non_saturating_ring" / "1" / "generator.safetensors").is_file()
