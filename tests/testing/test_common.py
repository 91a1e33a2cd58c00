"""Tests of what all checks of the kit share: they restore torch's state, are reproducible and refuse other kinds."""

from __future__ import annotations

import os
import subprocess
import sys

import attrs
import pytest
import torch

from ganframe import Objective, component, option, testing

BUILT_IN = [
    (testing.check_objective, "objective", "vanilla"),
    (testing.check_constraint, "constraint", "gradient_penalty"),
    (testing.check_generator, "generator", "mlp"),
    (testing.check_discriminator, "discriminator", "mlp"),
    (testing.check_dataset, "dataset", "ring"),
]


@attrs.frozen
class Nothing(Objective):
    """An objective without losses."""


@pytest.mark.parametrize(("check", "kind", "name"), BUILT_IN)
def test_checks_restore_torch_state(check, kind, name):
    before = torch.get_rng_state()
    assert check(component(kind, name)) is None
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


def test_failed_checks_restore_random_state():
    before = torch.get_rng_state()
    with pytest.raises(AssertionError, match="has no discriminator_loss"):
        testing.check_objective(Nothing)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("check", "kind", "name"), BUILT_IN)
def test_checks_do_not_depend_on_random_state(check, kind, name):
    for seed in range(3):
        torch.manual_seed(seed)
        check(component(kind, name)())


@pytest.mark.parametrize(("check", "kind", "name"), BUILT_IN)
def test_component_of_another_kind_is_refused(check, kind, name):
    other = component("objective" if kind != "objective" else "dataset", "wgan" if kind != "objective" else "ring")
    with pytest.raises(AssertionError, match="subclass of ganframe"):
        check(other)
    with pytest.raises(AssertionError, match="subclass of ganframe"):
        check(None)


@attrs.frozen
class Doubled(Objective):
    """Twice the losses of another objective: an option whose type is a base class, and one of a class."""

    of: Objective = option(component("objective", "vanilla")(), help="any objective")
    others: tuple[Nothing, ...] = option((Nothing(), Nothing()), help="of a class that no hook offers")

    def discriminator_loss(self, real, fake):
        return 2 * self.of.discriminator_loss(real, fake)

    def generator_loss(self, fake, real=None):
        return 2 * self.of.generator_loss(fake, real)


def test_options_that_are_components_are_checked():
    testing.check_objective(Doubled)
    testing.check_objective(Doubled(of=component("objective", "wgan")()))
    with pytest.raises(AssertionError, match=r"cannot be read from a recipe with its own options: of\.use: unknown"):
        testing.check_objective(Doubled(of=component("constraint", "spectral_norm")()))


def test_checks_fail_under_python_O():
    code = "from ganframe import Objective; from ganframe.testing import check_objective; check_objective(Objective)"
    ran = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert ran.returncode == 1
    assert "AssertionError: Objective must be decorated with @attrs.frozen" in ran.stderr
