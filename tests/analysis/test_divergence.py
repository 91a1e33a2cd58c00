"""`ganframe divergence`: the estimate of a discriminator trained between two fixed sides, against known values."""

from __future__ import annotations

import json
import math

import attrs
import pytest
import torch
from accelerate.state import is_initialized
from safetensors.torch import load_file
from torch.utils.data import TensorDataset

import ganframe
from ganframe import DataSpec
from ganframe.analysis import divergence
from ganframe.analysis.bounds import NoBound
from ganframe.analysis.divergence import measure
from ganframe.analysis.lipschitz import examine
from ganframe.analysis.sides import Side
from ganframe.analysis.trained import TrainedGenerator
from ganframe.components import Dataset
from ganframe.recipes.reading import load_comparison
from ganframe.recipes.tables import Prior
from ganframe.storage.log import read_log
from ganframe.storage.run_folder import RunFolder

PAIR = """
[dataset]
use = "gaussian_1d"
[against]
use = "gaussian_1d"
means = [1.0]
[discriminator]
use = "mlp"
hidden = [32, 32]
[objective]
use = "vanilla"
[optimizer.discriminator]
use = "Adam"
lr = 2e-3
schedule = { use = "CosineAnnealingLR", T_max = 600 }
[train]
steps = 600
batch_size = 512
[log]
every = 200
"""


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch):
    monkeypatch.setattr(divergence, "JUDGED_LAST", (20_000, 100_000))
    monkeypatch.setattr(divergence, "TRANSPORTED", 500)


@pytest.fixture
def pair(tmp_path):
    """pair(*overrides): the comparison of two Gaussians, with changes."""

    def load(*overrides, run=None):
        file = tmp_path / "pair.toml"
        file.write_text(PAIR)
        return load_comparison(file, overrides, run)

    return load


# ------------------------------------------------------------------------------------------------------------- measured


def test_measured_value_is_near_the_exact_one(pair, tmp_path):
    measured = measure(pair(), tmp_path / "out")
    assert measured.exact == pytest.approx(-1.1634514, abs=1e-5)
    assert abs(measured.value - measured.exact) < 0.02
    # 100,000 samples of each side, whose terms softplus(±log p/q) have deviations of .42 each.
    assert measured.error == pytest.approx(0.42 * math.sqrt(2 / 100_000), rel=0.25)
    assert measured.transport is None
    assert [record["step"] for record in measured.history] == [200, 400, 600]
    assert all(abs(record["value"] - measured.exact) < 0.1 for record in measured.history)
    report = json.loads((tmp_path / "out" / "divergence.json").read_text())
    assert report["value"] == measured.value
    logged = read_log(RunFolder(tmp_path / "out"))
    assert [{key: record[key] for key in ("step", "value", "error")} for record in logged] == measured.history
    seconds = [0, *(record["seconds"] for record in logged), measured.seconds]
    assert seconds == sorted(seconds)
    assert 0 < report["critic_error"] < 0.03
    assert all((tmp_path / "out" / f"{name}.png").stat().st_size > 5000 for name in ("convergence", "critic"))


def test_critic_error_is_the_mean_distance_from_the_optimum_as_probabilities(pair, tmp_path):
    """A discriminator of zeros says ½ everywhere: E |½ - p/(p+q)| over both sides is TV / 2."""
    clipped = "constraints=[{use='weight_clipping', limit=1e-12}]"
    measured = measure(pair("train.steps=1", "log.every=1", clipped), tmp_path / "out")
    assert measured.value == pytest.approx(-math.log(4), abs=1e-6)
    assert measured.critic_error == pytest.approx(0.3829249 / 2, abs=1e-5)


def test_saved_comparison_reproduces_the_result(pair, tmp_path):
    few = ("train.steps=20", "log.every=10")
    first = measure(pair(*few), tmp_path / "first")
    again = measure(load_comparison(tmp_path / "first" / "comparison.toml"), tmp_path / "second")
    assert (again.value, again.history) == (first.value, first.history)
    other = measure(pair(*few, "seed=1"), tmp_path / "third")
    assert other.value != first.value


@pytest.mark.slow
def test_wasserstein_estimate_is_compared_with_transport_distance(pair, tmp_path):
    """W1 of two Gaussians of one σ is the distance of their means; a spectrally normalised D stays below."""
    measured = measure(
        pair("objective.use=wgan", 'constraints=[{use="spectral_norm"}]', "against.means=[3.0]"), tmp_path / "out"
    )
    assert measured.exact == pytest.approx(3.0, abs=1e-4)
    assert measured.critic_error is None
    assert (measured.folder / "critic.png").stat().st_size > 5000
    assert measured.transport == pytest.approx(3.0, abs=0.15)
    assert 0.3 < measured.value < 3.1


def test_equal_image_datasets_have_no_divergence(pair, tmp_path):
    """Judged on held-out samples, a discriminator that memorised its training images measures no more than -log 4."""
    digits = ("dataset={use='digits'}", "against={use='digits'}", "train.batch_size=64", "train.steps=300")
    same = measure(pair(*digits), tmp_path / "same")
    assert same.value < -math.log(4) + 0.1


def test_images_and_noise_have_the_largest_divergence(tmp_path, pair, install):
    install("noise", NOISE)
    sides = ("dataset={use='digits'}", "against={use='noise'}", "train.batch_size=64", "train.steps=200")
    measured = measure(pair(*sides), tmp_path / "out")
    assert measured.value > -0.1  # 2 JSD - log 4 is 0 where the supports are disjoint
    assert measured.exact is None


NOISE = """
import attrs, torch
from torch.utils.data import Dataset as Items
from ganframe import Dataset, DataSpec, hookimpl

class Noisy(Items):
    def __len__(self):
        return 500
    def __getitem__(self, i):
        return torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(i)) * 2 - 1, 0

@attrs.frozen
class Noise(Dataset):
    spec = DataSpec((1, 8, 8))
    def build(self):
        return Noisy()

@hookimpl
def ganframe_datasets():
    return {"noise": Noise}
"""


def test_generator_of_a_run_as_a_side(pair, tiny, tmp_path):
    run = ganframe.run(ganframe.load_recipe(tiny()), out=tmp_path / "run")
    ring = ("dataset={use='ring'}", "train.steps=200")
    measured = measure(pair(*ring, run=str(run.folder)), tmp_path / "out")
    assert measured.value > -1.0  # after six steps the samples are far from a ring
    assert 'run = "' in (tmp_path / "out" / "comparison.toml").read_text()


def test_generator_side_has_the_distribution_of_its_samples(tiny, tmp_path):
    run = ganframe.run(ganframe.load_recipe(tiny(), ["latent.distribution=uniform"]), out=tmp_path / "run")
    G = ganframe.load_generator(run.folder)
    x, _ = Side(G, 0).data.draw(4000, torch.Generator().manual_seed(0))
    samples = G.sample(4000, seed=1)
    torch.testing.assert_close(x.mean(0), samples.mean(0), atol=0.05, rtol=0.05)
    torch.testing.assert_close(x.std(0), samples.std(0), atol=0.05, rtol=0.05)


class Echo(torch.nn.Module):
    def forward(self, z, y):
        return z


@pytest.mark.parametrize(("distribution", "largest"), [("uniform", 3**0.5), ("normal", 6.0)])
def test_generator_side_draws_latents_from_its_prior(distribution, largest):
    G = TrainedGenerator(Echo(), DataSpec((2,)), Prior(dim=2, distribution=distribution))
    z, _ = Side(G, 0).data.draw(50_000, torch.Generator().manual_seed(0))
    assert z.std().item() == pytest.approx(1.0, abs=0.01)
    assert z.mean().item() == pytest.approx(0.0, abs=0.02)
    assert z.abs().max() < largest
    assert (z.abs().max() > 3) == (distribution == "normal")


def test_images_of_a_generator_side_are_clipped_as_they_are_sampled():
    network = torch.nn.Module()
    network.forward = lambda z, y: 2 * z.view(-1, 1, 2, 2)
    side = Side(TrainedGenerator(network, DataSpec((1, 2, 2)), Prior(dim=4)), 0)
    x, _ = side.part(held_out=False).draw(50, torch.Generator().manual_seed(0))
    assert x.abs().max() == 1


@attrs.frozen
class Drawn(Dataset):
    """Different points each time it is built."""

    spec = DataSpec((1,))

    def build(self):
        return TensorDataset(torch.randn(50, 1), torch.zeros(50, dtype=torch.long))


def test_dataset_of_a_side_is_built_once():
    side = Side(Drawn(), seed=0)
    parts = [{item[0].item() for item in side.part(part)} for part in (True, False)]
    assert parts[0] | parts[1] == {x.item() for x in side.data.tensors[0]}


def test_measure_restores_the_state_of_torch_and_accelerate(pair, tmp_path):
    before, initialized = torch.get_rng_state(), is_initialized()
    measure(pair("train.steps=2", "log.every=1"), tmp_path / "out")
    assert torch.equal(torch.get_rng_state(), before)
    assert is_initialized() == initialized


def test_held_out_samples_are_not_trained_on():
    @attrs.frozen
    class Numbers(Dataset):
        spec = DataSpec((1,))

        def build(self):
            return TensorDataset(torch.arange(100.0)[:, None], torch.zeros(100, dtype=torch.long))

    side = Side(Numbers(), seed=3)
    held_out, trained = ({item[0].item() for item in side.part(part)} for part in (True, False))
    assert len(held_out) == 20
    assert held_out | trained == set(range(100))
    assert not held_out & trained


# ------------------------------------------------------------------------------------------------ what a value says

STEEP = (
    "objective.use=wgan",
    "against.means=[100.0]",
    "constraints=[{use='gradient_penalty'}]",
    "train.batch_size=64",
    "train.steps=150",
    "log.every=150",
)


@pytest.fixture(scope="module")
def steep(tmp_path_factory):
    """A critic under a gradient penalty between sides at a distance of 100: its slope rests at 1 + 100 / (2 · 10)."""
    folder = tmp_path_factory.mktemp("steep")
    file = folder / "pair.toml"
    file.write_text(PAIR)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(divergence, "TRANSPORTED", 200)
        patched.setattr(divergence, "JUDGED_LAST", (20_000, 20_000))
        return measure(load_comparison(file, STEEP), folder / "out")


def test_steep_critic_is_above_w1_and_says_so(steep):
    assert steep.value > 400
    assert steep.transport == pytest.approx(100, abs=1)
    assert steep.transported.slope == pytest.approx(6, rel=0.1)
    assert steep.value_per_slope == pytest.approx(steep.value / steep.transported.slope)
    assert 90 < steep.value_per_slope <= 100.5
    assert "-L_D is above W1, 100" in steep.warning
    report = json.loads((steep.folder / "divergence.json").read_text())
    assert report["slope"] == steep.transported.slope
    assert report["value_per_slope"] == steep.value_per_slope
    assert report["warning"] == steep.warning
    assert report["transport"] == steep.transport
    assert report["transport_samples"] == 200
    assert 0 < report["transport_floor"] < 0.5  # of two equal sides of 200 samples


def test_value_below_w1_has_no_warning(steep):
    assert attrs.evolve(steep, value=99.0).warning is None
    assert attrs.evolve(steep, value=100.5, error=0.5).warning is None
    assert attrs.evolve(steep, value=100.5, error=0.1).warning is not None
    assert attrs.evolve(steep, value=100.5, error=math.nan).warning is not None
    samples_alone = attrs.evolve(steep, exact=None)
    assert "W1 of the samples, " in samples_alone.warning


def test_steepness_of_a_measured_critic_is_examined(steep, call):
    result = call("lipschitz", steep.folder, "-n", 50)
    report = json.loads((steep.folder / "lipschitz.json").read_text())
    assert report["step"] == 150
    assert report["gradient_norm"]["between"]["50%"] == pytest.approx(6, rel=0.1)
    assert report["largest_slope"] >= 0.95 * steep.transported.slope
    assert report["largest_slope"] <= report["upper_bound"]
    assert "lipschitz.png" in result.stdout


def test_measured_critic_is_examined_on_held_out_samples_of_both_sides(pair, tmp_path):
    images = ("dataset={use='digits'}", "against={use='digits', size=8}", "train.batch_size=8", "train.steps=1")
    folder = measure(pair("objective.use=wgan", *images), tmp_path / "out").folder
    found = examine(folder, samples=400)
    assert [len(norms) for norms in found.gradient_norms.values()] == [359] * 3  # a fifth of 1,797
    (folder / "discriminator.safetensors").unlink()
    with pytest.raises(ganframe.RequestError, match=r"discriminator\.safetensors: cannot be loaded"):
        examine(folder)


@pytest.mark.parametrize(
    ("means", "lines"),
    [
        ("[90.0]", ["JSD                        0.69", " of at most 0.69315: fully separable"]),
        ("[0.0]", ["JSD                        0.00", " of at most 0.69315: indistinguishable by this discriminator"]),
        ("[1.0]", ["exact, by quadrature       -1.16345 (JSD 0.11142)"]),
    ],
)
def test_value_of_the_minimax_game_is_printed_as_jsd(call, pair, monkeypatch, means, lines):
    monkeypatch.setattr(divergence, "JUDGED_LAST", (2_000, 2_000))
    pair()
    output = call("divergence", "pair.toml", "--set", "train.steps=150", "--set", f"against.means={means}").stdout
    assert all(line in output for line in [*lines, "-1.38629 is indistinguishable", "0.00000 is fully separable"])


def test_wasserstein_value_is_printed_with_slope_and_floor(call, pair, monkeypatch):
    monkeypatch.setattr(divergence, "TRANSPORTED", 50)
    monkeypatch.setattr(divergence, "JUDGED_LAST", (2_000, 2_000))
    pair()
    result = call("divergence", "pair.toml", *(word for change in STEEP for word in ("--set", change)))
    lines = result.stdout.splitlines()
    (samples,) = (line for line in lines if line.startswith("W1 of the samples "))
    assert "of 50 held-out samples of each side" in samples
    for heading in ("slope of D ", "-L_D / slope ", "  real against real "):
        assert [line for line in lines if line.startswith(heading)], heading
    assert "warning: -L_D is above W1" in result.stderr


FUNNELS = (
    "dataset={use='funnels_moved', dimension=3, funnels=5}",
    "against={use='funnels', dimension=3}",
    "objective.use=wgan",
)


def test_critic_of_funnels_is_compared_with_the_optimal_one(call, pair, tmp_path):
    pair()
    changes = (*FUNNELS, "constraints=[{use='gradient_penalty'}]", "train.steps=150", "log.every=150")
    output = call("divergence", "pair.toml", "--out", "out", *(w for c in changes for w in ("--set", c))).stdout
    found = json.loads((tmp_path / "out" / "divergence.json").read_text())
    assert found["share"] == pytest.approx(found["value"] / found["exact"], rel=1e-12)
    errors = found["error"] / found["value"], found["exact_error"] / found["exact"]
    assert found["share_error"] == pytest.approx(found["share"] * math.hypot(*errors), rel=1e-9)
    assert found["transport"] == pytest.approx(found["exact"], abs=0.25)  # of 500 samples, whose floor is .4
    assert 0.2 < found["gradient_cosine"] < 1
    assert 0 < found["gradient_cosine_error"] < 0.02
    assert found["gradient_l2"] > 0
    assert found["seconds"] > 0
    assert found["critic_error"] is None
    assert found["lipschitz"] > found["slope"] > 0
    assert found["certified"] == pytest.approx(found["value"] / found["lipschitz"], rel=1e-12)
    assert found["certified_share"] == pytest.approx(found["certified"] / found["exact"], rel=1e-12)
    assert found["no_bound"] is None
    certified = f"{found['certified']:.5f}, a lower bound on W1: {found['certified_share']:.2%} of it"
    assert f"Lipschitz constant of D    {found['lipschitz']:.5g} at most, certified" in output
    assert f"-L_D / constant            {certified}" in output
    assert f"W1, of an optimal critic   {found['exact']:.5f} ± {found['exact_error']:.5f}" in output
    assert f"share of W1                {found['share']:.2%} ± {found['share_error']:.2%}" in output
    assert f"gradient, to the optimal   cosine {found['gradient_cosine']:.4f} ± " in output
    assert f"  squared distance         {found['gradient_l2']:.4f} ± " in output


def test_wasserstein_critic_on_the_line_is_compared_with_the_optimal_one(pair, tmp_path):
    """The optimal critic between N(0, 1) and N(1, 1) is -x; a critic whose weights are clipped to 0 has no slope."""
    clipped = "constraints=[{use='weight_clipping', limit=1e-12}]"
    measured = measure(pair("train.steps=1", "log.every=1", "objective.use=wgan", clipped), tmp_path / "out")
    assert (measured.exact_error, measured.share) == (None, pytest.approx(0.0, abs=1e-9))
    assert measured.exact == pytest.approx(1.0, abs=1e-4)
    assert (measured.agreement.cosine, measured.agreement.l2) == (pytest.approx(0.0), pytest.approx(1.0))


def test_linear_critic_is_certified_by_its_exact_constant(pair, tmp_path):
    """A critic without a hidden layer has the norm of its weights as Lipschitz constant."""
    changes = ("discriminator={use='mlp', hidden=[]}", "objective.use=wgan", "train.steps=30", "log.every=30")
    measured = measure(pair(*changes, "against.means=[3.0]"), tmp_path / "out")
    (weight,) = (w for w in load_file(tmp_path / "out" / "discriminator.safetensors").values() if w.ndim == 2)
    assert measured.lipschitz == pytest.approx(weight.double().norm().item(), rel=1e-9)
    assert measured.certified == pytest.approx(3.0, abs=0.05)
    assert measured.certified_share == pytest.approx(1.0, abs=0.02)


def test_critic_without_a_certified_bound_says_why(call, pair, monkeypatch, tmp_path):
    def refuse(*_):
        raise NoBound("sort has no rule")

    monkeypatch.setattr(divergence, "certified_bound", refuse)
    pair()
    changes = ("objective.use=wgan", "train.steps=1", "log.every=1")
    output = call("divergence", "pair.toml", "--out", "out", *(w for c in changes for w in ("--set", c))).stdout
    assert "no certified bound on the slope of D: sort has no rule" in output
    found = json.loads((tmp_path / "out" / "divergence.json").read_text())
    assert [found[key] for key in ("lipschitz", "certified", "certified_share")] == [None] * 3
    assert found["no_bound"] == "sort has no rule"


@pytest.mark.parametrize(
    "changes",
    [
        ("objective.use=vanilla",),
        ("against={use='funnels_moved', dimension=3, seed=1}",),
        ("against={use='funnels_moved', dimension=3, funnels=5}",),  # W1 is 0
    ],
)
def test_no_share_without_a_known_w1(pair, tmp_path, changes):
    measured = measure(pair(*FUNNELS, "train.steps=1", "log.every=1", *changes), tmp_path / "out")
    assert (measured.share, measured.share_error) == (None, None)
    assert (measured.agreement is None) == (changes[0] != "against={use='funnels_moved', dimension=3, funnels=5}")
    report = json.loads((tmp_path / "out" / "divergence.json").read_text())
    assert report["share"] is None


def test_missing_file_of_a_pair_is_refused_in_a_line(call, pair, tmp_path):
    pair()
    wrong = ("--set", "dataset={use='funnels_moved', file='none.npz'}", "--set", "against={use='funnels'}")
    result = call("divergence", "pair.toml", *wrong, code=2)
    assert result.stderr == "pair.toml: dataset: file: none.npz: no such file\n"
    assert not (tmp_path / "divergences").exists()


def test_transport_of_few_samples_has_its_floor_of_real_samples(tmp_path, pair, install):
    """12 held-out samples of noise in 64 dimensions are far from any 12 others of the same noise."""
    install("noise", NOISE.replace("return 500", "return 60"))
    sides = ("dataset={use='noise'}", "against={use='noise'}", "train.batch_size=8", "train.steps=1")
    found = measure(pair("objective.use=wgan", *sides), tmp_path / "out").transported
    assert found.samples == 12
    assert found.floor == pytest.approx(2 * (64 / 6) ** 0.5, rel=0.2)  # E ‖x - x'‖² is 64 · 2 · 4/12


def test_measurement_is_not_numbered_among_runs(call, pair, tmp_path):
    """A run of the same name comes after it, and gets the number 1."""
    pair()
    few = ("--set", "train.steps=2", "--set", "log.every=2")
    call("divergence", "pair.toml", *few)
    assert not (tmp_path / "runs").exists()
    call("divergence", "pair.toml", *few)
    assert sorted(path.name for path in (tmp_path / "divergences" / "pair").iterdir()) == ["1", "2"]
    assert not [path for path in (tmp_path / "divergences").rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_diverged_discriminator_measures_nothing(call, pair, tmp_path):
    pair()
    huge = ("--set", "objective.use=wgan", "--set", "optimizer.discriminator.lr=1e30", "--set", "train.steps=20")
    result = call("divergence", "pair.toml", *huge, code=1)
    assert "-L_D is not a number" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "divergences").exists()


def test_many_scores_are_judged_as_they_are_trained(pair, tmp_path, conditional):
    """The loss of each score, not of a sample's mean: the mean of softplus is above softplus of the mean."""
    conditional()
    images = ("dataset={use='paired:paired_images'}", "against={use='paired:paired_images'}", "train.batch_size=4")
    measured = measure(pair("discriminator={use='two_scores'}", *images, "train.steps=1"), tmp_path / "out")
    assert measured.value < -math.log(4) + 0.2
    scores = divergence._scores(Two(), torch.randn(30, 2))
    assert scores.shape == (30, 2)


class Two(torch.nn.Module):
    many_scores = True

    def forward(self, x, y):
        return x


@pytest.mark.parametrize("objective", ["vanilla", "wgan"])
def test_critic_is_drawn_wherever_both_densities_are_known(pair, tmp_path, objective):
    measured = measure(pair("train.steps=2", f"objective.use={objective}"), tmp_path / "out")
    assert (measured.folder / "critic.png").stat().st_size > 5000


# --------------------------------------------------------------------------------------------------------- bad requests


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["against={use='ring'}"], "against: its samples have shape (2,), and the dataset's (1,)"),
        (["against={use='rign'}"], "against.use: unknown dataset 'rign'; did you mean 'ring'?"),
        (["against={run='nowhere'}"], "nowhere"),
        (["against={run='nowhere', use='ring'}"], "against.use: unknown option"),
        (["against.meens=[1.0]"], "against.meens: unknown option; did you mean 'means'?"),
        (["train.batch_size=0"], "train.batch_size: must be >= 1, not 0"),
        (["discriminator.condition='concat'"], "condition = 'concat' needs labels"),
        (["dataset={use='digits'}", "against={use='digits'}", "train.batch_size=1500"], "larger than the data"),
    ],
)
def test_wrong_comparison_is_refused_before_anything_is_written(pair, tmp_path, overrides, message):
    with pytest.raises(ganframe.RequestError) as raised:
        measure(pair(*overrides), tmp_path / "out")
    assert message in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_divergence_command(call, pair, tmp_path):
    pair()
    result = call("divergence", "pair.toml", "--set", "train.steps=20", "--set", "log.every=10")
    assert "-L_D on held-out samples   -1." in result.stdout
    assert "exact, by quadrature       -1.16345" in result.stdout
    assert "done: divergences/pair/1/" in result.stdout
    (tmp_path / "plain.toml").write_text(PAIR.replace('[against]\nuse = "gaussian_1d"\nmeans = [1.0]\n', ""))
    said = call("divergence", "plain.toml", code=2).stderr
    assert "plain.toml: against: missing; write a table [against], or give --against RUN" in said


def test_generator_of_the_recipe_is_ignored(tiny, tmp_path):
    comparison = load_comparison(tiny("[against]\nuse = 'ring'\nmodes = 3\n"))
    assert comparison.against.modes == 3
    assert not hasattr(comparison, "generator")


def test_discriminator_is_judged_in_evaluation_mode_and_trained_in_training_mode(pair, tmp_path, monkeypatch):
    """In training mode, dropout, batch statistics and power iterations would change the scores or the network."""
    modes = {}

    def watch(name):
        act, seen = getattr(divergence, name), modes.setdefault(name, set())

        def watched(trainer, *rest):
            D = trainer.state.D.network
            seen.add(("before", D.training))
            hook = D.register_forward_pre_hook(lambda D, given: seen.add(("asked", D.training)))
            found = act(trainer, *rest)
            hook.remove()
            return found

        monkeypatch.setattr(divergence, name, watched)

    watch("_judge")
    watch("_distance_from_optimum")
    measure(pair("train.steps=2", "log.every=1"), tmp_path / "out")
    assert modes == {name: {("before", True), ("asked", False)} for name in ("_judge", "_distance_from_optimum")}


def test_options_of_the_optimiser_move(pair, tmp_path):
    rate = 'optimizer.discriminator={lr = {from = 0.0, to = 0.01, steps = 6, shape = "constant"}}'
    history = measure(pair(rate, "train.steps=9", "log.every=3"), tmp_path / "out").history
    values = [record["value"] for record in history]
    assert values[0] == values[1] != values[2]


class Packs(torch.nn.Module):
    mixes_groups_of = 3

    def forward(self, x, y):
        return x.unflatten(0, (-1, 3)).mean((1, 2)).repeat_interleave(3)


def test_scores_of_a_discriminator_that_mixes_groups_are_those_of_whole_groups():
    assert len(divergence._scores(Packs(), torch.randn(2_000, 2))) == 1_998


HOLED = """
import attrs, torch
from torch.utils.data import TensorDataset
from ganframe import Dataset, DataSpec, hookimpl

@attrs.frozen
class Holed(Dataset):
    "A line with a hole."
    spec = property(lambda self: DataSpec((1,)))
    def build(self):
        x = torch.zeros(100, 1)
        x[7] = torch.nan
        return TensorDataset(x, torch.zeros(100, dtype=torch.long))

@hookimpl
def ganframe_datasets():
    return {"holed": Holed}
"""


@pytest.mark.parametrize("side", ["dataset", "against"])
def test_the_side_whose_data_is_no_data_is_named(call, tmp_path, install, side):
    install("ganframe-holed", HOLED)
    (tmp_path / "pair.toml").write_text(PAIR)
    said = call("divergence", "pair.toml", "--set", f"{side}={{use='holed'}}", code=2).stderr
    assert said.startswith(f"pair.toml: {side}: some samples are non-finite: item 7 has nan")
    assert len(said.splitlines()) == 1
