"""Fixtures shared by the tests."""

import pytest
import torch


def pytest_collectstart(collector):
    """Networks that a file of tests makes when it is imported, as parameters of a test, are the same every time."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def seeded():
    """Seeds torch before every test."""
    torch.manual_seed(0)
