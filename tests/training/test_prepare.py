"""What `prepare` builds, and what it refuses before anything is trained or written."""

from __future__ import annotations

from pathlib import Path

import attrs

import ganframe
from ganframe.training.prepare import prepare

R3GAN = Path(__file__).parents[2] / "plugins" / "ganframe-r3gan"


def test_all_problems_are_reported_at_once(make_recipe, refused):
    problems = refused(
        make_recipe(
            generator={"use": "resnet"},
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
