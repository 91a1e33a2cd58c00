"""Translation between two sets of images without pairs: the terms `cycle` and `identity`, and the network back.

The recipe's data is (x, y), an image of each set that have nothing to do with each other. Its generator G translates
y to x, and its discriminator judges x alone. What leads back, from x to y, belongs to the term: a generator F and a
discriminator of y.
"""

from __future__ import annotations

import copy
from pathlib import Path

import attrs
import torch
from attrs.validators import ge
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganframe import (
    Constraint,
    DataSpec,
    Discriminator,
    Generator,
    Parts,
    RequestError,
    Scored,
    Term,
    Turn,
    group_size,
    load_generator,
    load_recipe,
    option,
)

UNPAIRED = "choose a dataset of two sets of images (here: unpaired_images, unpaired_digits)"


class Back(nn.Module):
    """F: x (N, *shape) -> y (N, *condition), the generator `back` with a latent of zeros."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.new_zeros(len(x), 1), x)


@attrs.frozen
class Cycle(Term):
    """CycleGAN (Zhu et al. 2017, eq. 2 and 3): a generator F back, from x to y, and the loss of going there and back.

    G's loss gains weight · (E|F(G(z, y)) - y| + E|G(z, F(x)) - x|) and F's loss in its own game, D's loss that of the
    discriminator `critic`, which tells images y from F(x). Both are losses of the recipe's objective. With `identity`
    it gains identity · (E|G(z, x) - x| + E|F(y) - y|) too (section 5.2), for sets of images of one shape; the paper has
    half of `weight` there. Distances are means over all numbers of a sample.

    The paper's λ = 10 stands beside a game in which G's loss is E(D - 1)². The objective `least_squares` has half of it
    (Mao et al. 2017), so that λ is weight = 5 there.

    The data is (x, y) without pairs, so the discriminator of the recipe and `critic` must see images alone. F and
    `critic` are trained with the optimisers of G and D. [[constraints]] of the recipe act on its discriminator only:
    give those of `critic` in `constraints`. F's latent is zero. `ganframe_translate.load_back` gives F after training.
    """

    back: Generator = option(help="the generator F, from x to y, as G's but for its latent")
    critic: Discriminator = option(help="the discriminator of y; it must see images alone")
    weight: float = option(10.0, help="weight of the cycles, λ", validator=ge(0), scheduled=True)
    constraints: tuple[Constraint, ...] = option((), help="constraints of `critic`, as [[constraints]] are of D's")
    identity: float = option(0.0, help="weight of the identity loss of G and F", validator=ge(0))

    needs_real = "x"

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> Parts:
        if data.condition is None:
            raise ValueError(f"translates between two sets of images, and this data has no conditions; {UNPAIRED}")
        other = swapped(data)
        if self.identity:
            _require_one_shape(data)
        F, judge = self.build_back(data), self.critic.build(other)
        _refuse_seen(D, data, "discriminator: it")
        _refuse_seen(judge, other, "critic: it")
        _check_shape(F, data)
        for constraint in self.constraints:
            if type(constraint).project is not Constraint.project:
                raise ValueError(
                    f"constraints: {type(constraint).__name__} moves weights after each step of D's optimiser, which a "
                    "term does not see; use another constraint of `critic`"
                )
            constraint.check(judge)
            judge = constraint.wrap(judge)
        return Parts(generator=F, discriminator=judge)

    def build_back(self, data: DataSpec) -> Back:
        """A new network F."""
        return Back(self.back.build(swapped(data), 1))

    def discriminator_term(self, turn: Turn) -> Tensor:
        x, y, F, judge = _of(turn)
        with torch.no_grad():
            images = [y, F(x)]
        if any(constraint.input_gradients for constraint in self.constraints):
            images = [image.detach().requires_grad_() for image in images]
        real, fake = (Scored(image, x, judge(image, x)) for image in images)
        loss = turn.objective.discriminator_loss(real.scores, fake.scores)
        penalties = [constraint.penalty(judge, real, fake) for constraint in self.constraints]
        return torch.stack([loss, *(penalty for penalty in penalties if penalty is not None)]).sum()

    def generator_term(self, turn: Turn) -> Tensor:
        x, y, F, judge = _of(turn)
        z, translated = turn.fake.z, F(x)
        loss = self.weight * (distance(F(turn.fake.x), y) + distance(turn.G(z, translated), x))
        if self.identity:
            loss = loss + self.identity * (distance(turn.G(z, x), x) + distance(F(y), y))
        if turn.fake.scores is None:  # before the objective starts nothing trains the discriminators
            return loss
        compared = judge(y, x) if turn.objective.compares_real else None
        return loss + turn.objective.generator_loss(judge(translated, x), compared)


def _of(turn: Turn) -> tuple[Tensor, Tensor, nn.Module, nn.Module]:
    """x, y, F and the discriminator of y."""
    real, F, judge = turn.real, turn.parts.generator, turn.parts.discriminator
    assert real is not None
    assert F is not None
    assert judge is not None
    return real.x, real.y, F, judge


@attrs.frozen
class Identity(Term):
    """weight · E|G(z, x) - x|: G leaves an image as it is that is of the wanted kind already (Zhu et al. 2017, 5.2).

    The paper uses it for photographs of paintings, to keep their colours. x is a real sample, given to G in the place
    of a condition, so both have one shape. `cycle` has it for both directions.
    """

    weight: float = option(5.0, help="weight of the term", validator=ge(0), scheduled=True)

    needs_real = "x"

    def prepare(self, G: nn.Module, D: nn.Module, data: DataSpec) -> None:
        _require_one_shape(data)

    def generator_term(self, turn: Turn) -> Tensor:
        assert turn.real is not None
        return self.weight * distance(turn.G(turn.fake.z, turn.real.x), turn.real.x)


def distance(one: Tensor, other: Tensor) -> Tensor:
    """The mean absolute difference of all numbers: a scalar."""
    return (one - other).abs().mean()


def swapped(data: DataSpec) -> DataSpec:
    """The data that F and its discriminator see: y is the sample, and x its condition."""
    assert data.condition is not None
    return DataSpec(data.condition, condition=data.shape)


def _require_one_shape(data: DataSpec) -> None:
    if data.condition != data.shape:
        raise ValueError(
            f"the identity loss gives x to G in the place of y, and x has shape {data.shape}, y {data.condition}; set "
            "identity = 0, leave the term identity out, or choose images of one shape"
        )


@torch.no_grad()
def _refuse_seen(D: nn.Module, data: DataSpec, what: str) -> None:
    """Raises ValueError if D's scores of samples depend on what they are conditioned on."""
    n = 2 * group_size(D)
    x, y = (torch.rand(n, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1 for shape in _shapes(data))
    one, other = (copy.deepcopy(D).eval()(x, seen) for seen in (y, -y))
    if not torch.allclose(one, other, atol=1e-5):
        raise ValueError(
            f"{what} sees both images, which belong to no pair, and would teach G to ignore y; let it see samples "
            "alone: condition = 'none'"
        )


def _shapes(data: DataSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    assert data.condition is not None
    return data.shape, data.condition


@torch.no_grad()
def _check_shape(F: nn.Module, data: DataSpec) -> None:
    """Raises ValueError if F does not give images of y's shape."""
    found = tuple(copy.deepcopy(F).eval()(torch.zeros(2, *data.shape)).shape[1:])
    if found != data.condition:
        raise ValueError(f"back: it gives images of shape {found}, and y has {data.condition}; use another generator")


def load_back(run: str | Path) -> Back:
    """F of a run's newest checkpoint, in evaluation mode, on the CPU: F(x) (N, *shape) -> y (N, *condition).

    Raises RequestError where the run's recipe has no term `cycle`, or its newest checkpoint does not have F's weights.
    """
    recipe = load_recipe(Path(run) / "recipe.toml")
    term = next((term for term in recipe.terms if isinstance(term, Cycle)), None)
    if term is None:
        raise RequestError(f"{run}: its recipe has no term cycle")
    checkpoints = sorted(Path(run).glob("checkpoints/step-*/"), key=lambda folder: (len(folder.name), folder.name))
    if not checkpoints:
        raise RequestError(f"{run}: this run has no checkpoint yet")
    file = checkpoints[-1] / "term.cycle.generator.safetensors"
    F = term.build_back(load_generator(run).spec)  # the run says it, and its dataset may be gone
    try:
        F.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RequestError(f"{file}: cannot be loaded: {str(error).splitlines()[0]}") from None
    return F.eval()
