"""InfoGAN's term: values by hand, which part of z is the code, and what it refuses."""

import math

import pytest
import torch
from ganframe_terms import Info
from torch import nn

from ganframe import Parts, Scored, Turn


def turn(z, features, Q):
    fake = Scored(features, None, torch.zeros(len(z)), z, {"features": features})
    return Turn(None, None, None, fake, None, 0, Parts(generator=Q))


def test_info_is_cross_entropy_of_the_category_and_half_the_squared_error_of_the_code():
    z = torch.tensor([[9.0, 1.0, 0.0, 2.0, 0.5], [9.0, 0.0, 1.0, 0.0, 1.0]])  # noise, two categories, two codes
    read = torch.tensor([[math.log(3), 0.0, 1.0, 0.5], [math.log(3), 0.0, 0.0, -2.0]])  # what Q returns
    term = Info(categories=2, continuous=2, weight_generator=2.0, weight_discriminator=3.0, continuous_weight=0.1)
    given = turn(z, read, nn.Identity())
    # Category 0 with probability ¾, category 1 with ¼; squared errors 1 and 9.
    by_hand = (-math.log(3 / 4) - math.log(1 / 4)) / 2 + 0.1 * (1 + 9) / 2 / 2
    assert term.generator_term(given).item() == pytest.approx(2 * by_hand)
    assert term.discriminator_term(given).item() == pytest.approx(3 * by_hand)


def test_info_of_one_kind_of_code_is_that_part_alone():
    z, read = torch.randn(8, 6), torch.randn(8, 3)
    given = turn(z, read, nn.Identity())
    only = Info(categories=3, continuous=0).generator_term(given)
    torch.testing.assert_close(only, nn.functional.cross_entropy(read, z[:, 3:].argmax(1)))
    only = Info(categories=0, continuous=3, continuous_weight=1.0).generator_term(given)
    torch.testing.assert_close(only, (z[:, 3:] - read).square().sum(1).mean() / 2)


def test_info_gradient_reaches_samples_and_reader():
    Q, features = nn.Linear(4, 12), torch.randn(8, 4, requires_grad=True)
    Info().generator_term(turn(torch.randn(8, 12), features, Q)).backward()
    assert features.grad.any()
    assert all(p.grad.any() for p in Q.parameters())


def test_code_longer_than_latents_raises_value_error():
    with pytest.raises(ValueError, match=r"12 numbers and z has 8; raise latent\.dim"):
        Info().generator_term(turn(torch.randn(4, 8), torch.randn(4, 4), nn.Linear(4, 12)))


@pytest.mark.parametrize("options", [{"categories": 1}, {"categories": 0, "continuous": 0}])
def test_empty_code_raises_value_error(options):
    with pytest.raises(ValueError, match="at least two categories"):
        Info(**options)
