"""The page of a run: of whole runs and half ones, what it shows, and that it works in a browser."""

import json
import math
import re
import shutil
import time
import tomllib

import pytest
import torch
from PIL import Image

import ganframe
from ganframe.analysis.publish import publish
from ganframe.components import DataSpec
from ganframe.plugins.registry import load
from ganframe.report.page import POINTS, data_uri
from ganframe.report.page_of_recipe import rows_of
from ganframe.report.page_of_run import write_run_page
from ganframe.report.page_of_samples import BYTES, evenly, samples
from ganframe.storage.evaluations import read_evaluations
from ganframe.storage.log import read_log
from ganframe.storage.points import Points, save_points
from ganframe.storage.run_folder import RunFolder

HOME, SPACE = "\ue011", "\ue00d"  # keys, by their codes in WebDriver
BAD = "</script><script>document.title='run'</script><img src=x onerror=document.title='run'>"
LARGEST = 3_000_000  # bytes of a page
RECIPE = """
seed = 1
[dataset]
use = "{dataset}"
[latent]
dim = 2
[generator]
use = "mlp"
hidden = [16]
[discriminator]
use = "mlp"
hidden = [16]
[objective]
use = "{objective}"
[optimizer.generator]
use = "Adam"
lr = 1e-3
schedule = {{ use = "LinearLR", start_factor = 1.0, end_factor = 0.0, total_iters = 40 }}
[train]
steps = 40
batch_size = 16
[log]
every = 2
samples_every = 10
{more}
"""
KINDS = {
    "images": {"dataset": "digits", "objective": "wgan", "more": '[[constraints]]\nuse = "spectral_norm"'},
    "plane": {
        "dataset": "ring",
        "objective": "vanilla",
        "more": '[[metrics]]\nuse = "modes"\nevery = 10\nsamples = 99',
    },
    "line": {"dataset": "gaussian_1d", "objective": "vanilla", "more": ""},
    "failed": {"dataset": "ring", "objective": "wgan", "more": ""},
}
FAILING = ["optimizer.generator={use='SGD', lr=1.0, schedule={use='ExponentialLR', gamma=20.0}}", "log.samples_every=1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders by kind, with pages. Tests must not change them."""
    found = {}
    for kind, fields in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        (folder / "recipe.toml").write_text(RECIPE.format(**fields))
        recipe = ganframe.load_recipe(folder / "recipe.toml", FAILING if kind == "failed" else [])
        if kind == "failed":
            with pytest.raises(ganframe.RunError):
                ganframe.run(recipe, folder / "run")
        else:
            ganframe.run(recipe, folder / "run")
        found[kind] = RunFolder(folder / "run")
        write_run_page(found[kind])
    return found


@pytest.fixture
def translated(conditional, tmp_path):
    """A run under images as conditions."""
    folder = RunFolder(ganframe.run(ganframe.load_recipe(conditional()), tmp_path / "run").folder)
    write_run_page(folder)
    return folder


@pytest.fixture
def half(runs, tmp_path):
    """A copy of a run on the plane, to take things from."""
    shutil.copytree(runs["plane"].path, tmp_path / "half")
    return RunFolder(tmp_path / "half")


def text_of(folder, **options):
    return write_run_page(folder, **options).read_text(encoding="utf-8")


def data_of(text):
    """What the script of a page draws."""
    return [json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', text)]


def titles(text):
    return re.findall(r"<h3>(.*?)</h3>", text)


# -------------------------------------------------------------------------------------------------------- what it shows


def test_page_has_a_chart_of_each_group_of_the_log_and_of_each_number_of_a_metric(runs):
    common = ["Losses", "Scores of the discriminator", "Gradient norms", "Learning rates"]
    assert titles(text_of(runs["images"])) == common
    assert titles(text_of(runs["plane"])) == [*common, "modes", "modes: high_quality", "modes: kl"]


def test_curves_are_the_values_of_the_log(runs):
    (losses,) = [found for found in data_of(text_of(runs["plane"])) if found.get("title") == "Losses"]
    records = read_log(runs["plane"])
    assert losses["x"] == [record["step"] for record in records]
    named = {line["name"]: line["y"] for line in losses["series"]}
    assert named["generator"] == [record["loss_generator"] for record in records]


def test_scores_have_their_protocol(runs):
    (modes,) = [found for found in data_of(text_of(runs["plane"])) if found.get("title") == "modes"]
    assert modes["x"] == [10, 20, 30, 40]
    assert set(modes["series"][0]["notes"]) == {"builtin:modes with sigmas 3.0; 99 generated samples"}


def test_table_of_the_newest_scores_has_the_last_step(runs):
    text = text_of(runs["plane"])
    rows = text[text.rindex("The newest scores") :].partition("</table>")[0].split("<tr>")
    (row,) = [row for row in rows if ">modes</th>" in row]
    last = read_evaluations(runs["plane"])[-1]
    assert "<td>40</td>" in row
    assert f"<td>{last['modes']:.5g}</td>" in row


def test_learning_rates_fall_as_the_schedule_says(runs):
    """LinearLR from 1e-3 to 0 in 40 steps: step s, counted from 1, is taken at 1e-3 · (1 - (s - 1) / 40)."""
    (rates,) = [found for found in data_of(text_of(runs["plane"])) if found.get("title") == "Learning rates"]
    named = {line["name"]: line["y"] for line in rates["series"]}
    assert named["generator"] == pytest.approx([1e-3 * (1 - (step - 1) / 40) for step in rates["x"]])


def test_many_lines_are_thinned_and_values_that_are_not_finite_are_gaps(half):
    with half.log.open("w") as log:
        for step in range(1, 6001):
            value = None if 2000 < step < 2500 else math.sin(step / 500)
            log.write(json.dumps({"step": step, "loss_generator": value, "seconds": step / 100}) + "\n")
    (losses,) = [found for found in data_of(text_of(half)) if found.get("title") == "Losses"]
    (line,) = losses["series"]
    assert len(losses["x"]) == len(line["y"]) <= POINTS
    assert "gap" in line["y"]
    assert max(v for v in line["y"] if v != "gap") == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["plane", "line"])
def test_page_says_under_which_label_or_condition_the_score_is(runs, kind):
    """D is asked under the first class alone, and the samples are of all."""
    shape = (2,) if kind == "plane" else (1,)
    what = "score and grid are" if kind == "plane" else "D(x) is"
    told = {
        DataSpec(shape, 3): f"where the players heed them, {what} of class 0 alone.",
        DataSpec(shape, 2, class_names=("<a>", "b")): f"{what} of class &lt;a&gt; alone.",
        DataSpec(shape, condition=(4,)): f"{what} under one alone, which for the score is y = 0.",
    }
    for spec, text in told.items():
        assert text in samples(runs[kind], spec)
    assert "alone" not in samples(runs[kind], DataSpec(shape))
    assert "alone" not in samples(runs[kind], None)


def test_values_that_some_lines_lack_do_not_cut_a_curve(half):
    records = [{"step": 1, "term_a": 1.0}, {"step": 2}, {"step": 3, "term_a": 2.0}]
    half.log.write_text("".join(json.dumps({**record, "seconds": 1}) + "\n" for record in records))
    (terms,) = [found for found in data_of(text_of(half)) if found.get("title") == "Terms"]
    assert terms["series"] == [{"name": "a", "y": [1.0, None, 2.0]}]


def test_failed_run_says_why(runs):
    text = text_of(runs["failed"])
    assert re.search(r'class="notice bad"><strong>Failed: </strong>step \d+: ', text)
    assert "Failed: step" in text
    assert "ganframe sample" not in text  # it has no generator yet


def test_run_that_was_interrupted_and_resumed_says_where(tiny, tmp_path):
    def stop(state):
        if state.step == 3:
            raise KeyboardInterrupt

    recipe = ganframe.load_recipe(tiny("[log]\nevery = 1\ncheckpoint_every = 2\n"))
    with pytest.raises(KeyboardInterrupt):
        ganframe.run(recipe, tmp_path / "run", callbacks=[stop])
    folder = RunFolder(tmp_path / "run")
    assert "Stopped: step 3 of 6" in text_of(folder)
    ganframe.resume(tmp_path / "run")
    text = text_of(folder)
    assert "Finished: step 6 of 6" in text
    assert "The run was resumed at step 2." in text
    (losses,) = [found for found in data_of(text) if found.get("title") == "Losses"]
    assert losses["x"] == [1, 2, 3, 4, 5, 6]


def test_running_page_loads_itself_again_and_a_finished_one_does_not(half):
    assert "Load again every" in text_of(half, running=True)
    assert "Running: step 40 of 40" in text_of(half, running=True)
    assert "Load again every" not in text_of(half)


def test_commands_quote_the_folder(runs, tmp_path):
    shutil.copytree(runs["plane"].path, tmp_path / "a b")
    text = text_of(RunFolder(tmp_path / "a b"))
    assert f"ganframe run --resume &#x27;{tmp_path}/a b&#x27; --set train.steps=80" in text


def test_published_model_has_a_page_of_its_own(runs, tmp_path):
    """With its step, picture and scores, and how to load it; without what only a run has."""
    publish(runs["plane"].path, tmp_path / "model", "mit")
    text = text_of(RunFolder(tmp_path / "model"))
    assert "<title>Model recipe</title>" in text
    assert "<p>A published model, of step 40.</p>" in text
    assert "<p>Licence: mit.</p>" in text
    assert "Stopped" not in text
    headings = re.findall("<h2[^>]*>(.*?)</h2>", text)
    assert headings == ["Samples", "Scores", "Recipe", "Environment", "How to load"]
    assert data_uri((tmp_path / "model" / "samples.png").read_bytes()) in text
    assert "--resume" not in text
    assert f"ganframe sample {tmp_path / 'model'} -n 64" in text
    assert "ganframe.load_generator(" in text


def test_page_of_a_published_model_shows_what_is_there(runs, tmp_path):
    publish(runs["plane"].path, tmp_path / "model")
    for name in ("samples.png", "environment.json", "evaluations.jsonl", "generator.safetensors"):
        (tmp_path / "model" / name).unlink()
    text = text_of(RunFolder(tmp_path / "model"))
    assert "<p>A published model.</p>" in text
    assert "There are no samples." in text
    assert "ganframe sample" not in text


def test_recipe_marks_what_differs_from_the_defaults(runs):
    rows = {row.place: row for row in rows_of(tomllib.loads(runs["plane"].recipe.read_text()), load())}
    differ = {place for place, row in rows.items() if row.differs}
    assert {"generator.hidden", "train.batch_size", "latent.dim", "seed", "log.every", "metrics[0].every"} <= differ
    assert not differ & {"generator.activation", "train.critic_steps", "dataset.modes", "optimizer.generator.eps"}
    assert rows["generator.hidden"].texts == ("generator.hidden", "[16]", "[128, 128]")


def test_recipe_of_a_plugin_that_is_not_installed_is_shown_without_its_defaults():
    rows = {row.place: row for row in rows_of({"dataset": {"use": "absent:data", "size": 3}}, load())}
    assert rows["dataset.size"].texts == ("dataset.size", "3", "not known")
    assert not rows["dataset.size"].differs


# ------------------------------------------------------------------------------------------------------- half of a run


@pytest.mark.parametrize("missing", ["recipe.toml", "environment.json", "log.jsonl", "evaluations.jsonl", "samples"])
def test_page_shows_what_is_there(half, missing):
    path = half.path / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = text_of(half)
    assert ("Losses" in titles(text)) == (missing != "log.jsonl")
    assert ('class="player' in text) == (missing != "samples")
    assert ("What differs" in text) == (missing != "recipe.toml")


def test_damaged_files_are_left_out_and_named(half):
    half.recipe.write_text("name = [")
    half.log.write_bytes(b"\x00\n" + half.log.read_bytes())
    half.environment.write_text("{")
    (half.path / "samples" / "step-000010.safetensors").write_bytes(b"")
    text = text_of(half)
    assert "recipe.toml cannot be read" in text
    assert "log.jsonl: line 1 is damaged" in text
    (scene,) = [found for found in data_of(text) if "frames" in found]
    assert scene["labels"] == ["step 20", "step 30", "step 40"]


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ganframe.RequestError, match="not the folder of a run"):
        write_run_page(RunFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_run_that_has_only_begun_has_a_page(half):
    for path in half.path.iterdir():
        if path.name != "recipe.toml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "step 0 of 40" in text_of(half)


# -------------------------------------------------------------------------------------------------------------- samples


def test_pictures_of_a_page_have_bounded_bytes(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "samples").mkdir()
    for step in range(1, 31):
        pixels = torch.randint(256, (300, 300, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder.samples(step))
    folder.samples(31).write_bytes(b"no picture")
    shown = samples(folder, None)
    assert len(shown) < 1.4 * BYTES
    (data,) = data_of(shown)
    assert data["labels"][0] == "step 1"
    assert len(data["labels"]) > 3


def test_points_that_are_not_finite_are_out_of_sight(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "samples").mkdir()
    x = torch.tensor([[0.0, 0.5], [math.nan, 0.0], [math.inf, -math.inf]])
    scores = torch.tensor([[0.0, 1.0], [math.nan, math.inf]])
    save_points(folder.points(1), Points(x, x[:1], torch.tensor([[-1.0, 1.0]] * 2), scores, pulls=x))
    (data,) = data_of(samples(folder, None))
    assert data["frames"][0]["samples"][:2] == [500, 750]
    assert all(value < 0 or value > 1000 for value in data["frames"][0]["samples"][2::2])
    assert data["frames"][0]["surface"] == [0, 255, 0, 255]


def test_arrows_have_one_scale_and_the_longest_are_cut(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "samples").mkdir()
    x, lengths = torch.zeros(101, 2), torch.arange(101.0)
    save_points(
        folder.points(1),
        Points(x, x[:1], torch.tensor([[-1.0, 1.0]] * 2), None, pulls=lengths[:, None] * x.new_tensor([0.6, 0.8])),
    )
    (data,) = data_of(samples(folder, None))
    along, across = (torch.tensor(data["frames"][0]["arrows"][i::2]) for i in (0, 1))
    found = (along.square() + across.square()).sqrt()
    torch.testing.assert_close(found, (70 * lengths / 95).clamp(max=70), atol=0.1, rtol=0)


def test_density_counts_samples_out_of_sight(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "samples").mkdir()
    x = torch.cat([torch.rand(750, 1), torch.full((250, 1), 9.0)])
    save_points(folder.points(1), Points(x, x, torch.tensor([[-1.0, 2.0]])))
    (data,) = data_of(samples(folder, None))
    width = data["x"][1] - data["x"][0]
    assert width * sum(data["series"][1]["frames"][0]) == pytest.approx(0.75, abs=1e-3)


def test_densities_have_unit_mass_and_probabilities_are_sigmoids(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "samples").mkdir()
    x = torch.rand(2000, 1)
    score = torch.linspace(-3, 3, 200)
    save_points(folder.points(1), Points(x, x / 2, torch.tensor([[-1.0, 2.0]]), score))
    (data,) = data_of(samples(folder, None))
    width = data["x"][1] - data["x"][0]
    real, fake, D = data["series"]
    assert width * sum(real["y"]) == pytest.approx(1, abs=1e-2)
    assert width * sum(fake["frames"][0]) == pytest.approx(1, abs=1e-2)
    expected = [1 / (1 + math.exp(-(-3 + 6 * (at + 1) / 3))) for at in data["x"]]
    assert D["frames"][0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("n", "most"), [(0, 3), (3, 3), (10, 3), (101, 100)])
def test_evenly_spaced_choice_keeps_the_ends(n, most):
    found = evenly(range(n), most)
    assert len(found) == min(n, most)
    assert n == 0 or (found[0], found[-1]) == (0, n - 1)


# --------------------------------------------------------------------------------------------------------- in a browser


@pytest.mark.parametrize("kind", KINDS)
def test_page_works_in_a_browser(runs, open_page, accessibility, kind):
    assert runs[kind].report.stat().st_size < LARGEST
    browser = open_page(runs[kind].report, width=390)
    check_curves(browser)
    check_slider(browser)
    check_layout(browser)
    assert accessibility() == {}
    browser = open_page(runs[kind].report, dark=True)
    check_layout(browser)
    assert accessibility() == {}


def test_page_of_a_published_model_works_in_a_browser(runs, tmp_path, open_page, accessibility):
    publish(runs["images"].path, tmp_path / "model", "mit")
    browser = open_page(write_run_page(RunFolder(tmp_path / "model")), width=390)
    check_layout(browser)
    assert accessibility() == {}


def test_page_of_a_run_under_conditions_works_in_a_browser(translated, open_page, accessibility):
    browser = open_page(translated.report)
    assert "condition y, sample G(z, y), real sample x" in browser.find_element("tag name", "main").text
    check_slider(browser)
    assert accessibility() == {}


def test_layers_of_the_plane_switch_by_keyboard(runs, open_page):
    browser = open_page(runs["plane"].report)
    boxes = browser.find_elements("css selector", ".scene .layers input")
    assert [box.is_selected() for box in boxes] == [True, True, True, False, False]
    for box in boxes:
        before = screen(browser)
        box.send_keys(SPACE)
        assert screen(browser) != before


def test_texts_of_users_stay_texts(half, open_page):
    half.recipe.write_text(f"name = {json.dumps(BAD)}\n[dataset]\nuse = {json.dumps(BAD)}\n{json.dumps(BAD)} = 1\n")
    half.environment.write_text(json.dumps({"classes": [BAD], BAD: BAD}))
    half.messages.write_text(json.dumps({"kind": "warning", "text": BAD}) + "\n")
    half.log.write_text(json.dumps({"step": 1, "loss_" + BAD: 1.0, BAD: 1.0, "seconds": 1.0}) + "\n")
    score = json.loads(half.evaluations.read_text().splitlines()[0])
    half.evaluations.write_text(json.dumps({**score, "metric": BAD, BAD: 1.0, "protocol": {BAD: BAD}}) + "\n")
    write_run_page(half)
    browser = open_page(half.report)
    assert browser.title == f"Run {BAD}"
    check_curves(browser)


def check_curves(browser):
    charts = browser.find_elements("css selector", ".chart")
    assert charts
    for chart in charts:
        browser.execute_script("arguments[0].scrollIntoView()", chart)
        wait_for(lambda chart=chart: chart.find_elements("tag name", "canvas"))
        assert chart.find_elements("css selector", ".legend button")
        assert chart.find_elements("css selector", "details table")


def check_slider(browser):
    """The slider moves what is shown, by keyboard, and the button plays."""
    slider = browser.find_element("css selector", ".player input[type=range]")
    last = screen(browser)
    slider.send_keys(HOME)
    first = screen(browser)
    assert first != last
    browser.find_element("css selector", ".player .play").send_keys(SPACE)
    wait_for(lambda: screen(browser) == last)


def screen(browser):
    """What the player shows."""
    return browser.execute_script(
        """const found = document.querySelector(".player img, .player canvas");
        return found.src || found.toDataURL();"""
    )


def check_layout(browser):
    """Nothing is wider than the page, and no text is cut."""
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    cut = browser.execute_script(
        """const texts = "h1, h2, h3, p, button, label, summary, td, th, figcaption, output, li";
        return [...document.querySelectorAll(texts)]
        .filter((e) => e.clientWidth && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 2))
        .map((e) => e.outerHTML.slice(0, 100));"""
    )
    assert cut == []


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
