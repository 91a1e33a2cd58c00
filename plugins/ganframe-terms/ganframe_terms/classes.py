"""Classes beside real and fake: the class head of AC-GAN, and the game of K + 1 classes with few labels."""

from __future__ import annotations

import attrs
import torch
from attrs.validators import ge, optional
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ganframe import DataSpec, Discriminator, Parts, Term, Turn, option, whole_batch
from ganframe_terms.networks import feature_width, read_extra, refuse_known_labels


@attrs.frozen
class ClassHead(Term):
    """AC-GAN (Odena et al. 2017, eq. 3): a linear layer on D's features names the class of real and fake samples.

    D's loss gains weight_discriminator · (E -log C(y | x) + E -log C(y | G(z, y))), G's loss
    weight_generator · E -log C(y | G(z, y)). D itself must not see the label.
    """

    weight_discriminator: float = option(1.0, help="weight in D's loss", validator=ge(0), scheduled=True)
    weight_generator: float = option(1.0, help="weight in G's loss", validator=ge(0), scheduled=True)
    on_fakes: bool = option(True, help="whether the head learns on fake samples too, as in the paper")

    needs_extras = ("features",)

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        if data.classes is None:
            raise ValueError("needs classes, and this data has no labels; remove the term or choose labelled data")
        features = read_extra(D, data, "features")
        refuse_known_labels(features, "the features")
        return Parts(discriminator=nn.Linear(features.shape[1], data.classes))

    def discriminator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        sides = (turn.real, turn.fake) if self.on_fakes else (turn.real,)
        losses = [_cross_entropy(turn.parts.discriminator, side.extras["features"], side.y) for side in sides]
        return self.weight_discriminator * torch.stack(losses).sum()

    def generator_term(self, turn: Turn) -> Tensor:
        loss = _cross_entropy(turn.parts.discriminator, turn.fake.extras["features"], turn.fake.y)
        return self.weight_generator * loss


def _cross_entropy(head: nn.Module | None, features: Tensor, y: Tensor) -> Tensor:
    assert head is not None
    return cross_entropy(head(features.flatten(1)), y)


@attrs.frozen
class SemiSupervised(Term):
    """weight · E -log p(y | x, y ≤ K) over the labelled samples: the supervised part of the K + 1 game.

    Salimans et al. 2016, section 5. The unsupervised part is the objective `vanilla` or `non_saturating` on the scores
    of the discriminator `class_scores`, whose K logits this term reads. Labels from K on mean that the class is not
    known. The mean is over the labelled samples of the batch; a batch without any adds nothing.
    """

    weight: float = option(1.0, help="weight of the term", validator=ge(0), scheduled=True)

    needs_extras = ("logits",)

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> None:
        if data.classes is None:
            raise ValueError("needs classes, and this data has no labels; remove the term or choose labelled data")
        read_extra(D, data, "logits")

    def discriminator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        logits, y = turn.real.extras["logits"], turn.real.y
        known = y < logits.shape[1]
        losses = cross_entropy(logits, y.where(known, 0), reduction="none").where(known, 0)
        share = whole_batch(known.to(losses.dtype)).mean().clamp(min=1 / (1 << 20))
        return self.weight * losses.mean() / share


@attrs.frozen
class ClassScores(Discriminator):
    """The discriminator of the K + 1 game: its score is log Σ exp of K class logits (Salimans et al. 2016, section 5).

    Its sigmoid is D(x) = Z/(Z + 1), the probability that x is of one of the K classes, with Z = Σ exp l_k and the
    logit of the class "fake" fixed at 0. The logits are l_k = s + w_k·f + b_k, of the score s and the features f of
    another discriminator: K linear functions of f, where s is one. It returns them as the extra "logits".
    """

    of: Discriminator = option(help="the discriminator that the class logits are added to; it must see samples alone")
    classes: int | None = option(
        None,
        help="K; by default the classes of the data except the last, which means unlabelled",
        validator=optional(ge(1)),
    )

    def build(self, data: DataSpec) -> nn.Module:
        if data.classes is None:
            raise ValueError("class_scores needs classes, and this data has no labels; choose labelled data")
        classes = data.classes - 1 if self.classes is None else self.classes
        if not 1 <= classes <= data.classes:
            raise ValueError(
                f"the data has {data.classes} classes, the last of which means unlabelled: {classes} remain; "
                "set `classes`, or choose the dataset partly_labelled"
            )
        inner = self.of.build(data)
        if not any(getattr(module, "gives_extras", False) for module in inner.modules()):
            raise ValueError("class_scores reads features of its `of`, which declares no gives_extras; use another")
        network = _ClassScores(inner, feature_width(inner, data), classes)
        refuse_known_labels(read_extra(network, data, "logits"), "the scores")
        return network


class _ClassScores(nn.Module):
    gives_extras = True

    def __init__(self, inner: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.inner = inner
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor, y: Tensor, extras: dict[str, Tensor] | None = None) -> Tensor:
        extras = {} if extras is None else extras
        score = self.inner(x, y, extras)
        extras["logits"] = score[:, None] + self.head(extras["features"].flatten(1))
        return extras["logits"].logsumexp(1)
