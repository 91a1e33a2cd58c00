"""The hooks, and the example in each hook's docstring."""

import inspect

import pytest

from ganframe import components, hookspecs
from ganframe.plugins import registry


def example_of(hook):
    return inspect.cleandoc(inspect.getdoc(getattr(hookspecs, hook)).partition("Example:")[2])


def test_each_kind_has_one_hook():
    specs = [name for name, value in vars(hookspecs).items() if getattr(value, "ganframe_spec", None)]
    assert set(specs) == {*hookspecs.HOOKS, hookspecs.OPTIMIZERS, hookspecs.FEATURES}
    assert list(hookspecs.HOOKS.values()) == list(components.KINDS) == list(components.BASES)


@pytest.mark.parametrize("hook", hookspecs.HOOKS)
def test_example_names_its_hook_and_base_class(hook):
    example = example_of(hook)
    assert f"({components.BASES[hookspecs.HOOKS[hook]].__name__}):" in example
    assert f"def {hook}():" in example
    compile(example, hook, "exec")


@pytest.mark.parametrize("hook", hookspecs.HOOKS)
def test_example_loads_as_a_plugin(install, hook):
    names = "import attrs, torch\nfrom torch.nn.functional import relu\nfrom torch.utils.data import TensorDataset\n"
    install("example", f"{names}from ganframe import *\n{example_of(hook)}")
    (found,) = (p for p in registry.load().plugins if p.name == "example")
    assert found.cause == ""
    assert list(found.components) == [hookspecs.HOOKS[hook]]
