"""Curves of runs: which values are drawn in which panel."""

import math

import matplotlib.axes
import pytest
from PIL import Image

from ganframe.report.curves import Curves, draw_curves, of_run, of_runs

LOG = [
    {"step": 10, "loss_discriminator": 1.0, "score_real": 0.5, "penalty_gp": 1e-3, "loss_generator": 2.0, "seconds": 1},
    {"step": 20, "loss_discriminator": 0.5, "score_real": None, "penalty_gp": 1.0, "loss_generator": 3.0, "seconds": 2},
    {"step": 30, "loss_discriminator": 0.2, "score_real": 0.1, "other": 7.0, "seconds": 3},
]


@pytest.fixture
def lines(monkeypatch):
    """The lines that a picture draws: (name, x, y, axes)."""
    found = []
    plain = matplotlib.axes.Axes.plot

    def plot(self, x, y, **options):
        found.append((options.get("label"), list(x), list(y), self))
        return plain(self, x, y, **options)

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", plot)
    return found


def test_values_of_a_run_are_grouped_by_what_they_are():
    panels = of_run(LOG, {"modes": [(10, 3.0)]})
    assert [panel.title for panel in panels] == [
        "Losses",
        "Mean scores of D: real, D(x)",
        "Penalties: gp",
        "Other values: other",
        "modes",
    ]
    assert panels[0].lines == {"L_D": [(10, 1.0), (20, 0.5), (30, 0.2)], "L_G": [(10, 2.0), (20, 3.0)]}
    assert panels[1].lines == {"real, D(x)": [(10, 0.5), (30, 0.1)]}  # null where it was not finite
    assert not any("seconds" in panel.title for panel in panels)


def test_several_runs_have_a_panel_for_each_value_and_a_line_each():
    panels = of_runs({"a": (LOG[:2], {}), "b": (LOG[2:], {"modes": [(30, 4.0)]})})
    by_title = {panel.title: panel.lines for panel in panels}
    assert by_title["Losses: L_D"] == {"a": [(10, 1.0), (20, 0.5)], "b": [(30, 0.2)]}
    assert by_title["Penalties: gp"] == {"a": [(10, 1e-3), (20, 1.0)], "b": ()}
    assert by_title["modes"] == {"a": (), "b": [(30, 4.0)]}


def test_lines_are_drawn_over_their_steps_and_wide_ranges_logarithmically(tmp_path, lines):
    draw_curves(tmp_path / "x.png", of_run(LOG, {}), "a run")
    assert [(name, x, y) for name, x, y, _ in lines[:2]] == [
        ("L_D", [10, 20, 30], [1.0, 0.5, 0.2]),
        ("L_G", [10, 20], [2.0, 3.0]),
    ]
    scales = [axes.get_yscale() for *_, axes in lines]
    assert scales == ["linear", "linear", "linear", "log", "linear"]
    assert Image.open(tmp_path / "x.png").width > 1000


@pytest.mark.parametrize("runs", [1, 2, 9])
def test_names_of_runs_may_be_long_and_hold_any_letter(tmp_path, runs):
    names = [f"{'deep/' * 20}{number}/$x_{{" for number in range(runs)]
    draw_curves(tmp_path / "x.png", of_runs({name: (LOG, {}) for name in names}), "$y_{")
    assert Image.open(tmp_path / "x.png").size[0] == 1060


def test_a_single_panel_and_lines_without_points_are_drawn(tmp_path):
    draw_curves(tmp_path / "x.png", [Curves("t", "y", {"a": [], "b": [(1, math.pi)]})], "one")
    assert (tmp_path / "x.png").stat().st_size > 1000
