"""What `prepare` builds, and what it refuses before anything is trained or written."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch

import ganframe
from ganframe.training.prepare import prepare

R3GAN = Path(__file__).parents[2] / "plugins" / "ganframe-r3gan"


def test_all_problems_are_reported_at_once(make_recipe, refused):
    problems = refused(
        make_recipe(
            generator={"use": "resnet", "attention": 5},
            discriminator={"use": "mlp", "norm": "batch"},
            constraints=[{"use": "gradient_penalty"}],
            train={"steps": 1, "batch_size": 5000},
        )
    )
    assert [problem.split(": ")[1] for problem in problems] == ["generator", "constraints[0]", "dataset"]


def test_constraints_of_one_name_are_numbered_in_the_log(make_recipe):
    trainer = prepare(make_recipe(constraints=[{"use": "weight_clipping"}, {"use": "weight_clipping", "limit": 1.0}]))
    assert list(trainer.state.game.constraints) == ["weight_clipping", "weight_clipping_2"]


def test_real_and_fake_samples_share_a_call_unless_samples_are_mixed_or_differentiated(make_recipe, install_package):
    install_package(R3GAN)
    for tables, shared in (
        ({"constraints": [{"use": "gradient_penalty"}]}, True),
        ({"constraints": [{"use": "r1"}]}, False),
        ({"discriminator": {"use": "mlp", "norm": "batch"}}, False),
    ):
        assert prepare(make_recipe(**tables)).state.game.scoring.shared_call is shared


def test_dataset_whose_build_returns_nothing_is_refused(make_recipe, refused):
    @attrs.frozen
    class Forgotten(ganframe.Dataset):
        spec = ganframe.DataSpec((2,))

        def build(self):
            pass

    recipe = attrs.evolve(make_recipe(), dataset=Forgotten())
    assert refused(recipe) == ["built.toml: dataset: build must return a torch dataset, not NoneType"]


class Odd(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.zeros(1, 7, 7), 0


def test_a_network_of_no_size_is_still_shown_to_constraints(make_recipe, refused):
    @attrs.frozen
    class Images(ganframe.Dataset):
        spec = ganframe.DataSpec((1, 7, 7))

        def build(self):
            return Odd()

    recipe = make_recipe(
        generator={"use": "dcgan"},
        discriminator={"use": "dcgan", "norm": "batch"},
        constraints=[{"use": "gradient_penalty"}],
        train={"steps": 1, "batch_size": 8},
    )
    places = [problem.split(": ")[1] for problem in refused(attrs.evolve(recipe, dataset=Images()))]
    assert places == ["generator", "discriminator", "constraints[0]", "dataset"]


def test_faults_of_networks_and_of_the_data_are_reported_together(make_recipe, refused):
    @attrs.frozen
    class Flat:
        def build(self, data, latent_dim):
            return Lines()

    class Lines(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(64, 3)

        def forward(self, z, y):
            return self.linear(z)

    recipe = attrs.evolve(make_recipe(train={"steps": 1, "batch_size": 5000}), generator=Flat())
    places = [problem.split(": ")[1] for problem in refused(recipe)]
    assert places == ["dataset", "generator"]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            {"generator_batch_size": 32},
            "train.share_fakes: both players see the same fakes; generator_batch_size must be",
        ),
        ({"accumulate": 2}, "train.share_fakes: a batch in parts has no fakes to share; train.accumulate must be 1"),
    ],
)
def test_shared_fakes_need_one_batch_for_both_players(make_recipe, refused, train, message):
    assert any(message in line for line in refused(make_recipe(train={"steps": 1, "share_fakes": True, **train})))
    assert prepare(make_recipe(train={"steps": 1, "share_fakes": True})).state.share_fakes
