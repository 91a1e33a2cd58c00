"""Images that are no squares, end to end: check, run, resume, pictures, judging, latents."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from PIL import Image

import ganframe

CASES = {  # size, channels, options of both networks
    "odd": ((13, 30), 3, 'use = "resnet", attention = 7'),
    "high": ((64, 40), 4, 'use = "dcgan"'),
}


@pytest.fixture
def pictures(tmp_path):
    """A folder of two classes of colour pictures of several sizes, with opacity."""
    draw = np.random.default_rng(0)
    for label, level in (("dark", 30), ("light", 220)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(30):
            pixels = draw.integers(0, 256, (50 + i, 90, 4), dtype=np.uint8)
            pixels[..., 0] = level
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{i}.png")


@pytest.mark.parametrize("name", CASES)
def test_images_of_any_size_are_trained_on_drawn_and_judged(name, call, tmp_path, pictures):
    size, channels, networks = CASES[name]
    (tmp_path / "r.toml").write_text(
        dedent(f"""
        dataset = {{ use = "image_folder", root = "pictures", size = {list(size)}, channels = {channels} }}
        latent = {{ dim = 4 }}
        generator = {{ {networks}, width = 2, condition = "batch_norm" }}
        discriminator = {{ {networks}, width = 2, condition = "projection" }}
        objective = {{ use = "non_saturating" }}
        train = {{ steps = 4, batch_size = 8 }}
        log = {{ samples_every = 2, checkpoint_every = 2 }}
        metrics = [{{ use = "kernel", features = "pixels", samples = 50, subsets = 2, every = 4 }}]
        """)
    )
    call("check", "r.toml")
    call("run", "r.toml", "--out", "run")
    call("run", "r.toml", "--out", "half", "--set", "train.steps=2")
    call("run", "--resume", "half", "--set", "train.steps=4")
    whole, resumed = (Path(run, "generator.safetensors").read_bytes() for run in ("run", "half"))
    assert whole == resumed
    assert ganframe.load_generator("run").sample(3).shape == (3, channels, *size)
    call("sample", "run", "-n", 6, "--out", "six.png")
    with Image.open("six.png") as picture:
        assert picture.size[0] > size[1]
    call("sample", "run", "-n", 2, "--out", "two.npy")
    call("interpolate", "run", "--steps", 3, "--out", "way.png")
    call("invert", "run", "two.npy", "--steps", 2, "--restarts", 1, "--out", "latents.npy")
    metric = '{ use = "kernel", features = "pixels", subsets = 2 }'
    assert "kernel" in call("evaluate", "run", "--metric", metric, "--samples", 50).output
