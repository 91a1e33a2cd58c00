"""`ganframe lipschitz`: discriminators whose slopes are known by hand, and what it writes into a run folder."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import ganframe
from ganframe.analysis import lipschitz
from ganframe.analysis.bounds import COVERS, Bound, certified_bound
from ganframe.analysis.lipschitz import LipschitzReport, compare, effective_weights, examine, short_names
from ganframe.errors import RequestError

LINEAR = {"head.linear.weight": torch.tensor([[3.0, 4.0]]), "head.linear.bias": torch.tensor([1.0])}
DISCRIMINATORS = """
import attrs, os, torch
from torch import nn
from torch.utils.data import TensorDataset
from ganframe import DataSpec, Dataset, Discriminator, hookimpl, option

class Network(nn.Module):
    def __init__(self, score):
        super().__init__()
        self.score, self.gain = score, nn.Parameter(torch.ones(()))

    def forward(self, x, y):
        return self.score(x, y) * self.gain.detach() + 0 * self.gain

def quadratic(x, y):
    return x.square().sum(1) / 2

def labelled(x, y):
    return 2 * x[:, 0] + 1000.0 * y

def steeper_by_label(x, y):
    return x[:, 0] * (1.0 + y)

@attrs.frozen
class Scored(Discriminator):
    '''A discriminator of one formula.'''
    score: str = option(help="which")

    def build(self, data):
        return Network(globals()[self.score])

@attrs.frozen
class Few(Dataset):
    '''Five points.'''
    spec = DataSpec((2,), classes=2)

    def build(self):
        if "GONE" in os.environ:
            raise {"ValueError": ValueError, "OSError": OSError}[os.environ["GONE"]]("no such data")
        return TensorDataset(torch.arange(10.0).view(5, 2), torch.tensor([0, 1, 0, 1, 1]))

@hookimpl
def ganframe_discriminators():
    return {"scored": Scored}

@hookimpl
def ganframe_datasets():
    return {"few": Few}
"""


@pytest.fixture(autouse=True)
def nothing_beside_the_runs(call, tmp_path, monkeypatch):
    """Checks that no file is written beside the run folders."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The runs trained so far, by their overrides: each is trained once, then copied."""
    return tmp_path_factory.mktemp("kept"), {}


@pytest.fixture
def trained(tiny, tmp_path, kept):
    """trained(name, *overrides, more=""): the folder of a run of six steps."""
    home, runs = kept

    def run(name, *overrides, more=""):
        if (overrides, more) not in runs:
            # Many of these discriminators heed labels, for which their bounds must hold, beside a plain generator.
            recipe = ganframe.load_recipe(tiny(more), [*overrides, "train.one_sided_labels=true"])
            runs[overrides, more] = ganframe.run(recipe, out=home / str(len(runs))).folder
        return shutil.copytree(runs[overrides, more], tmp_path / "runs" / name)

    return run


@pytest.fixture
def linear(trained):
    """A run on the ring whose discriminator is D(x) = 3 x₁ + 4 x₂ + 1."""
    return with_weights(trained("linear", "discriminator.hidden=[]"), "discriminator", LINEAR)


@pytest.fixture
def scored(install, trained):
    """scored(formula, *overrides): a run whose D is one of the formulas above, and whose fakes are all (0, 3)."""
    install("steep-discriminators", DISCRIMINATORS)

    def run(formula, *overrides):
        folder = trained(formula, f'discriminator={{use="scored", score="{formula}"}}', *overrides)
        constant = {"last.weight": torch.zeros(2, 8), "last.bias": torch.tensor([0.0, 3.0])}
        return with_weights(folder, "generator", constant)

    return run


def newest(folder):
    return sorted((Path(folder) / "checkpoints").iterdir())[-1]


def with_weights(folder, network, changed):
    """The run, with other weights in its newest checkpoint."""
    file = newest(folder) / f"{network}.safetensors"
    tensors = load_file(file)
    assert changed.keys() <= tensors.keys()
    save_file({**tensors, **changed}, file)
    return folder


def edited(folder, old, new):
    file = folder / "recipe.toml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    return folder


def strict_json(file):
    def refuse(token):
        raise AssertionError(f"{token} is no JSON")

    return json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture
def refused(call):
    """refused(*arguments): the one line that a wrong request of `ganframe lipschitz` is answered with."""

    def run(*arguments):
        message = call("lipschitz", *arguments, code=2).stderr.strip()
        assert len(message.splitlines()) == 1
        return message

    return run


def row(output, heading):
    """The cells of a row of the printed table."""
    (line,) = (line for line in output.splitlines() if line.strip().startswith(heading))
    return line.strip().removeprefix(heading).split()


# ----------------------------------------------------------------------------------------------------- known by hand


def test_examine_linear_discriminator(linear):
    found = examine(linear, samples=40)
    assert (found.run, found.step) == (linear, 6)
    for where in ("real", "fake", "between"):
        assert found.gradient_norms[where].tolist() == pytest.approx([5.0] * 40)
        assert found.quantiles(where) == pytest.approx(dict.fromkeys((0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0), 5.0))
    assert found.largest_slope == pytest.approx(5.0, rel=1e-3)
    assert found.largest_slope <= 5 + 1e-6
    assert found.upper_bound == pytest.approx(5.0, rel=1e-12)
    assert found.no_bound is None
    assert [(layer.module, layer.function, round(layer.norm, 4)) for layer in found.bound.layers] == [
        ("head.linear", "linear", 5.0)
    ]
    assert sorted(found.weights.tolist()) == [1.0, 3.0, 4.0]
    assert found.at_the_edge == pytest.approx(1 / 3)


def test_lipschitz_command_output_and_report(call, linear):
    result = call("lipschitz", linear, "-n", 40)
    for heading in ("gradient norm, real: median", "gradient norm, fake: median", "gradient norm, between: median"):
        assert row(result.output, heading) == ["5"]
    assert row(result.output, "certified upper bound") == ["5"]
    assert row(result.output, "largest weight") == ["4"]
    assert row(result.output, "weights within 1 % of it") == ["33.3%"]
    assert "no upper bound" not in result.output
    report = strict_json(linear / "lipschitz.json")
    quantiles = dict.fromkeys(("0%", "5%", "25%", "50%", "75%", "95%", "100%"), pytest.approx(5.0))
    assert report["gradient_norm"] == dict.fromkeys(("real", "fake", "between"), quantiles)
    assert (report["step"], report["samples"], report["no_bound"]) == (6, 40, None)
    assert report["upper_bound"] == pytest.approx(5.0, rel=1e-5)
    assert report["largest_slope"] == pytest.approx(5.0, rel=1e-3)
    assert (report["largest_weight"], report["weights_at_the_edge"]) == (4.0, pytest.approx(1 / 3))
    (layer,) = report["layers"]
    assert layer.pop("norm") == pytest.approx(5.0, rel=1e-14)
    assert layer == {"module": "head.linear", "function": "linear", "how": "singular values"}
    assert report["covers"] == COVERS
    assert "the upper bound holds for every x" in result.output
    assert Image.open(linear / "lipschitz.png").size[0] > 300


def test_points_are_real_fake_and_between(scored):
    """‖∇D(x)‖ = ‖x‖ of D = ‖x‖²/2: 1 on the ring, 3 where the generator puts all of its fakes, and between."""
    found = examine(scored("quadratic"), samples=300)
    real, fake, between = (found.gradient_norms[where] for where in ("real", "fake", "between"))
    assert (real - 1).abs().max() < 0.06
    assert fake.tolist() == pytest.approx([3.0] * 300)
    assert between.max() <= 3
    assert between.min() < 1.2
    assert between.max() > 2.8
    # ε is uniform: a point is at ε (cos, sin) + (1 - ε)(0, 3), whose squared length has the mean ε² + (3 - 3ε)².
    assert between.square().mean().item() == pytest.approx((1 + 9) / 3, rel=0.1)
    # |‖x‖² - ‖x'‖²| / 2 ‖x - x'‖ is at most half of ‖x‖ + ‖x'‖, and reaches it along a ray.
    assert 2.5 < found.largest_slope <= 3


def test_unknown_bound_is_reported_with_its_reason(call, scored):
    folder = scored("quadratic")
    result = call("lipschitz", folder, "-n", 20)
    assert row(result.output, "certified upper bound") == ["unknown"]
    lines = result.stdout.partition(f"{folder}: no upper bound: ")[2]
    assert "square" in lines.partition("done: ")[0]
    report = strict_json(folder / "lipschitz.json")
    assert report["upper_bound"] is None
    assert "square" in report["no_bound"]
    assert report["layers"] == []
    assert report["largest_slope"] > 0


def test_slopes_are_between_samples_of_one_label_for_a_conditional_discriminator(scored):
    """D = 2 x₁ + 1000 y: slope 2 within a label, and hundreds between neighbours of different labels."""
    found = examine(scored("labelled"), samples=200)
    assert found.largest_slope == pytest.approx(2.0, rel=0.01)
    assert found.upper_bound == pytest.approx(2.0, rel=1e-5)


def test_slope_and_bound_are_maxima_over_labels(scored):
    """D = (1 + y) x₁ with labels 0 to 7."""
    found = examine(scored("steeper_by_label"), samples=300)
    assert found.upper_bound == pytest.approx(8.0, rel=1e-5)
    assert found.largest_slope == pytest.approx(8.0, rel=0.05)
    assert set(found.gradient_norms["real"].tolist()) == {float(i) for i in range(1, 9)}
    assert torch.equal(found.gradient_norms["real"], found.gradient_norms["fake"])  # the same labels
    assert torch.equal(found.gradient_norms["real"], found.gradient_norms["between"])


def test_largest_slope_is_over_all_pairs_for_an_unconditional_discriminator(trained, monkeypatch):
    """Most neighbours on the ring have different labels, and their pairs count too."""
    seen, original = [], lipschitz._largest_slope
    monkeypatch.setattr(lipschitz, "_largest_slope", lambda *given: seen.append(given) or original(*given))
    found = examine(trained("run", "discriminator.hidden=[8,8]"), samples=7)
    ((D, points, y),) = seen
    assert len(points) == len(y) == 21
    assert len(set(y.tolist())) > 1
    assert y.view(3, 7).unique(dim=0).shape == (1, 7)  # a fake and the point between have the label of the real sample
    scores, apart = D(points, y), torch.cdist(points, points)
    slopes = ((scores[:, None] - scores).abs() / apart)[~torch.eye(21, dtype=torch.bool)]
    assert found.largest_slope == pytest.approx(slopes.max().item(), rel=1e-9)


def test_fakes_come_from_the_moving_average_where_the_run_has_one(scored):
    folder = scored("quadratic", "train.ema=0.5")
    average = {"module.last.weight": torch.zeros(2, 8), "module.last.bias": torch.tensor([7.0, 0.0])}
    with_weights(folder, "average", average)
    assert examine(folder, samples=20).gradient_norms["fake"].tolist() == pytest.approx([7.0] * 20)


def test_newest_checkpoint_is_examined(trained):
    folder = trained("several", "discriminator.hidden=[]", "log.checkpoint_every=2", "log.keep=2")
    assert len(list((folder / "checkpoints").iterdir())) == 2
    with_weights(folder, "discriminator", LINEAR)
    found = examine(folder, samples=10)
    assert (found.step, round(found.upper_bound, 3)) == (6, 5.0)
    shutil.rmtree(newest(folder))
    found = examine(folder, samples=10)
    assert found.step == 4
    assert found.upper_bound != pytest.approx(5.0, rel=0.01)


# ------------------------------------------------------------------------------------------------- under constraints


CLIPPED = """
[[constraints]]
use = "weight_clipping"
limit = 0.05
"""
NORMALISED = """
[[constraints]]
use = "spectral_norm"
power_iterations = 10
"""


def test_clipped_weights_are_at_the_edge(trained):
    clipped = examine(trained("clipped", "discriminator.hidden=[16,16]", more=CLIPPED), samples=20)
    free = examine(trained("free", "discriminator.hidden=[16,16]"), samples=20)
    assert clipped.weights.abs().max().item() == pytest.approx(0.05, rel=1e-6)
    assert clipped.at_the_edge > 0.5
    assert free.at_the_edge < 0.1
    assert clipped.weights.numel() == free.weights.numel() == 2 * 16 + 16 + 16 * 16 + 16 + 16 + 1
    assert clipped.upper_bound < free.upper_bound


def test_spectrally_normalised_weights_are_the_effective_ones(trained):
    folder = trained("normalised", "discriminator.hidden=[16,16]", more=NORMALISED)
    found = examine(folder, samples=20)
    norms = [layer.norm for layer in found.bound.layers if layer.function == "linear"]
    assert norms == pytest.approx([1.0] * 3, rel=0.02)
    assert found.upper_bound == pytest.approx(math.prod(norms), rel=1e-4)
    assert found.largest_slope <= found.upper_bound
    file = newest(folder) / "discriminator.safetensors"
    raw = {name: 100 * t for name, t in load_file(file).items() if name.endswith("weight.original")}
    assert len(raw) == 3
    scaled = examine(with_weights(folder, "discriminator", raw), samples=20)
    torch.testing.assert_close(scaled.weights, found.weights, rtol=1e-5, atol=1e-7)
    assert scaled.weights.numel() == 2 * 16 + 16 + 16 * 16 + 16 + 16 + 1
    assert scaled.upper_bound == pytest.approx(found.upper_bound, rel=1e-5)


def test_effective_weights_are_unique():
    from torch import nn
    from torch.nn.utils import parametrizations

    inner = parametrizations.spectral_norm(nn.Linear(3, 2), n_power_iterations=20)
    network = nn.ModuleDict({"a": nn.Sequential(inner, nn.Linear(2, 2)), "again": inner}).eval()
    sizes = sorted(tuple(weight.shape) for weight in effective_weights(network))
    assert sizes == [(2,), (2,), (2, 2), (2, 3)]
    (matrix,) = (weight for weight in effective_weights(network) if weight.shape == (2, 3))
    assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    "overrides",
    [
        ["discriminator.norm=batch"],
        ["discriminator.norm=layer", "discriminator.dropout=0.5"],
        ["discriminator.condition=projection"],
        ["discriminator.condition=concat", "train.precision=bf16", "train.ema=0.9"],
        ["generator.batch_norm=true", "generator.condition=batch_norm"],
    ],
)
def test_slopes_do_not_exceed_the_upper_bound(trained, overrides):
    found = examine(trained("run", "discriminator.hidden=[8,8]", *overrides), samples=100)
    steepest = max(found.largest_slope, *(norms.max().item() for norms in found.gradient_norms.values()))
    assert 0 < steepest <= found.upper_bound * (1 + 1e-5)


def test_examine_image_discriminator(trained, tmp_path):
    folder = trained(
        "digits",
        "dataset.use=digits",
        "generator={use='dcgan', width=4}",
        "discriminator={use='dcgan', width=4, norm='none', condition='projection'}",
        "train.steps=2",
    )
    found = examine(folder, samples=30)
    assert 0 < found.largest_slope <= found.upper_bound
    assert [layer.function for layer in found.bound.layers][:2] == ["conv2d", "leaky_relu"]


# ------------------------------------------------------------------------------------------------------- several runs


def test_several_runs_write_a_report_each_and_one_picture(call, linear, trained):
    other = trained("other/seven", "discriminator.hidden=[4]")
    result = call("lipschitz", linear, other, "-n", 20)
    assert result.stdout.splitlines()[0].split() == ["linear", "other/seven"]
    named = [(str(folder), "examining the discriminator of step 6 at 60 points, on cpu") for folder in (linear, other)]
    assert [tuple(line.split(": ")) for line in result.stderr.splitlines()] == named
    assert row(result.output, "certified upper bound")[0] == "5"
    reports = [strict_json(folder / "lipschitz.json") for folder in (linear, other)]
    assert float(row(result.output, "certified upper bound")[1]) == pytest.approx(reports[1]["upper_bound"], rel=1e-3)
    assert len(reports[1]["layers"]) == 3
    assert (linear / "lipschitz.png").is_file()
    assert not (other / "lipschitz.png").exists()


def test_compare_keeps_order_and_equals_examining_each_run(linear, trained):
    other = trained("other", "discriminator.hidden=[4]")
    together = compare([other, linear], samples=20)
    assert [one.run for one in together] == [other, linear]
    for one in together:
        alone = examine(one.run, samples=20)
        assert alone.largest_slope == one.largest_slope
        assert alone.upper_bound == one.upper_bound
        assert all(torch.equal(alone.gradient_norms[where], norms) for where, norms in one.gradient_norms.items())


def test_table_of_many_runs_stays_within_100_columns(call, linear):
    """There a row is a paragraph, with the cells below each other."""
    output = call("lipschitz", *[linear] * 12, "-n", 5).stdout
    table = output.partition("done: ")[0].splitlines()
    assert max(map(len, table)) <= 100
    assert [line.strip() for line in table].count("weights within 1 % of it") == 1
    assert output.count(": 33.3%") == 12


def test_run_compared_with_itself(call, linear):
    result = call("lipschitz", linear, linear, "-n", 5)
    assert row(result.output, "certified upper bound") == ["5", "5"]


def test_short_names_omit_the_common_prefix(tmp_path, monkeypatch):
    def names(*paths):
        return short_names([of(Path(path)) for path in paths])

    def of(run):
        return LipschitzReport(run, 1, {}, 0.0, None, None, torch.ones(1))

    assert names("/a/runs/wgan/1", "/a/runs/wgan/2") == ["1", "2"]
    assert names("/a/runs/wgan/1", "/a/runs/gp/1") == ["wgan/1", "gp/1"]
    assert names("/a/runs/wgan/1", "/a/runs/gp/1", "/a/runs/gp/2") == ["wgan/1", "gp/1", "gp/2"]
    assert names("/a/runs/wgan/1") == ["wgan/1"]
    assert names("/a/runs/wgan/1", "/a/runs/wgan/1") == ["wgan/1", "wgan/1"]
    monkeypatch.chdir(tmp_path)
    assert names("x", tmp_path / "y") == ["x", "y"]  # relative beside absolute
    assert len(set(names("/a/runs", "/a/runs/1"))) == 2  # a run within another's folder


# ------------------------------------------------------------------------------------------------------------ requests


def test_missing_run_and_missing_checkpoint_are_refused(refused, linear, trained, tmp_path):
    other = trained("other")
    shutil.rmtree(other / "checkpoints")
    for folder, told in ((tmp_path / "nowhere", "not the folder of a run"), (other, "no checkpoint")):
        message = refused(linear, folder)
        assert str(folder) in message
        assert told in message
    assert not (linear / "lipschitz.json").exists()  # nothing is written of the first where the second is missing
    (other / "checkpoints").mkdir()
    assert "no checkpoint" in refused(other)
    with pytest.raises(RequestError, match="no checkpoint"):
        examine(other)


def test_weights_of_another_network_and_missing_weights_are_refused(refused, linear):
    file = newest(linear) / "discriminator.safetensors"
    save_file({"head.linear.weight": torch.ones(1, 3), "head.linear.bias": torch.ones(1)}, file)
    assert str(file) in refused(linear)
    file.unlink()
    assert str(file) in refused(linear)


def test_fewer_than_two_samples_and_no_runs_are_refused(call, linear):
    assert "-n" in call("lipschitz", linear, "-n", 1, code=2).stderr
    assert "RUN" in call("lipschitz", code=2).stderr
    call("lipschitz", linear, "-n", 2)


def test_small_dataset_gives_each_sample_once(scored):
    folder = scored("quadratic", "dataset.use=few", "train.batch_size=4")
    found = examine(folder, samples=23)
    norms = torch.arange(10.0).view(5, 2).double().norm(dim=1)
    assert sorted(found.gradient_norms["real"].tolist()) == pytest.approx(sorted(norms.tolist()))
    assert {len(norms) for norms in found.gradient_norms.values()} == {5}
    assert 0 < found.largest_slope < norms.max()


def test_fewer_samples_than_a_batch(linear):
    assert len(examine(linear, samples=3).gradient_norms["real"]) == 3


@pytest.mark.parametrize("error", ["ValueError", "OSError"])
def test_missing_dataset_is_reported_in_one_line(refused, scored, monkeypatch, error):
    folder = scored("quadratic", "dataset.use=few", "train.batch_size=4")
    monkeypatch.setenv("GONE", error)
    assert refused(folder) == f"{folder}: its dataset is needed: no such data"
    assert not (folder / "lipschitz.json").exists()


# ----------------------------------------------------------------------------------------------------- the run folder


def snapshot(folder):
    """The content and time of every file except those that the command writes."""
    files = (file for file in Path(folder).rglob("*") if file.is_file())
    return {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in files if not f.name.startswith("lipschitz.")}


def test_examining_twice_gives_equal_files_and_changes_no_other(call, trained):
    folder = trained("run", "discriminator.condition=projection", "generator.batch_norm=true")
    before = snapshot(folder)
    first = call("lipschitz", folder, "-n", 30)
    report, picture = ((folder / f"lipschitz.{kind}").read_bytes() for kind in ("json", "png"))
    torch.randn(100)
    second = call("lipschitz", folder, "-n", 30)
    assert (folder / "lipschitz.json").read_bytes() == report
    assert (folder / "lipschitz.png").read_bytes() == picture
    assert first.output == second.output
    assert snapshot(folder) == before
    assert [p.name for p in sorted(folder.iterdir()) if p.name.startswith((".", "lipschitz"))] == [
        ".lock",
        "lipschitz.json",
        "lipschitz.png",
    ]


def test_resume_after_examine_is_exact(call, trained):
    folder = trained("run", "train.steps=4")
    call("lipschitz", folder, "-n", 10)
    edited(folder, "steps = 4", "steps = 6")
    call("run", "--resume", folder)
    uninterrupted = trained("uninterrupted", "train.steps=6")
    ours, theirs = (load_file(newest(f) / "discriminator.safetensors") for f in (folder, uninterrupted))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_trackers_of_the_run_need_not_be_installed(call, linear):
    edited(linear, "trackers = []", 'trackers = ["a-tracker-of-the-cluster"]')
    call("lipschitz", linear, "-n", 5)


def test_half_precision_run_is_examined_on_the_cpu(call, linear):
    edited(linear, 'precision = "no"', 'precision = "fp16"')
    result = call("lipschitz", linear, "-n", 5)
    assert row(result.output, "certified upper bound") == ["5"]


def test_examine_restores_torch_random_state(linear):
    before = torch.get_rng_state()
    examine(linear, samples=5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_diverged_discriminator_is_reported_with_null(call, linear, value):
    """JSON has no NaN and no infinity."""
    with_weights(linear, "discriminator", {"head.linear.weight": torch.tensor([[3.0, value]])})
    output = call("lipschitz", linear, "-n", 20).output
    report = strict_json(linear / "lipschitz.json")
    assert report["upper_bound"] is None
    assert report["largest_slope"] is None
    assert row(output, "certified upper bound") == ["unknown"]
    assert row(output, "largest slope of a pair") == ["nan"]


def test_share_at_the_edge_is_within_one_percent_of_either_sign():
    def share(*weights):
        steepness = LipschitzReport(Path(), 1, {}, 0.0, None, None, torch.tensor(weights, dtype=torch.float64))
        return steepness.at_the_edge

    assert share(1.0, -1.0, 0.5, 0.0) == 0.5
    assert share(-2.0, 1.99, 1.97, 0.0) == 0.5
    assert share(0.3) == 1.0


def test_bound_below_a_found_slope_is_discarded(linear, monkeypatch):
    """A found slope contradicts a bound that missed a part of the network."""
    monkeypatch.setattr(lipschitz, "certified_bound", lambda *given: Bound(0.5 * certified_bound(*given).value, []))
    found = examine(linear, samples=20)
    assert found.upper_bound is None
    assert found.no_bound


def test_gradient_norm_is_over_all_pixels():
    D = ganframe.component("discriminator", "mlp")(hidden=()).build(ganframe.DataSpec((2, 3, 3))).double()
    x, y = torch.randn(5, 2, 3, 3, dtype=torch.float64), torch.zeros(5).long()
    expected = D.head.linear.weight.norm().detach().expand(5)
    torch.testing.assert_close(lipschitz._gradient_norms(D, x, y), expected)
