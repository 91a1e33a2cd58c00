"""The models under recipes/taxonomy/: likelihoods that are normalised or bounds, exact inverses, files of samples."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ganframe.builtin.images import Digits

FOLDER = Path(__file__).parent.parent / "recipes" / "taxonomy"
NAMES = ("made", "realnvp", "vae", "rbm")


@pytest.fixture
def scripts(monkeypatch):
    """scripts(name): a module of the folder; all of them are forgotten after the test, and torch's threads are as
    they were."""
    monkeypatch.syspath_prepend(FOLDER)
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    for name in (*NAMES, "shared", "run"):
        if (module := sys.modules.get(name)) and str(FOLDER) in (module.__file__ or ""):
            del sys.modules[name]


def every_image(pixels, levels=17):
    return torch.tensor(list(itertools.product(range(levels), repeat=pixels)))


# ---------------------------------------------------------------------------------------------------------- the data


def test_images_are_the_splits_of_the_dataset(scripts):
    for found, split in zip(scripts("shared").digits(), ("train", "test"), strict=True):
        pixels = Digits(split=split).build().tensors[0].flatten(1)
        assert sorted((found * 255 / 16).round().tolist()) == sorted(pixels.tolist())
    four, one = scripts("shared").digits(validate=True)
    assert (len(four), len(one)) == (1151, 287)


@pytest.mark.parametrize("mixture", [1, 3])
def test_grey_levels_of_a_mixture_have_probabilities_with_sum_1(scripts, mixture):
    parameters = 5 * torch.randn(50, 3 * mixture)
    found = scripts("shared").log_levels(parameters)
    assert found.shape == (50, 17)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(50))
    shifted = torch.tensor([0.0, 3 / 8, 10.0])  # one narrow logistic at level 8 · (1 + 3/8)
    assert scripts("shared").log_levels(shifted).argmax() == 11


# ------------------------------------------------------------------------------------------------------- the models


def test_probabilities_of_all_images_have_sum_1_in_made(scripts):
    model = scripts("made").MADE(pixels=3, hidden=16).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights += torch.randn_like(weights) / 2
        total = model.log_prob(every_image(3)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-4)


def test_each_pixel_of_made_sees_those_before_it_and_no_other(scripts):
    model = scripts("made").MADE(pixels=5, hidden=64).eval()
    x = torch.randint(17, (1, 5))
    for changed in range(5):
        other = x.clone()
        other[0, changed] = (x[0, changed] + 8) % 17
        moved = (model(x) - model(other)).abs().amax((0, 2)) > 1e-6
        assert moved.tolist() == [pixel > changed for pixel in range(5)]


def test_samples_of_made_have_its_probabilities(scripts):
    model = scripts("made").MADE(pixels=2, hidden=16).eval()
    x = model.sample(40_000)
    with torch.no_grad():
        expected = model.log_prob(every_image(2)).exp()
    found = torch.bincount(17 * x[:, 0] + x[:, 1], minlength=289) / len(x)
    assert (found - expected).abs().sum() / 2 < 0.06  # total variation; about 0.03 by chance


@pytest.fixture
def flow(scripts):
    model = scripts("realnvp").RealNVP(pixels=4, layers=4, hidden=16).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights += torch.randn_like(weights) / 4
    return model.double()


def test_inverse_of_realnvp_is_exact(flow):
    u = torch.rand(50, 4, dtype=torch.double)
    torch.testing.assert_close(flow.inverse(flow(u)[0]), u, atol=1e-10, rtol=0)


def test_log_determinant_of_realnvp_is_that_of_autograd(flow):
    u = torch.rand(5, 4, dtype=torch.double)
    for point, log_det in zip(u, flow(u)[1], strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda p: flow(p[None])[0][0], point)
        assert log_det.item() == pytest.approx(jacobian.det().abs().log().item(), abs=1e-9)


def test_density_of_realnvp_integrates_to_1(scripts):
    """Over where its samples lie, the square of [-EDGE, 1 + EDGE] / (1 - 2 EDGE), in two dimensions."""
    model = scripts("realnvp").RealNVP(pixels=2, layers=2, hidden=8).eval()
    edge = scripts("realnvp").EDGE / (1 - 2 * scripts("realnvp").EDGE)
    ticks = torch.linspace(-edge, 1 + edge, 802)[1:-1]
    with torch.no_grad():
        for weights in model.parameters():
            weights += torch.randn_like(weights) / 4
        density = model.log_density(torch.cartesian_prod(ticks, ticks)).exp()
    assert (density.sum() * (ticks[1] - ticks[0]) ** 2).item() == pytest.approx(1, abs=0.01)


def test_bounds_of_realnvp_are_below_the_mass_of_a_cell_and_tighten(flow):
    flow, x = flow.float(), torch.randint(17, (30, 4))
    with torch.no_grad():
        exact = flow.bound(x, 20_000)  # the mean over the cell, which is its mass
        one = torch.stack([flow.bound(x) for _ in range(200)]).mean(0)
        ten = torch.stack([flow.bound(x, 10) for _ in range(50)]).mean(0)
    assert (one <= exact + 0.05).all()
    assert one.mean() < ten.mean() < exact.mean() + 0.01


def test_bounds_of_the_vae_are_below_the_likelihood_and_tighten(scripts):
    """The likelihood by quadrature over z in one dimension."""
    model = scripts("vae").VAE(pixels=3, latent=1, hidden=16)
    with torch.no_grad():
        for weights in model.parameters():
            weights += torch.randn_like(weights) / 4
        z = torch.linspace(-8, 8, 2001)[:, None]
        x = torch.randint(17, (40, 3))
        each = model.decode(z)[:, torch.arange(3), x].sum(2)  # (2001, 40)
        prior = -z.square() / 2 - math.log(2 * math.pi) / 2
        exact = (each + prior).logsumexp(0) + math.log(16 / 2000)
        elbo = torch.stack([model.elbo(x) for _ in range(500)]).mean(0)
        tighter = model.tighter(x, 2000)
    assert (elbo < exact + 0.1).all()
    assert elbo.mean() < tighter.mean() < exact.mean() + 0.02
    assert tighter.mean() == pytest.approx(exact.mean().item(), abs=0.1)


@pytest.fixture
def machine(scripts):
    """A Boltzmann machine that is small enough to sum over all of its states."""
    model = scripts("rbm").RBM(pixels=3, levels=4, hidden=5)
    with torch.no_grad():
        for weights in model.parameters():
            weights += torch.randn_like(weights)
    return model


def test_free_energy_of_the_rbm_sums_over_hidden_units(machine):
    x, h = every_image(3, 4), every_image(5, 2).float()
    v = machine.units(x)
    with torch.no_grad():
        energies = (v @ machine.b)[:, None] + h @ machine.c + v @ machine.W @ h.T
        torch.testing.assert_close(-machine.free_energy(x), energies.logsumexp(1))


def test_annealed_importance_sampling_finds_log_z(machine):
    with torch.no_grad():
        exact = (-machine.free_energy(every_image(3, 4))).logsumexp(0).item()
    assert machine.log_Z(torch.randn(12), chains=200, steps=300) == pytest.approx(exact, abs=0.1)


def test_chain_of_the_rbm_has_its_distribution(machine):
    with torch.no_grad():
        machine.W.div_(2)  # so that the chain mixes fast
        expected = (-machine.free_energy(every_image(3, 4))).softmax(0)
    x = machine.gibbs(torch.randint(4, (20_000, 3)), steps=50)
    found = torch.bincount(16 * x[:, 0] + 4 * x[:, 1] + x[:, 2], minlength=64) / len(x)
    assert (found - expected).abs().sum() / 2 < 0.04


# ------------------------------------------------------------------------------------------------- scripts and page


@pytest.mark.parametrize("name", NAMES)
def test_script_trains_and_writes_samples_and_numbers(scripts, monkeypatch, tmp_path, capsys, name):
    module, shared = scripts(name), scripts("shared")
    train, held_out = shared.digits()
    monkeypatch.setattr(module, "digits", lambda validate: (train, held_out[:4]))
    monkeypatch.setattr(shared, "seconds", lambda call: 0.5)
    if name == "rbm":
        monkeypatch.setattr(module, "CHAIN", 3)
        monkeypatch.setattr(module, "ANNEALED", 3)
    monkeypatch.setattr(sys, "argv", [name, "--steps", "3", "--samples", "5", "--out", str(tmp_path)])
    first = written(module, tmp_path)
    assert first == written(module, tmp_path)  # the same from the same seed
    images = np.load(tmp_path / f"{name}.npy")
    assert images.shape == (5, 1, 8, 8)
    assert images.dtype == np.uint8
    assert set(images.flatten().tolist()) <= {round(level * 255 / 16) for level in range(17)}
    numbers = json.loads((tmp_path / f"{name}.json").read_text())
    assert capsys.readouterr().out.endswith((tmp_path / f"{name}.json").read_text())
    assert -400 < numbers["log_likelihood"]["nats"] < -50
    assert numbers["log_likelihood"]["standard_error"] > 0
    assert {"training_seconds", "seconds_for_1", "seconds_for_1000", "latent_dim", "chain"} <= numbers.keys()


def written(module, folder):
    module.main()
    return {file.name: file.read_bytes() for file in folder.glob("*.npy")}


@pytest.mark.slow
def test_runner_trains_and_judges_every_model(scripts, monkeypatch, tmp_path, capsys):
    module = scripts("run")
    monkeypatch.setattr(module, "METRICS", [{**metric, "features": "pixels"} for metric in module.METRICS])
    monkeypatch.setattr(sys, "argv", ["run.py", "--steps", "2", "--samples", "100", "--out", str(tmp_path)])
    monkeypatch.setattr(module, "SCRIPTS", ("made",))
    monkeypatch.setattr(module, "SHOWN", {name: module.SHOWN[name] for name in ("images", "made", "gan")})
    module.main()
    rows = [line.split(" | ") for line in (tmp_path / "table.md").read_text().splitlines()[2:]]
    assert [row[0] for row in rows] == ["| training images", "| MADE", "| GAN"]
    assert [row[1][:1] for row in rows] == ["", "-", "n"]
    assert float(rows[0][2]) < min(float(row[2]) for row in rows[1:])
    assert (tmp_path / "samples.png").stat().st_size > 1000
    times = {name: (tmp_path / f"{name}.json").stat().st_mtime_ns for name in ("made", "gan")}
    module.main()  # trains none again
    assert {name: (tmp_path / f"{name}.json").stat().st_mtime_ns for name in times} == times


def test_page_has_the_picture_and_a_row_of_every_model(scripts):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "](samples.png)" in page
    assert 10_000 < (FOLDER / "samples.png").stat().st_size < 300_000
    assert all(f"`{name}.py`" in page for name in NAMES)
    head = scripts("run").table(FOLDER, {name: [{"frechet": 1}, {"precision": 1, "recall": 1}, {"copied": 1}] for name
        in scripts("run").SHOWN})  # fmt: skip
    assert head.splitlines()[0] in page
    assert all(f"\n| {shown} |" in page for shown in scripts("run").SHOWN.values())
