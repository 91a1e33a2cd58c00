"""Every component passes ganframe's conformance kit for plugin authors, and is registered."""

import ast
from pathlib import Path

import ganframe_balance
import pytest
from ganframe_balance import (
    EBGAN,
    MMD,
    Autoencoder,
    BEGANBalance,
    Cramer,
    CramerPenalty,
    Embedding,
    Fisher,
    LeCam,
    MinibatchStddev,
    PullingAway,
    Sobolev,
    WGANDiv,
)

import ganframe
from ganframe import layers
from ganframe.testing import check_constraint, check_discriminator, check_objective, check_term


@pytest.mark.parametrize(
    ("term", "discriminator"),
    [
        (LeCam(), None),
        (LeCam(one_sided=False), None),
        (BEGANBalance(), Autoencoder()),
        (BEGANBalance(rate=0.5), Autoencoder(error="squared")),
        (PullingAway(), None),
        (PullingAway(), Autoencoder()),
        (Fisher(), None),
        (Fisher(rho=0.1), MinibatchStddev(group=2)),
        (Sobolev(), None),
        (Sobolev(rho=0.1), None),
        (CramerPenalty(), Embedding()),
    ],
    ids=str,
)
def test_term_conformance(term, discriminator):
    check_term(term, discriminator=discriminator)


@pytest.mark.parametrize(
    "discriminator",
    [
        Autoencoder(),
        Autoencoder(hidden=(16, 8), code=4, error="squared"),
        Embedding(),
        Embedding(hidden=(), features=3, activation="relu"),
        MinibatchStddev(),
        MinibatchStddev(hidden=(8,), group=2),
    ],
    ids=str,
)
def test_discriminator_conformance(discriminator):
    check_discriminator(discriminator)


@pytest.mark.parametrize("objective", [EBGAN(), EBGAN(margin=0.2), MMD(), MMD(bandwidths=(0.5,)), Cramer()], ids=str)
def test_objective_conformance(objective):
    check_objective(objective)


@pytest.mark.parametrize("constraint", [WGANDiv(), WGANDiv(weight=1.0, power=2.0)], ids=str)
def test_constraint_conformance(constraint):
    check_constraint(constraint)


REGISTERED = {
    "discriminator": {"autoencoder": Autoencoder, "embedding": Embedding, "minibatch_stddev": MinibatchStddev},
    "objective": {"ebgan": EBGAN, "mmd": MMD, "cramer": Cramer},
    "constraint": {"wgan_div": WGANDiv},
    "term": {
        "lecam": LeCam,
        "began": BEGANBalance,
        "pulling_away": PullingAway,
        "fisher": Fisher,
        "sobolev": Sobolev,
        "cramer_penalty": CramerPenalty,
    },
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in REGISTERED.items() for name in names])
def test_component_is_registered(kind, name):
    assert ganframe.component(kind, f"balance:{name}") is REGISTERED[kind][name]


def test_package_imports_only_public_names_of_ganframe():
    public = {"ganframe": ganframe.__all__, "ganframe.layers": layers.__all__}
    for file in Path(ganframe_balance.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("ganframe.") for alias in node.names), file.name
            elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ganframe":
                assert {alias.name for alias in node.names} <= set(public.get(node.module, ())), file.name


def test_no_hook_or_custom_autograd_function():
    for file in Path(ganframe_balance.__file__).parent.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "autograd.Function" not in text, file.name
        assert "register_forward" not in text, file.name
