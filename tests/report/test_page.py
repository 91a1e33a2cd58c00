"""The page: texts of users stay text, charts are thinned without loss of peaks, and it works in a browser."""

import hashlib
import json
import math
import re
import time
from importlib import resources

import pytest

from ganframe.report.page import (
    POINTS,
    Section,
    Series,
    cell,
    chart,
    code,
    details,
    escape,
    link,
    notice,
    page,
    picture,
    slides,
    table,
    thinned,
    write_page,
)

ARROW_LEFT, END, SPACE = "\ue012", "\ue010", "\ue00d"  # keys, by their codes in WebDriver
BAD = "</script><script>document.title='run'</script>\"'&<img src=x onerror=document.title='run'>--><!--"
PIXELS = {  # of one pixel each
    "red": "data:image/gif;base64,R0lGODlhAQABAIAAAP8AAP8AACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==",
    "blue": "data:image/gif;base64,R0lGODlhAQABAIAAAAAA/wAA/yH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==",
}


def sections():
    x = list(range(0, 100, 10))
    lines = [Series("loss " + BAD, [math.sin(i) for i in x]), Series("other", [1.0, math.nan, None, *x[3:]])]
    pictures = [slides("Step " + BAD, ["step 1", BAD, "step 3"], [*PIXELS.values(), PIXELS["red"]], "samples " + BAD)]
    return [
        Section("Curves " + BAD, [chart("Losses " + BAD, x, lines, caption=BAD)]),
        Section("Rest", [table(BAD, [BAD, "b"], [[BAD, 1.5], ["c", cell(escape(BAD), 0.5)]], [1]), *pictures]),
        Section("More", [notice(BAD), code(BAD, "command " + BAD), details(BAD, picture(b"GIF", BAD, BAD, "gif"))]),
    ]


@pytest.mark.parametrize("n", [POINTS + 1, 6_000, 100_000])
def test_thinned_points_keep_the_extremes_of_every_line_and_the_ends(n):
    smooth = [math.sin(i / n) for i in range(n)]
    peaks = [0.0] * n
    peaks[n // 3], peaks[n // 2], peaks[n // 7] = 5.0, -7.0, math.nan
    kept = thinned(n, [smooth, peaks])
    assert {0, n - 1, n // 3, n // 2, n // 7} <= set(kept)
    assert kept == sorted(set(kept))
    assert len(kept) <= POINTS + 2 + POINTS // 4


def test_few_points_are_not_thinned():
    assert thinned(POINTS, [[0.0] * POINTS]) == list(range(POINTS))


def test_thinned_points_of_lines_without_values():
    assert thinned(5000, [[None] * 5000, [math.nan] * 5000])[0] == 0


def test_chart_codes_gaps_and_absent_values_apart():
    made = chart("t", [1, 2, 3], [Series("a", [1.0, math.nan, None], ["x", "y", "z"])])
    data = json.loads(re.search(r"<script[^>]*>(.*?)</script>", made)[1])
    assert data["series"] == [{"name": "a", "y": [1.0, "gap", None], "notes": ["x", "y", "z"]}]
    assert "not finite" in made
    assert "–" in made


def test_texts_of_users_are_escaped():
    text = page("title " + BAD, sections(), [notice(BAD, bad=True)])
    bare = re.sub(r"<script[^>]*>.*?</script>|<style>.*?</style>|<!-- Charts.*?-->", "", text, flags=re.DOTALL)
    assert "<img src=x" not in bare
    assert "onerror=document.title='run'>" not in text.replace("&#x27;", "?").replace("\\u003e", "?")
    assert text.count("</script>") == len(re.findall(r"<script", text))


def test_link_to_another_kind_of_address_is_text():
    assert link("a", "javascript:alert(1)") == "a"
    assert link("a", "runs/x:y/report.html") == '<a href="runs/x:y/report.html">a</a>'


def test_page_needs_nothing_from_elsewhere(tmp_path):
    text = page("t", sections())
    assert "default-src 'none'" in text
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", text)
    assert "Permission is hereby granted" in text  # uPlot's licence


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("uPlot.iife.min.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
        ("uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
    ],
)
def test_charts_are_drawn_by_the_released_files_of_uplot(name, sha256):
    """Those of uPlot 1.6.32 on npm, byte by byte."""
    assert hashlib.sha256((resources.files("ganframe.report") / "assets" / name).read_bytes()).hexdigest() == sha256


def test_page_opens_without_errors_and_shows_texts_of_users_as_they_are(tmp_path, open_page):
    write_page(tmp_path / "page.html", "title " + BAD, sections(), [notice(BAD)])
    browser = open_page(tmp_path / "page.html")
    assert browser.title == "title " + BAD
    assert browser.find_element("tag name", "h1").text == "title " + BAD
    assert browser.find_element("css selector", "h3").text == "Losses " + BAD


def test_page_runs_no_script_but_its_own(tmp_path, open_page):
    """What escaping may miss is not run either: the policy of the page allows its own script alone."""
    file = tmp_path / "page.html"
    write_page(file, "t", sections())
    file.write_text(file.read_text().replace("<main>", "<main><script>document.title = 'run'</script>"))
    with pytest.raises(AssertionError, match="blocked"):
        open_page(file)


def test_curves_are_drawn_with_a_gap_where_a_value_is_not_finite(tmp_path, open_page):
    write_page(tmp_path / "page.html", "t", sections())
    browser = open_page(tmp_path / "page.html")
    wait_for(lambda: browser.find_elements("css selector", ".chart canvas"))
    assert coloured(browser, ".chart canvas") > 300
    names = [button.text for button in browser.find_elements("css selector", ".legend button")]
    assert names == ["loss " + BAD, "other"]


def test_legend_switches_a_line_by_keyboard(tmp_path, open_page):
    write_page(tmp_path / "page.html", "t", sections())
    browser = open_page(tmp_path / "page.html")
    wait_for(lambda: browser.find_elements("css selector", ".legend button"))
    before = coloured(browser, ".chart canvas")
    button = browser.find_elements("css selector", ".legend button")[0]
    button.send_keys(SPACE)
    assert button.get_attribute("aria-pressed") == "false"
    wait_for(lambda: coloured(browser, ".chart canvas") < before)


def test_all_charts_are_drawn_though_nobody_scrolls(tmp_path, open_page):
    charts = [chart(f"Chart {i}", [0, 1], [Series("a", [0.0, 1.0])]) for i in range(20)]
    write_page(tmp_path / "page.html", "t", [Section("Curves", charts)])
    browser = open_page(tmp_path / "page.html")
    wait_for(lambda: len(browser.find_elements("css selector", ".chart canvas")) == 20)


def test_scale_of_a_chart_becomes_logarithmic_and_linear_again(tmp_path, open_page):
    x = list(range(9))
    growing, signed = Series("a", [10.0**i for i in x]), Series("b", [-1.0, *x[1:]])
    write_page(tmp_path / "page.html", "t", [Section("Curves", [chart("A", x, [growing]), chart("B", x, [signed])])])
    browser = open_page(tmp_path / "page.html")
    wait_for(lambda: len(browser.find_elements("css selector", ".chart canvas")) == 2)
    (button,) = browser.find_elements("css selector", ".legend .log")  # not of the chart with a negative value
    linear = lowest_row_in_the_middle(browser)
    button.send_keys(SPACE)
    assert button.get_attribute("aria-pressed") == "true"
    wait_for(lambda: lowest_row_in_the_middle(browser) < 0.7 * linear)
    assert coloured(browser, ".chart canvas") > 300
    button.send_keys(SPACE)
    wait_for(lambda: lowest_row_in_the_middle(browser) == linear)


def test_slider_moves_the_picture_by_keyboard_and_play_ends_at_the_last(tmp_path, open_page):
    write_page(tmp_path / "page.html", "t", sections())
    browser = open_page(tmp_path / "page.html")
    image, slider = (browser.find_element("css selector", f".slides {one}") for one in ("img", "input"))
    assert image.get_attribute("src") == PIXELS["red"]
    slider.send_keys(ARROW_LEFT)
    assert image.get_attribute("src") == PIXELS["blue"]
    assert slider.get_attribute("aria-valuetext") == BAD
    slider.send_keys(END)
    play = browser.find_element("css selector", ".slides .play")
    play.send_keys(SPACE)
    assert play.text == "Pause"
    assert slider.get_attribute("value") == "0"
    wait_for(lambda: play.text == "Play")
    assert slider.get_attribute("value") == "2"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1200])
def test_page_passes_the_rules_of_axe_and_fits_the_width(tmp_path, open_page, accessibility, dark, width):
    write_page(tmp_path / "page.html", "title", sections(), [notice(BAD), notice(BAD, bad=True)], live=True)
    browser = open_page(tmp_path / "page.html", width, dark)
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert accessibility() == {}
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_switch_of_colours_changes_the_page_and_is_remembered(tmp_path, open_page):
    write_page(tmp_path / "page.html", "t", sections())
    browser = open_page(tmp_path / "page.html")
    light = background(browser)
    browser.find_element("css selector", "select.theme").send_keys("dark")
    dark = background(browser)
    assert dark != light
    browser = open_page(tmp_path / "page.html")
    assert background(browser) == dark
    browser.execute_script("localStorage.clear()")


def background(browser):
    return browser.find_element("tag name", "body").value_of_css_property("background-color")


def coloured(browser, selector):
    """How many pixels of a canvas are neither clear nor grey."""
    return browser.execute_script(
        """const canvas = document.querySelector(arguments[0]);
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let found = 0;
        for (let i = 0; i < pixels.length; i += 4) {
          const [r, g, b, a] = pixels.slice(i, i + 4);
          if (a > 128 && Math.max(r, g, b) - Math.min(r, g, b) > 60) found++;
        }
        return found;""",
        selector,
    )


def lowest_row_in_the_middle(browser):
    """The lowest row, from the top, of what a chart's canvas has in colour between .45 and .55 of its width."""
    return browser.execute_script(
        """const canvas = document.querySelector(".chart canvas"), width = canvas.width;
        const pixels = canvas.getContext("2d").getImageData(0, 0, width, canvas.height).data;
        let lowest = 0;
        for (let i = 0; i < pixels.length; i += 4) {
          const [r, g, b, a] = pixels.slice(i, i + 4), share = (i / 4 % width) / width;
          if (share > 0.45 && share < 0.55 && a > 128 && Math.max(r, g, b) - Math.min(r, g, b) > 60) {
            lowest = Math.floor(i / 4 / width);
          }
        }
        return lowest;"""
    )


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
