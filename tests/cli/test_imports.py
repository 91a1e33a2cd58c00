"""Commands import no package that they do not use: each of these takes about as long as importing torch."""

from __future__ import annotations

import json

import pytest

SLOW = ("torch._dynamo", "torchvision", "matplotlib", "sklearn", "scipy.stats", "sympy")
PROGRAM = f"""
import json, sys
from ganframe.cli import main

for arguments in json.loads(sys.argv[1]):
    main(arguments, standalone_mode=False)
found = sorted(set({SLOW}) & sys.modules.keys())
assert not found, (arguments, found)
assert "torch" in sys.modules
"""
RECIPE = """
dataset = {{ use = "digits" }}
latent = {{ dim = 4 }}
generator = {{ use = "mlp", hidden = [8], batch_norm = true }}
discriminator = {{ use = "mlp", hidden = [8] }}
objective = {{ use = "wgan" }}
constraints = [{{ use = "{constraint}" }}]
train = {{ steps = 2, batch_size = 16, ema = 0.9 }}

[optimizer.generator]
use = "{optimizer}"
lr = 1e-3
schedule = {{ use = "LinearLR", start_factor = 1.0, end_factor = 0.0, total_iters = 9 }}
"""


@pytest.mark.parametrize(
    ("constraint", "optimizer"),
    [("spectral_norm", "Adam"), ("gradient_penalty", "RMSprop"), ("weight_clipping", "SGD")],
)
def test_training_on_images_and_sampling_import_no_slow_package(python, tmp_path, constraint, optimizer):
    recipe, run = tmp_path / "images.toml", str(tmp_path / "run")
    recipe.write_text(RECIPE.format(constraint=constraint, optimizer=optimizer))
    commands = [["run", str(recipe), "--out", run], ["sample", run, "-n", "4"], ["interpolate", run]]
    done = python("-c", PROGRAM, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    resumed = ["run", "--resume", run, "--set", "train.steps=3"]  # its log has two lines: curves, and what draws them
    done = python("-c", PROGRAM.replace("'matplotlib', ", ""), json.dumps([resumed]))
    assert done.returncode == 0, done.stderr


def test_training_on_points_imports_only_what_draws_them(python, tmp_path):
    recipe = tmp_path / "points.toml"
    text = RECIPE.format(constraint="gradient_penalty", optimizer="Adam").replace("digits", "ring")
    recipe.write_text(text)
    program = PROGRAM.replace("'matplotlib', ", "")
    done = python("-c", program, json.dumps([["run", str(recipe), "--out", str(tmp_path / "run")]]))
    assert done.returncode == 0, done.stderr
