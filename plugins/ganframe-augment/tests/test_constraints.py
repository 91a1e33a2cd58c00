"""diffaugment, ada and bcr: conformance, what they do in each mode, ADA's memory by hand."""

import copy

import attrs
import pytest
import torch
from ganframe_augment import AdaptiveAugmentation, BalancedConsistency, DiffAugment
from torch import nn

import ganframe
from ganframe import Scored
from ganframe.testing import check_constraint

ADA = AdaptiveAugmentation(p=1.0)


class Sum(nn.Module):
    """D(x) = w · the first pixel + b · extras; records what it sees."""

    gives_extras = True

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.seen = []

    def forward(self, x, y, extras=None):
        self.seen.append(x)
        if extras is not None:
            extras["features"] = x.flatten(1)
        return self.weight * x.flatten(1).sum(1)


def images(n=4, channels=1):
    return torch.rand(n, channels, 8, 8) * 2 - 1


def labels(n=4):
    return torch.zeros(n, dtype=torch.long)


def side(D, x):
    return Scored(x, labels(len(x)), D(x, labels(len(x))))


CONFORMING = [
    DiffAugment(),
    *(DiffAugment(policy=(name,)) for name in ("color", "translation", "cutout")),
    AdaptiveAugmentation(),
    ADA,
    AdaptiveAugmentation(p=0.5, policy=("flip", "rotate")),
    BalancedConsistency(),
    BalancedConsistency(policy=("noise",)),
    BalancedConsistency(weight_real=0.0),
    BalancedConsistency(weight_fake=0.0),
]


@pytest.mark.parametrize("constraint", CONFORMING, ids=str)
def test_conformance(constraint):
    check_constraint(constraint)


@pytest.mark.parametrize(
    ("name", "cls"), [("diffaugment", DiffAugment), ("ada", AdaptiveAugmentation), ("bcr", BalancedConsistency)]
)
def test_components_are_registered(name, cls):
    assert ganframe.component("constraint", name) is cls


# ------------------------------------------------------------------------------------------------------------ wrapping

WRAPPING = [DiffAugment(), ADA]


@pytest.mark.parametrize("constraint", WRAPPING, ids=str)
def test_images_are_augmented_in_training_mode_only(constraint):
    D = constraint.wrap(Sum())
    x = images()
    D(x, labels())
    D.eval()(x, labels())
    assert not torch.equal(D.inner.seen[0], x)
    assert torch.equal(D.inner.seen[1], x)


@pytest.mark.parametrize("constraint", WRAPPING, ids=str)
def test_extras_pass_through_the_wrapper(constraint):
    D, extras = constraint.wrap(Sum()).eval(), {}
    D(images(), labels(), extras)
    assert extras["features"].shape == (4, 64)


@pytest.mark.parametrize("constraint", WRAPPING, ids=str)
def test_gradient_of_generator_passes_through_the_augmentation(constraint):
    D, x = constraint.wrap(Sum()), images().requires_grad_()
    (slope,) = torch.autograd.grad(D(x, labels()).sum(), x)
    assert slope.abs().sum() > 0


@pytest.mark.parametrize("constraint", WRAPPING, ids=str)
def test_wrapping_twice_raises_value_error(constraint):
    with pytest.raises(ValueError, match="apply it only once"):
        constraint.wrap(constraint.wrap(Sum()))


@pytest.mark.parametrize("constraint", WRAPPING, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_points_raise_value_error(constraint, training):
    with pytest.raises(ValueError, match=r"images of shape \(C, H, W\), and these samples have shape \(2,\)"):
        constraint.wrap(Sum()).train(training)(torch.zeros(4, 2), labels())


def test_augmentation_of_colours_leaves_grey_images():
    D = AdaptiveAugmentation(p=1.0, policy=("saturation", "hue")).wrap(Sum())
    grey, coloured = images(), images(channels=3)
    D(grey, labels())
    D(coloured, labels())
    assert torch.equal(D.inner.seen[0], grey)
    assert not torch.equal(D.inner.seen[1], coloured)


# ----------------------------------------------------------------------------------------------------------------- ada


def look(constraint, D, scores, step):
    """What the engine does in a discriminator step with these scores of real images."""
    D.training_step.fill_(step)
    real = Scored(images(len(scores)), labels(len(scores)), torch.tensor(scores))
    assert constraint.penalty(D, real, real) is None


def test_share_of_augmented_images_is_p():
    D = AdaptiveAugmentation(p=0.3, policy=("brightness",)).wrap(Sum())
    x = images(5000)
    D(x, labels(5000))
    assert (D.inner.seen[0] != x).flatten(1).any(1).float().mean() == pytest.approx(0.3, abs=0.02)


def test_p_moves_by_the_sign_of_overfitting_each_interval():
    constraint = AdaptiveAugmentation(steps=10, interval=2, target=0.5)
    D = constraint.wrap(Sum())
    p = []
    for step in range(9):
        look(constraint, D, [1.0, 1.0, 1.0, 1.0] if step < 5 else [1.0, -1.0, 2.0, -3.0], step)
        p.append(round(D.p.item(), 6))
    # At steps 2 and 4 from r = 1, at 6 from the mean of 1 and 0, which is the target, at 8 from 0.
    assert p == [0, 0, 0.2, 0.2, 0.4, 0.4, 0.4, 0.4, 0.2]


def test_overfitting_is_measured_since_the_last_move():
    constraint = AdaptiveAugmentation(steps=10, interval=1)
    D = constraint.wrap(Sum())
    look(constraint, D, [1.0, -1.0, 1.0, 1.0], 0)
    assert (D.signs.item(), D.count.item(), D.moved.item()) == (2, 4, 0)
    look(constraint, D, [1.0, 1.0, 1.0, 0.0], 1)
    assert (D.signs.item(), D.count.item(), D.moved.item()) == (3, 4, 1)


@pytest.mark.parametrize(("scores", "end"), [([1.0], 1.0), ([-1.0], 0.0)])
def test_p_stays_between_0_and_1(scores, end):
    constraint = AdaptiveAugmentation(steps=4, interval=3, p=0.5)
    D = constraint.wrap(Sum())
    for step in range(12):
        look(constraint, D, scores, step)
    assert D.p.item() == end


def test_several_looks_in_a_step_move_p_once():
    """As with several discriminator steps for one of the generator, or a batch in parts."""
    constraint = AdaptiveAugmentation(steps=10, interval=1)
    D = constraint.wrap(Sum())
    for step in (0, 0, 1, 1, 1):
        look(constraint, D, [1.0], step)
    assert D.p.item() == pytest.approx(0.1)
    assert D.count.item() == 3


def test_sums_averaged_over_processes_move_p_as_one_process_does():
    constraint = AdaptiveAugmentation(steps=10, interval=2, target=0.4)
    whole, *shares = (constraint.wrap(Sum()) for _ in range(3))
    scores = [[1.0, 1.0, 1.0, -1.0, 1.0, 1.0], [1.0, -1.0, 1.0, 1.0, -1.0, 1.0]]
    for step in range(5):
        given = scores[step % 2]
        look(constraint, whole, given, step)
        for share, part in zip(shares, (given[:3], given[3:]), strict=True):
            look(constraint, share, part, step)
        for name in ("p", "signs", "count"):  # as the engine does in each step
            mean = (getattr(shares[0], name) + getattr(shares[1], name)) / 2
            for share in shares:
                getattr(share, name).copy_(mean)
    assert whole.p.item() > 0
    assert [share.p.item() for share in shares] == [whole.p.item()] * 2


def test_p_of_an_earlier_run_moves_on_from_step_0():
    constraint = AdaptiveAugmentation(steps=10, interval=2, p=0.5)
    D = constraint.wrap(Sum())
    D.moved.fill_(1000)
    look(constraint, D, [1.0], 0)
    assert D.moved.item() == 0
    for step in (1, 2):
        look(constraint, D, [1.0], step)
    assert D.p.item() == pytest.approx(0.7)


def test_memory_is_restored_by_state_dict():
    constraint = AdaptiveAugmentation(steps=10, interval=1)
    D = constraint.wrap(Sum())
    for step in range(4):
        look(constraint, D, [1.0], step)
    other = constraint.wrap(Sum())
    other.load_state_dict(copy.deepcopy(D.state_dict()))
    for network in (D, other):
        look(constraint, network, [1.0], 4)
    assert other.p.item() == D.p.item() == pytest.approx(0.4)


def test_ada_inside_another_wrapper_finds_its_memory():
    D = DiffAugment().wrap(AdaptiveAugmentation().wrap(Sum()))
    real = Scored(images(), labels(), torch.ones(4))
    AdaptiveAugmentation().penalty(D, real, real)
    assert D.inner.count.item() == 4


@pytest.mark.parametrize("options", [{"p": 1.5}, {"target": 1.0}, {"steps": 0}, {"interval": 0}, {"policy": ()}])
def test_options_of_ada_out_of_range_raise_value_error(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AdaptiveAugmentation(**options)


# ----------------------------------------------------------------------------------------------------------------- bcr


def test_consistency_by_hand(monkeypatch):
    """Noise of 1 in each of 64 pixels moves the score of w = 2 by 128 · std."""
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    constraint = BalancedConsistency(weight_real=3.0, weight_fake=5.0, policy=("noise",), std=0.01)
    D = Sum()
    assert constraint.penalty(D, side(D, images()), side(D, images())).item() == pytest.approx(8 * 1.28**2, rel=1e-4)


def test_consistency_is_0_for_a_discriminator_that_does_not_see_the_augmentation():
    constraint = BalancedConsistency(policy=("flip",))  # the sum of pixels does not change
    D = Sum()
    assert constraint.penalty(D, side(D, images()), side(D, images())).item() == pytest.approx(0, abs=1e-6)


def test_consistency_augments_both_sides():
    constraint = BalancedConsistency()
    D = Sum()
    real, fake = side(D, images()), side(D, images())
    D.seen.clear()
    constraint.penalty(D, real, fake)
    assert len(D.seen) == 2
    assert not torch.equal(D.seen[0], real.x)
    assert not torch.equal(D.seen[1], fake.x)


def test_gradient_of_consistency_reaches_weights_through_both_passes():
    constraint = BalancedConsistency(policy=("noise",), std=1.0)
    D = Sum()
    penalty = constraint.penalty(D, side(D, images()), side(D, images()))
    (slope,) = torch.autograd.grad(penalty, D.weight)
    assert slope.item() == pytest.approx(2 * penalty.item() / D.weight.item(), rel=1e-4)  # it is quadratic in w


def test_consistency_of_points_by_moving_pixels_raises_value_error():
    D = Sum()
    points = side(D, torch.zeros(4, 2))
    with pytest.raises(ValueError, match="bcr: flip augments images"):
        BalancedConsistency().penalty(D, points, points)


def test_weights_of_consistency_can_be_scheduled():
    scheduled = {f.name for f in attrs.fields(BalancedConsistency) if f.metadata["scheduled"]}
    assert scheduled == {"weight_real", "weight_fake"}
