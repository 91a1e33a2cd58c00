"""The example objective as a plugin of ganframe."""

import attrs
from torch.nn.functional import relu

from ganframe import Objective, hookimpl, option


@attrs.frozen
class Example(Objective):
    """Hinge loss (Lim & Ye 2017): L_D = relu(margin - a) + relu(margin + b), L_G = -b."""

    margin: float = option(1.0, help="scores beyond this distance from 0 have zero loss")

    # TO CHANGE: the formula of both losses, and `optimal_score`, or leave that method out. Change with them the
    # docstring, the options, and the test marked TO CHANGE in tests/test_example.py: it has numbers computed by hand.
    def discriminator_loss(self, real, fake):
        return relu(self.margin - real).mean() + relu(self.margin + fake).mean()

    def generator_loss(self, fake, real=None):
        return -fake.mean()

    def optimal_score(self, log_ratio):
        return self.margin * log_ratio.sign()


@hookimpl
def ganframe_objectives():
    return {"example": Example}
