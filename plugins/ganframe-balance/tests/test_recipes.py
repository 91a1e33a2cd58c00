"""Every recipe trains and resumes exactly; where no part draws random numbers of its own, two processes equal one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ganframe

FOLDER = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem != "pyproject")
LOGGED = {
    "began_digits": "term_began",
    "cramer_ring": "term_cramer_penalty",
    "ebgan_digits": "term_pulling_away",
    "fisher_ring": "term_fisher",
    "lecam_digits": "term_lecam",
    "lecam_ring": "term_lecam",
    "minibatch_stddev_ring": None,
    "mmd_ring": None,
    "sobolev_ring": "term_sobolev",
    "wgan_div_ring": "penalty_wgan_div",
}
MEMORY = {
    "began_digits": "term.began.discriminator.safetensors",
    "fisher_ring": "term.fisher.discriminator.safetensors",
    "lecam_digits": "term.lecam.discriminator.safetensors",
    "lecam_ring": "term.lecam.discriminator.safetensors",
    "sobolev_ring": "term.sobolev.discriminator.safetensors",
}
# All random numbers of these are those of the batch; cramer_ring without its penalty, which draws points.
SAME_ON_TWO_PROCESSES = {
    "began_digits": (),
    "cramer_ring": ("terms=[]",),
    "ebgan_digits": (),
    "fisher_ring": (),
    "lecam_digits": (),
    "minibatch_stddev_ring": (),
    "mmd_ring": (),
    "sobolev_ring": (),
}


def load(name, steps, *more):
    few = [f"train.steps={steps}", "train.batch_size=16", "log.every=1", "log.samples_every=100"]
    return ganframe.load_recipe(FOLDER / f"{name}.toml", [*few, "log.checkpoint_every=2", *more])


def last_checkpoint(folder):
    return max((folder / "checkpoints").iterdir(), key=lambda path: int("".join(filter(str.isdigit, path.name))))


def contents(checkpoint):
    """The bytes of all weights and memory, and the values of all else: torch.save does not write equal values alike."""
    state = dict(flat(torch.load(checkpoint / "training.pt", weights_only=False)))
    return {path.name: path.read_bytes() for path in checkpoint.glob("*.safetensors")} | state


def flat(value, place="training"):
    """(place, leaf) of nested dicts and lists, with tensors as lists."""
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(part, f"{place}.{key}")
    else:
        yield place, value.tolist() if isinstance(value, torch.Tensor) else value


def test_every_recipe_is_tested():
    assert sorted(LOGGED) == NAMES


@pytest.mark.parametrize("name", LOGGED)
def test_recipe_trains_a_few_steps(name, tmp_path):
    recipe = load(name, 3)
    run = ganframe.run(recipe, out=tmp_path / "run")
    assert [record["step"] for record in run.log] == [1, 2, 3]
    for record in run.log:
        assert torch.tensor([value for key, value in record.items() if "_" in key]).isfinite().all()
        assert LOGGED[name] is None or LOGGED[name] in record
    assert ganframe.load_generator(run.folder).sample(5).shape == (5, *recipe.dataset.spec.shape)
    memory = MEMORY.get(name)
    assert memory is None or (last_checkpoint(run.folder) / memory).exists()


@pytest.mark.parametrize("name", LOGGED)
def test_resume_gives_the_bytes_of_an_uninterrupted_run(name, tmp_path):
    full = ganframe.run(load(name, 4), out=tmp_path / "full")
    ganframe.run(load(name, 2), out=tmp_path / "resumed")
    resumed = ganframe.resume(tmp_path / "resumed", ["train.steps=4"])
    expected, found = (contents(last_checkpoint(run.folder)) for run in (full, resumed))
    assert expected.keys() == found.keys()
    assert [key for key in expected if expected[key] != found[key]] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME_ON_TWO_PROCESSES)
def test_two_processes_train_as_one(name, tmp_path):
    sgd = [f"optimizer.{player}={{use='SGD', lr=0.05}}" for player in ("generator", "discriminator")]
    # Without BatchNorm in G, whose statistics are those of each process's part of the batch.
    given = ["train.steps=4", "train.batch_size=16", *sgd, "log.samples_every=100", "log.checkpoint_every=4"]
    given += ["generator.batch_norm=false", *SAME_ON_TWO_PROCESSES[name]]
    options = [part for text in given for part in ("--set", text)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    weights = []
    for start in ([], launcher):
        folder = tmp_path / str(len(start))
        command = [sys.executable, *start, "-m", "ganframe", "run", FOLDER / f"{name}.toml", *options, "--out", folder]
        done = subprocess.run(list(map(str, command)), env=variables, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        weights.append(tensors(last_checkpoint(folder)))
    one, two = weights
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        torch.testing.assert_close(two[key], tensor, rtol=1e-5, atol=1e-6, msg=key)


def tensors(checkpoint):
    """All weights and buffers of a checkpoint."""
    from safetensors.torch import load_file

    files = [path for path in checkpoint.glob("*.safetensors") if path.name.split(".")[0] in NETWORKS]
    return {f"{path.name}: {key}": value for path in files for key, value in load_file(path).items()}


NETWORKS = ("generator", "discriminator", "term")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("began_digits", "discriminator={use='mlp'}", r"terms\[0\].*scores are minus a loss"),
        ("mmd_ring", "discriminator={use='mlp'}", r"objective: .*embedding of ganframe-balance"),
        ("cramer_ring", "discriminator={use='mlp'}", r"terms\[0\].*embedding of ganframe-balance"),
        ("sobolev_ring", "discriminator.norm='batch'", r"terms\[0\].*mixes samples"),
        ("wgan_div_ring", "discriminator.norm='batch'", r"constraints\[0\].*mixes samples"),
        ("minibatch_stddev_ring", "train.batch_size=18", r"groups of 4 samples"),
        ("ebgan_digits", "discriminator={use='embedding'}", r"terms\[0\].*gives_extras"),
    ],
)
def test_parts_that_do_not_fit_raise_recipe_error(name, change, message, tmp_path):
    with pytest.raises(ganframe.RecipeError, match=message):
        ganframe.run(load(name, 2, change), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
