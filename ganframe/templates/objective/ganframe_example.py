"""The example objective as a plugin of ganframe."""

import attrs
from torch.nn.functional import relu

from ganframe import Objective, hookimpl, option


@attrs.frozen
class Example(Objective):
    """Hinge loss (Lim & Ye 2017): L_D = relu(margin - a) + relu(margin + b), L_G = -b."""

    margin: float = option(1.0, help="scores beyond this distance from 0 have zero loss")

    def discriminator_loss(self, real, fake):
        return relu(self.margin - real).mean() + relu(self.margin + fake).mean()

    def generator_loss(self, fake, real=None):
        return -fake.mean()

    def optimal_score(self, log_ratio):
        return self.margin * log_ratio.sign()


@hookimpl
def ganframe_objectives():
    return {"example": Example}
