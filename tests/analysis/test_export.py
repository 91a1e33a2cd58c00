"""Exported generators: run without ganframe they give the generator's own samples, at any size of batch."""

from __future__ import annotations

import json
import subprocess
import sys

import attrs
import pytest
import torch
from torch import nn

import ganframe
from ganframe.analysis import export as exports
from ganframe.analysis.export import FORMATS, SUFFIXES, export
from ganframe.analysis.trained import load_generator
from ganframe.errors import RequestError

DIGITS = """
seed = 1
dataset = {{ use = "digits", size = 16 }}
latent = {{ dim = 4, distribution = "{prior}" }}
generator = {generator}
discriminator = {{ use = "dcgan", width = 4, norm = "none"{D} }}
objective = {{ use = "wgan" }}
train = {{ steps = 3, batch_size = 8, ema = 0.5 }}
"""
GENERATORS = {
    "dcgan": '{ use = "dcgan", width = 4 }',
    "dcgan of classes": '{ use = "dcgan", width = 4, condition = "batch_norm" }',
    "resnet": '{ use = "resnet", width = 4, attention = 8 }',
    "mlp": '{ use = "mlp", hidden = [8], batch_norm = true }',
}


@pytest.fixture
def formats():
    """The formats that can be tried here."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError:
            return ("torch",)
    return FORMATS


@pytest.fixture
def trained(tmp_path):
    """trained(text): a run of a few steps of a recipe."""

    def train(text, name="run"):
        file = tmp_path / f"{name}.toml"
        file.write_text(text, encoding="utf-8")
        return ganframe.run(ganframe.load_recipe(file), tmp_path / name).folder

    return train


def samples_of(file, **inputs):
    if file.suffix == ".pt2":
        return torch.export.load(file).module()(*inputs.values())
    session = pytest.importorskip("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == list(inputs)
    return torch.from_numpy(session.run(["x"], {name: tensor.numpy() for name, tensor in inputs.items()})[0])


@pytest.mark.parametrize("name", GENERATORS)
def test_file_gives_the_samples_of_the_generator(trained, formats, tmp_path, name):
    """Of 1 and of 70 latents, which the generator itself makes in parts; with the moving average of its weights."""
    conditional = "classes" in name
    D = ', condition = "projection"' if conditional else ""
    folder = trained(DIGITS.format(generator=GENERATORS[name], prior="uniform" if name == "mlp" else "normal", D=D))
    G = load_generator(folder)
    for kind in formats:
        done = export(folder, tmp_path / "new" / f"G{SUFFIXES[kind]}", kind)
        assert list(done.inputs) == (["z", "y"] if conditional else ["z"])
        for n in (1, 70):
            z, y = G.latents(n, seed=9)
            given = {"z": z, "y": y} if conditional else {"z": z}
            assert (samples_of(done.file, **given) - G.sample(n, seed=9)).abs().max() < 1e-5
    assert "U(-√3, √3)" in done.inputs["z"] if name == "mlp" else "N(0, 1)" in done.inputs["z"]


def test_program_runs_without_ganframe_and_says_what_its_inputs_are(trained, tmp_path):
    folder = trained(DIGITS.format(generator=GENERATORS["dcgan"], prior="normal", D=""))
    file = export(folder).file
    assert file == folder / "generator.pt2"
    extra = {"ganframe.json": ""}
    torch.export.load(file, extra_files=extra)
    about = json.loads(extra["ganframe.json"])
    assert about["inputs"] == {"z": "latents (N, 4), float32, drawn from N(0, 1)"}
    assert about["samples"]["shape"] == [1, 16, 16]
    program = "import sys, torch\nx = torch.export.load(sys.argv[1]).module()(torch.zeros(5, 4))\n"
    program += "assert x.shape == (5, 1, 16, 16) and 'ganframe' not in sys.modules"
    subprocess.run([sys.executable, "-c", program, str(file)], check=True)


def test_onnx_says_what_its_inputs_are(trained, formats):
    onnx = pytest.importorskip("onnx")
    folder = trained(DIGITS.format(generator=GENERATORS["dcgan"], prior="normal", D=""))
    if "onnx" not in formats:
        pytest.skip("needs ganframe[onnx]")
    (found,) = onnx.load(export(folder, format="onnx").file).metadata_props
    assert json.loads(found.value)["samples"]["classes"] == 10


def test_checkpoint_of_a_step_is_exported(tiny, tmp_path):
    recipe = ganframe.load_recipe(tiny("[log]\ncheckpoint_every = 3\n"))
    folder = ganframe.run(recipe, tmp_path / "run").folder
    G = load_generator(folder, step=3)
    z, _ = G.latents(4)
    assert (samples_of(export(folder, step=3).file, z=z) - G.decode(z)).abs().max() < 1e-5
    assert (samples_of(export(folder).file, z=z) - G.decode(z)).abs().max() > 1e-5


class Network(nn.Module):
    def __init__(self, function, growing=False):
        super().__init__()
        self.layer, self.function = nn.Linear(2, 2), function
        if growing:
            self.register_buffer("training_step", torch.tensor(6))

    def forward(self, z, y):
        return self.function(self, self.layer(z))


@pytest.fixture
def export_of(tiny, tmp_path, monkeypatch):
    """export_of(function, format): a run whose generator computes function(network, Wz + b) is exported."""
    folder = ganframe.run(ganframe.load_recipe(tiny()), tmp_path / "run").folder

    def attempt(function, format="torch", network=None, **changes):
        G = load_generator(folder)
        G.network = network or Network(function)
        for name, value in changes.items():
            setattr(G, name, value)
        monkeypatch.setattr(exports, "load_generator", lambda *given: G)
        return G, export(folder, format=format).file

    return attempt


def branching(network, x):
    return x * 2 if x.sum() > 0 else x


REFUSED = {
    "branch": (branching, "a shape or a branch of the network depends on values that it computes"),
    "shape": (
        lambda network, x: x[:, : int(x.abs().sum().mul(0).add(2).item())],
        "a shape or a branch of the network depends on values that it computes",
    ),
    "batch": (lambda network, x: x + torch.zeros(2, 2), "the network fixes the size of a batch"),
    "noise": (lambda network, x: x + torch.randn_like(x), "the generator draws noise of its own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_expressed_is_refused_in_a_line_and_leaves_no_file(export_of, tmp_path, case):
    function, said = REFUSED[case]
    with pytest.raises(RequestError, match=said) as error:
        export_of(function)
    assert len(str(error.value).splitlines()) == 1
    assert not [p for p in (tmp_path / "run").iterdir() if "generator.pt2" in p.name]


def test_operation_that_onnx_has_not_is_named(export_of, formats):
    if "onnx" not in formats:
        pytest.skip("needs ganframe[onnx]")
    with pytest.raises(RequestError, match=r"cannot be written as onnx: ONNX has no operation for \S*bessel_i1"):
        export_of(lambda network, x: torch.special.i1(x), "onnx")


def test_file_whose_samples_differ_is_not_kept(export_of, monkeypatch, tmp_path):
    monkeypatch.setattr(exports, "_torch_program", lambda file: lambda z: torch.ones(len(z), 2))
    with pytest.raises(RequestError, match=r"its samples differ by up to \S+ from those of the generator"):
        export_of(lambda network, x: x)
    assert not (tmp_path / "run" / "generator.pt2").exists()


def test_network_that_grows_is_exported_as_it_has_grown(export_of):
    network = Network(lambda network, x: x * int(network.training_step), growing=True)
    G, file = export_of(None, network=network)
    z, _ = G.latents(3)
    assert (samples_of(file, z=z) - 6 * network.layer(z)).abs().max() < 1e-5
    assert int(network.training_step) == 6  # the generator itself is not changed


def test_conditions_are_an_input_and_z_may_be_none(export_of):
    """One sample of each condition: y alone is an input."""

    class Deaf(Network):
        ignores_latent = True

        def forward(self, z, y):
            return y * self.layer.weight.sum()

    spec = ganframe.DataSpec((2,), condition=(2,))
    G, file = export_of(None, network=Deaf(None), spec=spec, conditions=torch.randn(3, 2))
    y = torch.randn(5, 2)
    expected = y * G.network.layer.weight.sum()
    assert (samples_of(file, y=y) - expected).abs().max() < 1e-5


def test_wrong_requests_are_refused(tiny, tmp_path, call, monkeypatch):
    ganframe.run(attrs.evolve(ganframe.load_recipe(tiny()), name="run"), tmp_path / "run")
    call("export", "run", "--out", "G.onnx", code=2)
    assert "must end in .pt2" in call("export", "run", "--out", "G.onnx", code=2).output
    assert "is a folder" in call("export", "run", "--out", "run/samples", code=2).output
    assert "not the folder of a run" in call("export", "nothing", code=2).output
    assert "no checkpoint of step 5" in call("export", "run", "--step", 5, code=2).output
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    printed = call("export", "run", "--format", "onnx", code=2).output
    assert printed == "format onnx needs onnx; pip install 'ganframe[onnx]'\n"
    printed = call("export", "run").output
    assert printed.startswith("run/generator.pt2: its samples are those of run")
    assert "z       latents (N, 2), float32, drawn from N(0, 1)" in printed
