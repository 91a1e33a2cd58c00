"""What a run keeps for its page: samples, D's scores over their space, the image of latents, the pull of G's loss."""

import pytest
import torch

import ganframe
from ganframe.data.latents import sample_prior
from ganframe.recipes.tables import Prior
from ganframe.storage.points import load_points
from ganframe.training.networks import evaluation
from ganframe.training.points import has_points, keep_points, latent_grid, places, range_of
from ganframe.training.prepare import prepare


@pytest.fixture
def keep(tiny, tmp_path):
    """keep(*settings): (trainer, points) of a recipe before its first step."""

    def make(*settings, file=None):
        trainer = prepare(ganframe.load_recipe(file or tiny(), settings))
        kept = tmp_path / "points.safetensors"
        keep_points(trainer, lambda step: kept)(trainer.state)
        return trainer, load_points(kept)

    return make


def test_scores_are_those_of_the_discriminator_at_the_places(keep):
    trainer, points = keep()
    D, n = trainer.state.D.network, len(points.scores)
    (low, high), (bottom, top) = points.range.tolist()
    for i, j in ((0, 0), (3, 20), (n - 1, 5)):
        x = torch.tensor([[low + (high - low) * i / (n - 1), bottom + (top - bottom) * j / (n - 1)]])
        with torch.no_grad(), evaluation(D):
            torch.testing.assert_close(points.scores[i, j], D(x, trainer.spec.blank(1))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["wgan", "non_saturating"])
def test_pulls_descend_the_loss_of_the_generator(keep, objective):
    """Of `wgan`, L_G = -mean D(x), so the pull on each sample is ∇D(x); of `non_saturating` it is σ(-D(x)) ∇D(x)."""
    trainer, points = keep(f"objective.use={objective}")
    D = trainer.state.D.network.double()
    x = points.samples[: len(points.pulls)].double()
    y = trainer.spec.blank(len(x))
    with torch.no_grad(), evaluation(D):
        step = 1e-6 * torch.eye(2, dtype=torch.double)
        slopes = torch.stack([(D(x + s, y) - D(x - s, y)) / 2e-6 for s in step], 1)
        expected = slopes if objective == "wgan" else torch.sigmoid(-D(x, y))[:, None] * slopes
    torch.testing.assert_close(points.pulls.double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_grid_is_the_image_of_the_grid_of_latents(keep, dim):
    trainer, points = keep(f"latent.dim={dim}")
    z, rows = latent_grid(Prior(dim))
    with torch.no_grad(), evaluation(trainer.sampled):
        expected = trainer.sampled(z, trainer.spec.blank(len(z))).view(rows, -1, 2)
    torch.testing.assert_close(points.grid, expected)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_grid_of_latents_has_even_quantiles_of_the_prior(dim, distribution):
    prior = Prior(dim, distribution)
    z, rows = latent_grid(prior)
    assert z.shape[1] == dim
    assert (z[:, 2:] == 0).all()
    along = z[:, 0].unique()
    drawn = sample_prior(prior, 200_000, torch.Generator().manual_seed(0))[:, 0]
    shares = torch.stack([(drawn <= value).float().mean() for value in along])
    torch.testing.assert_close(shares, torch.linspace(0.02, 0.98, len(along)), rtol=0, atol=5e-3)
    assert len(z) == (len(along) if dim == 1 else rows * rows)


def test_points_on_the_line_have_scores_along_it(keep):
    _, points = keep("dataset.use=gaussian_1d")
    assert points.samples.shape[1] == 1
    assert points.scores.ndim == 1
    assert points.grid is None
    assert points.pulls is None


@pytest.mark.parametrize("more", [[], ["discriminator={use='paired:two_scores'}", "train.one_sided_labels=true"]])
def test_points_under_conditions(keep, conditional, more):
    _, points = keep(*more, file=conditional("vectors"))
    assert points.samples.isfinite().all()
    assert points.pulls.shape[1] == 2


def test_range_is_a_square_around_the_data():
    data = torch.tensor([[10.0, -1.0], [12.0, 0.0]]).repeat(1000, 1)
    edges = range_of(data)
    torch.testing.assert_close(edges, torch.tensor([[9.5, 12.5], [-2.0, 1.0]]))
    assert places(edges)[0].tolist() == [9.5, -2.0]
    assert places(edges)[1].tolist()[0] == 9.5


def test_keeping_points_changes_nothing_of_the_training(keep, tmp_path):
    trainer, _ = keep("discriminator.dropout=0.5")
    callback = keep_points(trainer, lambda step: tmp_path / "more.safetensors")
    before = torch.get_rng_state()
    weights = [p.clone() for p in trainer.state.D.parameters]
    callback(trainer.state)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(trainer.state.D.parameters, weights, strict=True))
    assert all(p.grad is None for p in trainer.state.D.parameters)


def test_images_have_no_points():
    assert not has_points(ganframe.DataSpec((1, 8, 8)))
    assert not has_points(ganframe.DataSpec((3,)))
    assert has_points(ganframe.DataSpec((2,)))


def test_run_keeps_points_beside_each_picture(tiny, tmp_path):
    folder = ganframe.run(ganframe.load_recipe(tiny("[log]\nsamples_every = 2\n")), tmp_path / "run").folder
    names = sorted(path.name for path in (folder / "samples").iterdir())
    assert names == [f"step-00000{n}.{kind}" for n in (2, 4, 6) for kind in ("png", "safetensors")]
