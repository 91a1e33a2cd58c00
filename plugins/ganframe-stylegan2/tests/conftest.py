"""Fixtures shared by the tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Seeds torch before every test."""
    torch.manual_seed(0)
