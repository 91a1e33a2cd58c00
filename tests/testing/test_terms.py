"""check_term accepts right terms, and refuses terms with one mistake each with the reason."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn

from ganframe import DataSpec, Parts, Term, option
from ganframe.testing import check_term

POINTS = DataSpec((3,), classes=4)


@attrs.frozen
class Mean(Term):
    """weight · ‖E x - E G(z)‖²."""

    weight: float = option(1.0, help="weight", scheduled=True)

    needs_real = "x"

    def generator_term(self, turn):
        return self.weight * (turn.real.x.mean(0) - turn.fake.x.mean(0)).square().sum()


@attrs.frozen
class FeatureMatching(Term):
    """‖E f(x) - E f(G(z))‖²."""

    needs_real = "scores"
    needs_extras = ("features",)

    def generator_term(self, turn):
        real, fake = (side.extras["features"].mean(0) for side in (turn.real, turn.fake))
        return (real.detach() - fake).square().mean()


@attrs.frozen
class ModeSeeking(Term):
    """Minus the distance of pairs of fakes over that of their latents, every other step."""

    def generator_term(self, turn):
        if turn.step % 2:
            return None
        x, z = turn.fake.x.flatten(1), turn.fake.z
        return -((x - x.flip(0)).abs().mean(1) / ((z - z.flip(0)).abs().mean(1) + 1e-3)).mean()


@attrs.frozen
class ClassHead(Term):
    """A classifier of D's features, trained with D; G's samples should be of their class."""

    needs_extras = ("features",)

    def prepare(self, G, D, data):
        if data.classes is None:
            raise ValueError("needs classes; use a dataset with labels")
        return Parts(discriminator=nn.Linear(16, data.classes))

    def discriminator_term(self, turn):
        return nn.functional.cross_entropy(turn.parts.discriminator(turn.real.extras["features"]), turn.real.y)

    def generator_term(self, turn):
        return nn.functional.cross_entropy(turn.parts.discriminator(turn.fake.extras["features"]), turn.fake.y)


@attrs.frozen
class Info(Term):
    """Q reads z back from G's samples and is trained with G."""

    def prepare(self, G, D, data):
        return Parts(generator=nn.Sequential(nn.Flatten(), nn.LazyLinear(8)))

    def generator_term(self, turn):
        return (turn.parts.generator(turn.fake.x) - turn.fake.z).square().mean()


class Running(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))


@attrs.frozen
class Memory(Term):
    """A moving mean of scores, from which the fakes' scores should not go away."""

    decay: float = option(0.5, help="of the mean", scheduled=True)

    def prepare(self, G, D, data):
        return Parts(discriminator=Running())

    def discriminator_term(self, turn):
        memory = turn.parts.discriminator
        memory.mean.lerp_(turn.real.scores.detach().mean(), 1 - self.decay)
        return (turn.fake.scores - memory.mean).square().mean()


@attrs.frozen
class Perceptual(Term):
    """The distance of the features of a frozen network, which differs in every run."""

    needs_real = "x"

    def prepare(self, G, D, data):
        return Parts(frozen=nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(data.shape).numel(), 8)))

    def generator_term(self, turn):
        features = turn.parts.frozen
        return (features(turn.real.x) - features(turn.fake.x)).abs().mean()


@pytest.mark.parametrize(
    "term", [Mean, Mean(weight=0.0), FeatureMatching, ModeSeeking, ClassHead, Memory, Perceptual], ids=str
)
def test_right_terms_are_accepted(term):
    if term == Mean(weight=0.0):
        with pytest.raises(AssertionError, match="no gradient of it reaches a weight"):
            check_term(term, POINTS)
    else:
        check_term(term, POINTS)


def test_several_kinds_of_data_are_tried_and_one_must_suit():
    check_term(ClassHead)
    with pytest.raises(AssertionError, match=r"accepts none of the data tried.*needs classes; use a dataset"):
        check_term(ClassHead, DataSpec((3,)))


@pytest.mark.parametrize("data", [DataSpec((3,), condition=(4,)), DataSpec((1, 8, 8), condition=(1, 8, 8))])
def test_terms_are_checked_with_conditions(data):
    check_term(Mean, data)


def test_extras_of_any_name_are_given():
    class Codes(Term):
        needs_extras = ("codes",)

        def discriminator_term(self, turn):
            return turn.real.extras["codes"].square().mean()

    check_term(attrs.frozen(Codes), POINTS)


# ------------------------------------------------------------------------------------------------------ wrong terms


def term(needs_real=None, needs_extras=(), prepare=None, generator=None, discriminator=None):
    """A term of these functions."""
    methods = {"generator_term": generator, "discriminator_term": discriminator, "prepare": prepare}
    body = {name: staticless(function) for name, function in methods.items() if function is not None}
    return attrs.frozen(type("Wrong", (Term,), {**body, "needs_real": needs_real, "needs_extras": needs_extras}))


def staticless(function):
    return lambda self, *arguments: function(*arguments)


def spread(turn):
    return turn.fake.x.square().mean()


def in_place(turn):
    turn.fake.x.detach().mul_(2)
    return turn.fake.x.square().mean()


def trains_discriminator(turn):
    turn.D.requires_grad_(True)
    return turn.fake.scores.mean()


def steps_itself(turn):
    (2 * turn.fake.x.mean()).backward(retain_graph=True)
    return turn.fake.x.mean()


def writes_weights(turn):
    with torch.no_grad():
        next(turn.G.parameters()).mul_(0.9)
    return turn.fake.x.mean() * 2


def frees_graph(turn):
    torch.autograd.grad(turn.fake.x.sum(), list(turn.G.parameters()))
    return turn.fake.x.mean()


SEEN = []
COUNTS = {"calls": 0}


def counts_in_a_global(turn):
    COUNTS["calls"] += 1
    return turn.fake.x.square().mean() * COUNTS["calls"]


def counts_on_the_discriminator(turn):
    turn.D.count = getattr(turn.D, "count", 0) + 1
    return turn.fake.x.square().mean() * turn.D.count


def registers_late(turn):
    memory = turn.parts.generator
    if not hasattr(memory, "calls"):
        memory.register_buffer("calls", torch.zeros(()))
    memory.calls += 1
    return turn.fake.x.square().mean() * memory.calls


def registers_on_the_discriminator(turn):
    if not hasattr(turn.D, "calls"):
        turn.D.register_buffer("calls", torch.zeros(()))
    return turn.fake.x.square().mean() + 0 * turn.D.calls


class Unregistered(nn.Module):
    calls = 0


def counts_outside_the_state(turn):
    turn.parts.generator.calls += 1
    return turn.fake.x.square().mean() * turn.parts.generator.calls


def changes_frozen(turn):
    turn.parts.frozen.mean += 1
    return turn.fake.x.square().mean() * turn.parts.frozen.mean


def prepares_by_a_change(G, D, data):
    with torch.no_grad():
        next(D.parameters()).mul_(2)


WRONG = [
    (term(), "does nothing: override discriminator_term or generator_term"),
    (term("samples", generator=spread), "needs_real must be None, 'x' or 'scores', not 'samples'"),
    (term(needs_extras="features", generator=spread), "needs_extras must be a tuple of names"),
    (term(generator=lambda turn: 1.0), "must return a tensor or None, not float"),
    (term(generator=lambda turn: turn.fake.scores), r"must be a scalar; its shape is \(8,\)"),
    (term(generator=lambda turn: turn.fake.x.double().mean()), "must be in float32, not torch.float64"),
    (term(generator=lambda turn: turn.fake.x.mean() / 0), "generator_term is .*inf.* for DataSpec"),
    (term(generator=lambda turn: turn.fake.x.detach().mean()), "no gradient of it reaches a weight"),
    (term(generator=lambda turn: None), "no gradient of it reaches a weight"),
    (term("x", generator=lambda turn: turn.real.x.mean()), "no gradient of it reaches a weight"),
    (
        term(generator=lambda turn: (turn.real.x - turn.fake.x).mean()),
        "reads turn.real, which is None; declare needs_real = 'x'",
    ),
    (
        term(generator=lambda turn: (turn.real.scores - turn.fake.scores).mean()),
        "reads turn.real, which is None; declare needs_real = 'scores'",
    ),
    (
        term("x", generator=lambda turn: (turn.real.scores - turn.fake.scores).mean()),
        "reads turn.real's scores or extras; declare needs_real = 'scores'",
    ),
    (
        term(
            "x",
            ("features",),
            generator=lambda turn: (turn.real.extras["features"] - turn.fake.extras["features"]).mean(),
        ),
        "reads turn.real's scores or extras; declare needs_real = 'scores'",
    ),
    (
        term(generator=lambda turn: turn.fake.extras["features"].mean()),
        r"generator_term.* raised KeyError: .*extras\['features'\] is not in needs_extras",
    ),
    (
        term(needs_extras=("classes",), discriminator=lambda turn: turn.real.extras["features"].mean()),
        r"extras\['features'\] is not in needs_extras",
    ),
    (term(generator=in_place), "generator_term changes samples or scores in place"),
    (term(generator=trains_discriminator), r"generator_term changes requires_grad of D\.hidden\.0\.weight"),
    (term(generator=steps_itself), r"generator_term changes G\.layers\.0\.weight\.grad"),
    (term(generator=writes_weights), r"generator_term changes G\.layers\.0\.weight"),
    (term(generator=frees_graph), r"backward\(\) of generator_term raised RuntimeError"),
    (term(generator=counts_in_a_global), "saved after 3 steps and restored in new networks, the next values are"),
    (term(generator=counts_on_the_discriminator), "saved after 3 steps and restored in new networks"),
    (
        term(generator=registers_late, prepare=lambda G, D, data: Parts(generator=nn.Module())),
        "calls appears in parts.generator after the first step",
    ),
    (term(generator=registers_on_the_discriminator), r"changes D\.calls|calls appears in D after the first step"),
    (
        term(generator=counts_outside_the_state, prepare=lambda G, D, data: Parts(generator=Unregistered())),
        "what a term remembers must be a buffer or a weight in the modules that prepare returns",
    ),
    (
        term(generator=changes_frozen, prepare=lambda G, D, data: Parts(frozen=Running())),
        r"changes parts\.frozen\.mean",
    ),
    (term(generator=spread, prepare=prepares_by_a_change), r"prepare changes D\.hidden\.0\.weight"),
    (term(generator=spread, prepare=lambda G, D, data: D.eval() and None), "prepare changes D's training mode"),
    (
        term(generator=spread, prepare=lambda G, D, data: D.register_forward_hook(print) and None),
        "prepare changes D's hooks",
    ),
    (term(generator=spread, prepare=lambda G, D, data: Parts(generator=D)), "parts.generator holds a weight of D"),
    (
        term(generator=spread, prepare=lambda G, D, data: nn.Linear(1, 1)),
        "must return ganframe.Parts or None, not Linear",
    ),
    (term(generator=spread, prepare=lambda G, D, data: Parts(nn.Linear)), "parts.generator must be a module or None"),
    (term(generator=spread, prepare=lambda G, D, data: D.no_such_layer), "raised AttributeError"),
    (
        term(generator=lambda turn: (turn.fake.x + torch.ones(8, 3)).square().mean()),
        "creates a tensor on the default device",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_wrong_terms_are_refused_with_the_reason(wrong, message):
    with pytest.raises(AssertionError, match=message):
        check_term(wrong, POINTS)


def test_scheduled_option_that_prepare_captured_is_refused():
    @attrs.frozen
    class Captured(Term):
        weight: float = option(1.0, help="weight", scheduled=True)

        def prepare(self, G, D, data):
            memory = Running()
            memory.mean.fill_(self.weight)
            return Parts(generator=memory)

        def generator_term(self, turn):
            return turn.parts.generator.mean * turn.fake.x.square().mean()

    with pytest.raises(AssertionError, match="weight is scheduled, but the term does not change when it moves"):
        check_term(Captured, POINTS)


def test_scheduled_option_of_another_type_is_refused():
    @attrs.frozen
    class Counted(Term):
        count: int = option(1, help="of nothing", scheduled=True)
        generator_term = staticmethod(spread)

    with pytest.raises(AssertionError, match="scheduled=True is for options of type float"):
        check_term(Counted, POINTS)
