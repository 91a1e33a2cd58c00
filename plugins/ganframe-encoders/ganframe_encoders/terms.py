"""Terms that train an encoder E beside a GAN, with the generator's optimiser: VAE-GAN, BiGAN and ALI, AAE.

x is a real sample, z a latent, E(x) a code: a point of the latent space. E does not see y.
"""

from __future__ import annotations

import copy
from typing import Literal

import attrs
import torch
from attrs.validators import deep_iterable, ge
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganframe import DataSpec, Parts, Term, Turn, option
from ganframe_encoders.networks import Encoder, Judge, build_encoder, drawn


@attrs.frozen
class EncoderTerm(Term):
    """Base of the terms here: the options of an encoder E, which is `Parts.generator`."""

    latent_dim: int = option(help="numbers of a code; it must be latent.dim of the recipe", validator=ge(1))
    network: Literal["mlp", "conv"] = option("mlp", help="kind of encoder; conv: convolutions with stride 2")
    hidden: tuple[int, ...] = option(
        (128, 128), help="units or channels of each of the encoder's layers", validator=deep_iterable(ge(1))
    )

    @property
    def gaussian(self) -> bool:
        """Whether E returns a mean and a variance."""
        return False

    def encoder(self, data: DataSpec) -> Encoder:
        """A new encoder. Raises ValueError if the options do not suit the data."""
        return build_encoder(self.network, self.hidden, data, self.latent_dim, self.gaussian)

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        return Parts(generator=self.encoder(data))

    def latents(self, turn: Turn) -> Tensor:
        """z of the fakes. Raises ValueError if codes have another number of dimensions."""
        z = turn.fake.z
        if z is None or z.shape[1] != self.latent_dim:
            wanted = "none" if z is None else z.shape[1]
            raise ValueError(f"latent_dim is {self.latent_dim}, and z has {wanted} numbers; set both to the same")
        return z


@attrs.frozen
class VAEGAN(EncoderTerm):
    """VAE-GAN (Larsen et al. 2016, algorithm 1): G is the decoder of a VAE, judged in D's features f, not in pixels.

    E and G minimise weight · (KL + ½ E‖f(x) - f(G(z_x))‖²), z_x = mean + σ · z from E(x). G and D also play the
    recipe's game on reconstructions G(z_x), whose gradient does not reach E, as in the paper. The noise of z_x is z of
    the fakes, so the prior must be normal.
    """

    weight: float = option(
        0.01, help="γ: weight of the VAE's loss beside the game's, for G", validator=ge(0), scheduled=True
    )
    kl: float = option(
        1.0, help="weight of the KL divergence beside the reconstruction", validator=ge(0), scheduled=True
    )
    reconstructions: float = option(
        1.0, help="weight of the game on reconstructions, as on samples", validator=ge(0), scheduled=True
    )

    needs_real = "scores"
    needs_extras = ("features",)

    @property
    def gaussian(self) -> bool:
        return True

    def discriminator_term(self, turn: Turn) -> Tensor | None:
        if not self.reconstructions:
            return None
        real = turn.real
        assert real is not None
        with torch.no_grad():
            rebuilt = turn.G(turn.parts.generator.draw(real.x, self.latents(turn)), real.y)
        loss = turn.objective.discriminator_loss(real.scores, turn.D(rebuilt, real.y))
        return self.reconstructions * loss

    def generator_term(self, turn: Turn) -> Tensor:
        real = turn.real
        assert real is not None
        mean, log_variance = turn.parts.generator.moments(real.x)
        code = drawn(mean, log_variance, self.latents(turn))
        extras: dict[str, Tensor] = {}
        turn.D(turn.G(code, real.y), real.y, extras)
        loss = self.weight * (self.kl * kl_divergence(mean, log_variance) + distance(extras, real.extras))
        if not self.reconstructions:
            return loss
        scores = turn.D(turn.G(code.detach(), real.y), real.y)
        compared = real.scores if turn.objective.compares_real else None
        return loss + self.reconstructions * turn.objective.generator_loss(scores, compared)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mean, σ²) from N(0, I), summed over the numbers of a code, averaged over the batch: a scalar."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> Tensor:
    """½ ‖f - f'‖² of the features, summed over them and averaged over the batch (Larsen et al. 2016, eq. 7)."""
    return (one["features"] - other["features"]).flatten(1).square().sum(1).mean() / 2


@attrs.frozen
class BiGAN(EncoderTerm):
    """BiGAN (Donahue et al. 2017) and ALI (Dumoulin et al. 2017): D judges pairs of a sample and a code.

    A head J on (f(x), z), with D's features f, separates the pairs (x, E(x)) from (G(z), z):
    L_D = E sp(-J(x, E(x))) + E sp(J(G(z), z)), and G and E minimise the same with labels exchanged, sp = softplus. At
    the optimum E inverts G. In the papers this is the whole game: use the objective `idle`. With another objective D
    judges samples alone too, as in BigBiGAN (Donahue & Simonyan 2019). D's features should keep what E needs.
    """

    stochastic: bool = option(False, help="Gaussian codes, as in ALI, not one code for each sample, as in BiGAN")
    joint: tuple[int, ...] = option(
        (128, 128), help="units of each layer of the head on pairs", validator=deep_iterable(ge(1))
    )
    weight: float = option(1.0, help="weight of the game on pairs", validator=ge(0), scheduled=True)

    needs_real = "scores"
    needs_extras = ("features",)

    @property
    def gaussian(self) -> bool:
        return self.stochastic

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        head = Judge(features_of(D, data) + self.latent_dim, self.joint)
        return Parts(generator=self.encoder(data), discriminator=head)

    def discriminator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        z = self.latents(turn)
        with torch.no_grad():
            code = turn.parts.generator.draw(turn.real.x, z)
        return self.weight * logistic(*self.scores(turn, code, z))

    def generator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        z = self.latents(turn)
        real, fake = self.scores(turn, turn.parts.generator.draw(turn.real.x, z), z)
        return self.weight * logistic(fake, real)

    def scores(self, turn: Turn, code: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """J(x, E(x)) and J(G(z), z), each (N,)."""
        assert turn.real is not None
        real, fake = (
            turn.parts.discriminator(torch.cat([side.extras["features"].flatten(1), codes], dim=1))
            for side, codes in ((turn.real, code), (turn.fake, z))
        )
        return real, fake


def logistic(real: Tensor, fake: Tensor) -> Tensor:
    """E sp(-real) + E sp(fake): the logistic loss of scores that should be high for `real` and low for `fake`."""
    return softplus(-real).mean() + softplus(fake).mean()


def features_of(D: nn.Module, data: DataSpec) -> int:
    """The number of D's features of one sample. Tries a copy of D in evaluation mode, so that D stays as it is."""
    tried = copy.deepcopy(D).eval()
    device = next((weight.device for weight in D.parameters()), torch.device("cpu"))
    extras: dict[str, Tensor] = {}
    with torch.no_grad():
        tried(torch.zeros(2, *data.shape, device=device), data.blank(2, device), extras)
    return extras["features"].flatten(1).shape[1]


@attrs.frozen
class AdversarialAutoencoder(EncoderTerm):
    """Adversarial autoencoder (Makhzani et al. 2015): a discriminator of codes gives them the prior's distribution.

    E and G minimise reconstruction · mean (x - G(E(x)))² + adversarial · E sp(-C(E(x))). C, the discriminator of codes,
    separates latents z from codes: L_C = E sp(-C(z)) + E sp(C(E(x))). This is the whole game of the paper: use the
    objective `idle`. With another objective D judges G's samples too.
    """

    reconstruction: float = option(
        1.0, help="weight of the squared error of a reconstruction", validator=ge(0), scheduled=True
    )
    adversarial: float = option(
        0.1, help="weight of the game on codes in the loss of E", validator=ge(0), scheduled=True
    )
    judge: tuple[int, ...] = option(
        (128, 128), help="units of each layer of the discriminator of codes", validator=deep_iterable(ge(1))
    )

    needs_real = "x"

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        return Parts(generator=self.encoder(data), discriminator=Judge(self.latent_dim, self.judge))

    def discriminator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        with torch.no_grad():
            code = turn.parts.generator(turn.real.x)
        return logistic(turn.parts.discriminator(self.latents(turn)), turn.parts.discriminator(code))

    def generator_term(self, turn: Turn) -> Tensor:
        real = turn.real
        assert real is not None
        code = turn.parts.generator(real.x)
        if code.shape != self.latents(turn).shape:
            raise ValueError(f"codes have the shape {tuple(code.shape)}")
        error = (turn.G(code, real.y) - real.x).square().mean()
        return self.reconstruction * error + self.adversarial * softplus(-turn.parts.discriminator(code)).mean()


TERMS: dict[str, type[EncoderTerm]] = {"vae_gan": VAEGAN, "bigan": BiGAN, "aae": AdversarialAutoencoder}
"""The terms by their names in a recipe."""
