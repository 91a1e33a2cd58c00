"""Every component trains end to end through the plugin's entry point, resumes exactly, and runs on two processes."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ganframe

FOLDER = Path(__file__).parent.parent
FEW = ["train.batch_size=8", "log.every=1", "log.samples_every=4", "log.checkpoint_every=2"]
CASES = {  # a recipe and overrides
    "diffaugment": ("diffaugment_digits.toml", []),
    "ada": ("ada_digits.toml", ["constraints[0].interval=1", "constraints[0].steps=4"]),
    "bcr": ("bcr_digits.toml", []),
    "zcr": ("zcr_digits.toml", []),
    "pac": ("pac_ring.toml", []),
    "pac under a gradient penalty": ("pac_ring.toml", ['constraints=[{use="gradient_penalty"}]']),
    "ada with diffaugment and bcr": (
        "ada_digits.toml",
        ['constraints=[{use="ada"}, {use="diffaugment"}, {use="bcr"}]'],
    ),
}
LOGGED = {"bcr": {"penalty_bcr"}, "zcr": {"term_zcr_discriminator", "term_zcr_generator"}}


def recipe_of(case, *overrides):
    file, own = CASES[case]
    return ganframe.load_recipe(FOLDER / file, [*FEW, *own, *overrides])


def newest(run):
    """The last checkpoint: the bytes of each network's file, and everything else by name."""
    folder = max((Path(run.folder) / "checkpoints").iterdir())
    weights = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
    return weights, torch.load(folder / "training.pt", weights_only=True)


def same(one, other):
    """Whether two nested dicts and lists hold equal tensors and values."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_every_recipe_is_a_case():
    assert {file for file, _ in CASES.values()} == {file.name for file in FOLDER.glob("*.toml")} - {"pyproject.toml"}


@pytest.mark.parametrize("case", CASES)
def test_recipe_trains_a_few_steps_and_resumes_exactly(case, tmp_path):
    full = ganframe.run(recipe_of(case, "train.steps=4"), out=tmp_path / "full")
    ganframe.run(recipe_of(case, "train.steps=2"), out=tmp_path / "resumed")
    resumed = ganframe.resume(tmp_path / "resumed", ["train.steps=4"])
    for record in full.log:
        assert LOGGED.get(case, set()) <= record.keys()
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
    (weights, training), (found_weights, found_training) = newest(full), newest(resumed)
    assert "discriminator.safetensors" in weights
    assert weights == found_weights
    assert same(training, found_training)
    assert ganframe.load_generator(full.folder).sample(3).isfinite().all()


def test_p_of_ada_moves_during_a_run_and_is_in_the_checkpoint(tmp_path):
    seen = []
    overrides = ["train.steps=4", "constraints[0].p=0.5", "constraints[0].steps=20", "constraints[0].target=0.95"]
    run = ganframe.run(
        recipe_of("ada", *overrides),
        out=tmp_path / "run",
        callbacks=[lambda state: seen.append(state.D.network.p.item())],
    )
    assert seen[0] == 0.5  # nothing is known of D yet
    assert [abs(b - a) for a, b in itertools.pairwise(seen)] == pytest.approx([0.05] * 3)  # interval / steps
    weights, _ = newest(run)
    assert b"signs" in weights["discriminator.safetensors"]


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("pac_ring", ['constraints=[{use="diffaugment"}]'], "diffaugment augments images"),
        ("pac_ring", ['constraints=[{use="ada"}]'], "ada augments images"),
        ("pac_ring", ["train.batch_size=6"], "groups of 4 samples"),
        ("pac_ring", ['discriminator.of={use="mlp", condition="concat"}'], "without labels"),
        ("ada_digits", ['constraints=[{use="ada"}, {use="ada", p=0.5}]'], "already has ada"),
        ("ada_digits", ['constraints[0].policy=["flop"]'], "must be one of"),
        ("ada_digits", ["dataset.samples=2000"], "only 1797 samples"),
    ],
)
def test_mistakes_raise_recipe_error_in_one_line(recipe, overrides, message, tmp_path):
    with pytest.raises(ganframe.RecipeError, match=message) as raised:
        ganframe.run(ganframe.load_recipe(FOLDER / f"{recipe}.toml", [*FEW, *overrides]), out=tmp_path / "run")
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What runs of one and of two processes store."""
    folder = tmp_path_factory.mktemp("processes")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    stored = []
    for name, launcher in (("one", [sys.executable]), ("two", torchrun)):
        done = subprocess.run(
            [*launcher, str(Path(__file__).with_name("two_processes.py")), str(folder / name)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        stored.append(torch.load(folder / f"{name}.pt", weights_only=True))
    return stored


@pytest.mark.slow
def test_two_processes_train_as_one(results):
    one, two = results
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    assert one.keys() == two.keys()
    assert len(one) == 6
    for case, tensors in one.items():
        for name, tensor in tensors.items():
            found = two[case][name]
            if name.endswith((".signs", ".count")):
                found = 2 * found  # the mean over processes of sums over their shares
            torch.testing.assert_close(found, tensor, rtol=1e-5, atol=1e-6, msg=lambda text: f"{case}: {name}: {text}")  # noqa: B023


@pytest.mark.slow
def test_p_of_ada_moves_in_two_processes_as_in_one(results):
    one, two = (stored["ada"]["D.p"].item() for stored in results)
    assert one == pytest.approx(two)
    assert one != 0.5
