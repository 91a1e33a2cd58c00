"""The class head and the K + 1 game: values by hand, the identities of the papers, and what they refuse."""

import math

import pytest
import torch
from ganframe_terms import ClassHead, ClassScores, SemiSupervised
from torch import nn
from torch.nn.functional import cross_entropy

import ganframe
from ganframe import DataSpec, Parts, Scored, Turn
from ganframe.testing import check_discriminator

DATA = DataSpec((5,), classes=4)
MLP = ganframe.component("discriminator", "mlp")


def side(features, y, name="features"):
    return Scored(features, y, torch.zeros(len(y)), None, {name: features})


def turn(real, fake, head=None):
    return Turn(None, None, real, fake, None, 0, Parts(discriminator=head))


def test_class_head_adds_cross_entropy_of_both_sides_to_each_loss():
    head = nn.Linear(3, 4)
    real, fake = (side(torch.randn(6, 3), torch.randint(4, (6,))) for _ in range(2))
    of_real, of_fake = (cross_entropy(head(s.x), s.y).item() for s in (real, fake))
    given = turn(real, fake, head)
    term = ClassHead(weight_discriminator=2.0, weight_generator=0.5)
    assert term.discriminator_term(given).item() == pytest.approx(2 * (of_real + of_fake))
    assert term.generator_term(given).item() == pytest.approx(0.5 * of_fake)
    assert ClassHead(on_fakes=False).discriminator_term(given).item() == pytest.approx(of_real)


def test_class_head_without_labels_raises_value_error():
    with pytest.raises(ValueError, match="no labels"):
        ClassHead().prepare(None, MLP().build(DataSpec((5,))), DataSpec((5,)))


def test_class_head_on_features_that_contain_the_label_raises_value_error():
    with pytest.raises(ValueError, match="depend on the label"):
        ClassHead().prepare(None, MLP(condition="concat").build(DATA), DATA)
    ClassHead().prepare(None, MLP(condition="projection").build(DATA), DATA)  # only its score depends on the label


@pytest.mark.parametrize("D", [MLP(norm="batch", dropout=0.5), MLP(hidden=(7,))], ids=str)
def test_prepare_leaves_discriminator_and_its_mode_as_they_are(D):
    network = D.build(DATA)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parts = ClassHead().prepare(None, network, DATA)
    assert parts.discriminator.weight.shape == (4, D.hidden[-1])
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Pairs(nn.Module):
    """Features of pairs of samples, which it mixes."""

    gives_extras = True
    mixes_groups_of = 2

    def forward(self, x, y, extras=None):
        features = x.unflatten(0, (-1, 2)).sum(1).repeat_interleave(2, 0)
        if extras is not None:
            extras["features"] = features
        return features.sum(1)


def test_class_head_suits_discriminator_that_mixes_groups():
    data = DataSpec((5,), classes=3)
    assert ClassHead().prepare(None, Pairs(), data).discriminator.weight.shape == (3, 5)


# ------------------------------------------------------------------------------------------------- the game of K + 1


def logits_and_score(D, x):
    extras = {}
    return D(x, torch.zeros(len(x), dtype=torch.long), extras), extras["logits"]


def test_class_scores_sigmoid_is_probability_of_the_k_classes_among_k_plus_1():
    D = ClassScores(of=MLP(hidden=(8,))).build(DATA)
    score, logits = logits_and_score(D, torch.randn(6, 5))
    assert logits.shape == (6, 3)  # the last class means unlabelled
    among = torch.cat([logits, torch.zeros(6, 1)], dim=1).softmax(1)  # the class "fake" has the logit 0
    torch.testing.assert_close(score.sigmoid(), among[:, :3].sum(1))


def test_vanilla_loss_of_class_scores_is_unsupervised_loss_of_the_paper():
    """Salimans et al. 2016, section 5: -E log(1 - p(K + 1 | x)) - E log p(K + 1 | G(z))."""
    D = ClassScores(of=MLP(hidden=(8,)), classes=4).build(DATA)
    (real, of_real), (fake, of_fake) = (logits_and_score(D, torch.randn(6, 5)) for _ in range(2))
    p_real, p_fake = (torch.cat([v, torch.zeros(6, 1)], dim=1).softmax(1)[:, 4] for v in (of_real, of_fake))
    expected = -(1 - p_real).log().mean() - p_fake.log().mean()
    vanilla = ganframe.component("objective", "vanilla")()
    torch.testing.assert_close(vanilla.discriminator_loss(real, fake), expected)


def test_semi_supervised_is_cross_entropy_of_labelled_samples():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [5.0, -5.0], [9.0, 9.0]], requires_grad=True)
    real = side(logits, torch.tensor([0, 1, 2, 3]), "logits")  # 2 and 3: not known
    value = SemiSupervised(weight=2.0).discriminator_term(turn(real, None))
    assert value.item() == pytest.approx(2 * (math.log(2) + math.log(4)) / 2)
    (gradient,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(gradient, torch.tensor([[-0.5, 0.5], [0.75, -0.75], [0.0, 0.0], [0.0, 0.0]]))


def test_semi_supervised_of_a_batch_without_labels_is_0():
    logits = torch.randn(4, 2, requires_grad=True)
    value = SemiSupervised().discriminator_term(turn(side(logits, torch.full((4,), 2), "logits"), None))
    assert value.item() == 0
    assert not torch.autograd.grad(value, logits)[0].any()


def test_semi_supervised_with_another_discriminator_raises_value_error():
    with pytest.raises(ValueError, match="extra 'logits', and this one returns features"):
        SemiSupervised().prepare(None, MLP().build(DATA), DATA)


@pytest.mark.parametrize(
    ("discriminator", "data", "message"),
    [
        (ClassScores(of=MLP()), DataSpec((5,)), "no labels"),
        (ClassScores(of=MLP()), DataSpec((5,), classes=1), "0 remain"),
        (ClassScores(of=MLP(), classes=5), DATA, "the data has 4 classes"),
        (ClassScores(of=MLP(condition="projection")), DATA, "depend on the label"),
        (ClassScores(of=MLP(condition="concat")), DATA, "depend on the label"),
    ],
)
def test_class_scores_that_do_not_fit_raise_value_error(discriminator, data, message):
    with pytest.raises(ValueError, match=message):
        discriminator.build(data)


def test_class_scores_conformance():
    check_discriminator(ClassScores(of=MLP(hidden=(8,))))
