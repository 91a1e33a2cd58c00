"""Figures: one style, legends that cover nothing, ticks that do not collide."""

import itertools

import matplotlib
import numpy as np
import pytest
from PIL import Image

from ganframe.report.figures import MARGINS, drawing, legend_above, log_axis, shortened


def test_style_is_that_of_ganframe_inside_of_a_drawing_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    with drawing(tmp_path / "x.png", (4, 3)) as (_, axes):
        colors = [item["color"] for item in matplotlib.rcParams["axes.prop_cycle"]]
        assert axes.get_facecolor() == (1.0, 1.0, 1.0, 1.0)
        assert not axes.spines["top"].get_visible()
    assert dict(matplotlib.rcParams) == before
    assert len({*colors}) == 7
    assert "#1f77b4" not in {color.lower() for color in colors}  # matplotlib's own first colour
    assert Image.open(tmp_path / "x.png").size == (400, 300)


def luminance(color):
    """Of WCAG 2, in [0, 1]."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    return np.dot(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), (0.2126, 0.7152, 0.0722))


def test_first_colors_differ_in_lightness_and_can_be_seen_on_white(tmp_path):
    """People who see no colours tell the first three lines apart, as a print in grey does."""
    with drawing(tmp_path / "x.png", (4, 3)):
        colors = [item["color"] for item in matplotlib.rcParams["axes.prop_cycle"]][:7]
    light = [luminance(color) for color in colors]
    assert all(1.05 / (value + 0.05) > 2 for value in light)
    assert min(abs(a - b) for i, a in enumerate(light[:3]) for b in light[:i]) > 0.02


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a long name of a run, with words"] * 4, ["$x_{"]])
def test_legend_is_above_the_plot_and_below_the_title(tmp_path, names):
    with drawing(tmp_path / "x.png", (6.4, 4.6), margins=(*MARGINS[:3], 1.3)) as (figure, axes):
        for name in names:
            axes.plot([0, 1], [0, 1], label=name)
        axes.set_title("title")
        legend_above(axes)
        figure.canvas.draw()
        legend, plot = axes.get_legend().get_window_extent(), axes.get_window_extent()
        title = axes._left_title.get_window_extent()
        assert legend.y0 >= plot.y1
        assert title.y0 >= legend.y1 - 6  # of which the legend's own margin is a part
        assert legend.x1 <= figure.bbox.x1
        assert title.y1 <= figure.bbox.y1


def test_legend_has_the_lines_of_both_axes(tmp_path):
    with drawing(tmp_path / "x.png", (6, 4), margins=MARGINS) as (_, axes):
        axes.plot([0, 1], label="left")
        right = axes.twinx()
        right.plot([1, 0], label="right")
        legend_above(axes, right)
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["left", "right"]
        assert right.get_legend() is None


@pytest.mark.parametrize("span", [(0.8, 1.2), (0.5, 8.0), (0.9, 30.0), (1e-4, 2.0), (1e-9, 1e9), (3e-7, 3.3e-7)])
def test_numbers_of_a_logarithmic_axis_do_not_overlap(tmp_path, span):
    with drawing(tmp_path / "x.png", (5.2, 4.0), margins=MARGINS) as (figure, axes):
        axes.set_xscale("log")
        axes.set_xlim(*span)
        log_axis(axes.xaxis, *span)
        figure.canvas.draw()
        labels = [*axes.get_xticklabels(), *axes.get_xticklabels(minor=True)]
        boxes = sorted((text.get_window_extent() for text in labels if text.get_text()), key=lambda box: box.x0)
        inside = [box for box in boxes if axes.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1 + 1]
    assert len(inside) >= 2
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(inside))


def test_long_names_lose_their_middle_and_stay_different():
    assert shortened(["short", "two\nlines"]) == ["short", "two?lines"]
    long = [f"runs/{'x' * 60}/{number}" for number in (1, 2)]
    assert all(len(name) == 40 for name in shortened(long))
    assert len({*shortened(long)}) == 2
    same = [f"{'x' * 40}{number}{'y' * 40}" for number in (1, 2)]
    assert [name[:3] for name in shortened(same)] == ["1: ", "2: "]
