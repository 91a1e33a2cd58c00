"""Fixtures shared by the tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Seeds torch before every test."""
    torch.manual_seed(0)


@pytest.fixture
def numbered():
    """Four images of 3×8×8 whose pixels are all different."""
    return torch.arange(4 * 3 * 64, dtype=torch.float64).view(4, 3, 8, 8) / 768 * 2 - 1
