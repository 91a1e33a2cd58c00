"""What the checks of all kinds share: the component's options, a fixed random state, another device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import nn

from ganframe.plugins import Registry
from ganframe.strict import make_converter, problems


def require(condition: bool, message: str) -> None:
    """Raises AssertionError, whatever flags Python runs with."""
    if not condition:
        raise AssertionError(message)


def checked(check: Callable[..., None]) -> Callable[..., None]:
    """Runs a check from seed 0 on the CPU, and puts torch's random state back."""

    @functools.wraps(check)
    def seeded(*arguments: Any, **named: Any) -> None:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.default_generator.manual_seed(0)
            check(*arguments, **named)

    return seeded


def configured(component: Any, base: type) -> Any:
    """The component to check, its options found sound: frozen, documented, of types that a recipe can give."""
    cls = component if isinstance(component, type) else type(component)
    name = cls.__qualname__
    require(issubclass(cls, base), f"{name} must be a subclass of ganframe.{base.__name__}")
    require("__attrs_attrs__" in vars(cls), f"{name} must be decorated with @attrs.frozen: its fields are the options")
    fields = attrs.fields(cls)
    for field in fields:
        require(
            field.name != "use", f"{name}.use: that is what a recipe calls the component; name the option otherwise"
        )
        text = field.metadata.get("help")
        require(bool(text), f"{name}.{field.name} has no help; declare it with option(default, help='…')")
        require(field.type is not None, f"{name}.{field.name} has no type; write {field.name}: float = option(…)")
    if isinstance(component, type):
        missing = [field.name for field in fields if field.default is attrs.NOTHING]
        require(not missing, f"{name} has no default for {', '.join(missing)}; give the check {name}(…), not the class")
        component = cls()
    _frozen(component, name)
    _readable(component, name)
    return component


def _frozen(component: Any, name: str) -> None:
    try:
        component.an_option_it_does_not_have = 0
    except attrs.exceptions.FrozenInstanceError:
        pass
    except AttributeError:
        raise AssertionError(f"{name} can be changed after it was made; decorate it with @attrs.frozen") from None
    else:
        raise AssertionError(f"{name} can be changed after it was made; decorate it with @attrs.frozen")
    try:
        hash(component)
    except TypeError as error:
        raise AssertionError(f"{name} has an option that can be changed in place ({error}); use a tuple") from None


@contextmanager
def asking(what: str, hint: str = "") -> Iterator[None]:
    """What a component raises is a failure of the component: `what` says which call of it."""
    try:
        yield
    except Exception as error:
        text = str(error).partition("\n")[0]
        raise AssertionError(f"{what} raised {type(error).__name__}: {text}{hint and '; '}{hint}") from error


def _table(value: Any) -> Any:
    """A value as a recipe has it."""
    if attrs.has(type(value)):
        return {f.name: _table(v) for f in attrs.fields(type(value)) if (v := getattr(value, f.name)) is not None}
    return [_table(v) for v in value] if isinstance(value, tuple) else value


def _readable(component: Any, name: str) -> None:
    """A recipe's table of these options must give this component again."""
    table = _table(component)
    try:
        again = make_converter(Registry(())).structure(table, type(component))
    except Exception as error:
        found = "; ".join(f"{place}: {text}" for place, text in problems(error))
        raise AssertionError(f"{name} cannot be read from a recipe with its own options: {found}") from None
    require(again == component, f"{name} read from a recipe with its own options is {again}, not {component}")


# ------------------------------------------------------------------------------------------------------------- devices

DEVICE = "cuda" if torch.cuda.is_available() else "meta"
"""Another device than the CPU: the GPU, or else torch's `meta`, which computes shapes and devices alone."""


@contextmanager
def elsewhere(what: str) -> Iterator[None]:
    """For a calculation on DEVICE: one that mixes in tensors of the CPU is a failure."""
    try:
        yield
    except (RuntimeError, TypeError, AssertionError) as raised:
        error = raised.__cause__ if isinstance(raised, AssertionError) else raised
        if not isinstance(error, (RuntimeError, TypeError)):
            raise
        text = str(error).partition("\n")[0]
        if "expected device" in text or "same device" in text or "copy out of meta" in text:
            raise AssertionError(
                f"{what} makes a tensor on the default device, not on that of its input ({text}); "
                "give torch's functions device=x.device, or use torch.zeros_like and its kin"
            ) from None
        if DEVICE != "meta":
            raise
        # A meta tensor has no values, so a calculation that reads one (.item(), if x > 0) cannot be tried here.


# ------------------------------------------------------------------------------------------------------------ networks


def buffers(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the network's buffers."""
    return {name: buffer.detach().clone() for name, buffer in network.named_buffers()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> list[str]:
    """The names of tensors that are not what they were."""
    return [name for name, tensor in after.items() if name not in before or not torch.equal(tensor, before[name])]


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the network's parameters."""
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
