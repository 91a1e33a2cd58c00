"""Fixtures shared by the tests: a seed, recipes, and layers as matrices and networks as slopes."""

import pytest
import torch

import ganframe


def pytest_collectstart(collector):
    """Networks that a file of tests makes when it is imported, as parameters of a test, are the same every time."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def seeded():
    """Seeds torch before every test."""
    torch.manual_seed(0)


@pytest.fixture
def load(tmp_path):
    """load(text, *overrides): the recipe of a text."""

    def loaded(text, *overrides):
        file = tmp_path / "recipe.toml"
        file.write_text(text)
        return ganframe.load_recipe(file, [*overrides])

    return loaded


@pytest.fixture
def matrix():
    return _matrix


@pytest.fixture
def norm():
    return _norm


@pytest.fixture
def moved():
    return _moved


@pytest.fixture
def random_slope():
    return _random_slope


@pytest.fixture
def adversarial_slope():
    return _adversarial_slope


def _matrix(layer, shape):
    """The matrix of a layer that is affine in samples of this shape, (numbers out, numbers in), in float64."""
    with torch.no_grad():
        inputs = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).view(-1, *shape)
        return (layer(inputs) - layer(torch.zeros_like(inputs[:1]))).flatten(1).T


def _norm(layer, shape):
    """The exact norm of a layer that is affine: its largest singular value."""
    return torch.linalg.svdvals(_matrix(layer, shape)).max().item()


def _moved(network, steps=5, lr=0.1):
    """The network after some steps of Adam on a random target, so that no weight is where it started."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        weights = [m.weight for m in network.modules() if hasattr(m, "parametrizations")]
        sum((w * torch.randn_like(w)).sum() for w in [*weights, *parameters]).backward()
        optimizer.step()
    return network


def _random_slope(network, shape, n=10_000, chunk=2_000):
    """The largest ‖f(x) - f(x')‖ / ‖x - x'‖ of n random pairs, near and far."""
    largest = 0.0
    with torch.no_grad():
        for _ in range(n // chunk):
            x = 2 * torch.randn(chunk, *shape, dtype=torch.float64)
            far = 10 ** torch.empty(chunk, *[1] * len(shape), dtype=torch.float64).uniform_(-4, 1)
            other = x + far * torch.randn_like(x)
            largest = max(largest, _slopes(network, x, other).max().item())
    return largest


def _adversarial_slope(network, shape, n=20, steps=30):
    """The largest slope found by gradient ascent on both points of n pairs."""
    x = torch.randn(n, *shape, dtype=torch.float64)
    pair = torch.stack([x, x + 0.1 * torch.randn_like(x)]).requires_grad_()
    optimizer = torch.optim.Adam([pair], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (-_slopes(network, *pair)).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return _slopes(network, *pair).max().item()


def _slopes(network, x, other):
    change = (network(x) - network(other)).reshape(len(x), -1).norm(dim=1)
    return change / (x - other).flatten(1).norm(dim=1).clamp_min(1e-9)
