"""The optimistic optimisers: steps by hand, the relation to torch's Adam, convergence of the bilinear game, state."""

import copy
import math

import pytest
import torch
from ganframe_optimistic import OptimisticAdam, OptimisticSGD

BOTH = [OptimisticSGD, OptimisticAdam]


def follow(make, gradients, start=0.0):
    """The weight after each of the given gradients, float64."""
    weight = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    optimizer, path = make([weight]), []
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        path.append(weight.item())
    return path


def play(make, steps, radius_over=100):
    """min over x, max over y of x·y by alternating steps from (1.5, 0.5): the largest radius in the last steps."""
    x, y = (torch.tensor([start], requires_grad=True) for start in (1.5, 0.5))
    of_x, of_y, radii = make([x]), make([y]), []
    for _ in range(steps):
        y.grad = -x.detach().clone()
        of_y.step()
        x.grad = y.detach().clone()
        of_x.step()
        radii.append(math.hypot(x.item(), y.item()))
    return max(radii[-radius_over:])


# ------------------------------------------------------------------------------------------------------------- by hand


def test_optimistic_sgd_takes_twice_the_gradient_less_the_previous_one():
    path = follow(lambda p: OptimisticSGD(p, lr=0.1), [1.0, 3.0, -2.0], start=5.0)
    assert path == pytest.approx([5 - 0.2, 4.8 - 0.6 + 0.1, 4.3 + 0.4 + 0.3])


def test_optimistic_adam_follows_algorithm_1():
    lr, beta1, beta2, eps = 0.1, 0.5, 0.9, 1e-3
    weight, m, v, last, expected = 2.0, 0.0, 0.0, 0.0, []
    gradients = [1.0, -0.5, 0.25, 2.0]
    for t, g in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        now = m / (1 - beta1**t) / (math.sqrt(v / (1 - beta2**t)) + eps)
        weight += -2 * lr * now + lr * last
        last = now
        expected.append(weight)
    path = follow(lambda p: OptimisticAdam(p, lr, (beta1, beta2), eps), gradients, start=2.0)
    assert path == pytest.approx(expected, rel=1e-12)
    assert path[0] == pytest.approx(2 - 2 * lr / (1 + eps))  # the first direction is ±1, up to ε


@pytest.mark.parametrize(
    ("optimistic", "plain"), [(OptimisticSGD, torch.optim.SGD), (OptimisticAdam, torch.optim.Adam)]
)
def test_optimistic_weight_is_one_step_ahead_of_the_plain_one(optimistic, plain):
    """The sum of 2 d_t - d_{t-1} is the sum of d_t, plus the last d_t once more."""
    gradients = torch.randn(20, dtype=torch.float64).tolist()
    ahead, path = follow(lambda p: optimistic(p, lr=0.1), gradients), follow(lambda p: plain(p, lr=0.1), gradients)
    last = path[-1] - path[-2]
    assert ahead[-1] == pytest.approx(path[-1] + last, rel=1e-9)


# --------------------------------------------------------------------------------------------------- the bilinear game


def test_gradient_descent_circles_and_optimistic_gradient_descent_converges():
    assert play(lambda p: torch.optim.SGD(p, lr=0.1), 1000) > 1.5
    assert play(lambda p: OptimisticSGD(p, lr=0.1), 1000) < 1e-3


@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_optimistic_adam_comes_nearer_to_the_equilibrium_than_adam(beta1):
    options = {"lr": 0.02, "betas": (beta1, 0.999)}
    plain, optimistic = (play(lambda p, c=cls: c(p, **options), 3000) for cls in (torch.optim.Adam, OptimisticAdam))
    assert optimistic < (1e-3 if beta1 == 0 else plain / 2)
    assert plain > 0.5


# --------------------------------------------------------------------------------------------------------------- state


@pytest.mark.parametrize("cls", BOTH)
def test_state_dict_restores_the_next_steps_exactly(cls):
    def begin(start):
        network = torch.nn.Linear(3, 2)
        network.load_state_dict(start)
        return network, cls(network.parameters(), lr=0.1)

    def train(network, optimizer, batches):
        for batch in batches:
            optimizer.zero_grad()
            network(batch).square().mean().backward()
            optimizer.step()

    batches = torch.randn(6, 4, 3)
    network, optimizer = begin(torch.nn.Linear(3, 2).state_dict())
    train(network, optimizer, batches[:3])
    resumed, other = begin(network.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(network, optimizer, batches[3:])
    train(resumed, other, batches[3:])
    for kept, restored in zip(network.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(kept, restored)


@pytest.mark.parametrize("cls", BOTH)
def test_learning_rate_is_read_at_each_step(cls):
    weight = torch.tensor([1.0], requires_grad=True)
    optimizer = cls([weight], lr=0.1)
    optimizer.param_groups[0]["lr"] = 0.0
    weight.grad = torch.tensor([1.0])
    optimizer.step()
    assert weight.item() == 1


@pytest.mark.parametrize("cls", BOTH)
def test_weight_without_gradient_stays_and_has_no_state(cls):
    used, unused = (torch.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = cls([used, unused], lr=0.1)
    used.grad = torch.tensor([1.0])
    optimizer.step()
    assert unused.item() == 1
    assert used.item() < 1
    assert unused not in optimizer.state


@pytest.mark.parametrize("cls", BOTH)
def test_gradient_itself_does_not_change(cls):
    weight = torch.tensor([1.0], requires_grad=True)
    weight.grad = torch.tensor([2.0])
    optimizer = cls([weight], lr=0.1)
    optimizer.step()
    assert weight.grad.item() == 2
    weight.grad.fill_(-2.0)
    before = weight.item()
    optimizer.step()  # the previous direction is a copy, not the gradient's own memory
    assert weight.item() > before


def test_closure_is_evaluated_and_its_loss_returned():
    weight = torch.tensor([3.0], requires_grad=True)
    optimizer = OptimisticSGD([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 9
    assert weight.item() == pytest.approx(3 - 2 * 0.6)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("options", [{"lr": -1.0}, {"lr": math.nan}])
def test_negative_learning_rate_raises_value_error(cls, options):
    with pytest.raises(ValueError, match="lr must be at least 0"):
        cls([torch.zeros(1, requires_grad=True)], **options)


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.5, -0.1)])
def test_betas_outside_0_to_1_raise_value_error(betas):
    with pytest.raises(ValueError, match="below 1"):
        OptimisticAdam([torch.zeros(1, requires_grad=True)], betas=betas)
