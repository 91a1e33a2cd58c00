"""Helpers of all checks: the component's options, a fixed random state, a second device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import nn

from ganframe.plugins.registry import Registry
from ganframe.recipes.strict import make_converter, problems


def require(condition: bool, message: str) -> None:
    """Raises AssertionError unless `condition` is true, also under `python -O`."""
    if not condition:
        raise AssertionError(message)


def checked(check: Callable[..., None]) -> Callable[..., None]:
    """Decorates a check: it runs with seed 0 on the CPU, and torch's random state is restored afterwards."""

    @functools.wraps(check)
    def seeded(*arguments: Any, **named: Any) -> None:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.default_generator.manual_seed(0)
            check(*arguments, **named)

    return seeded


def configured(component: Any, base: type) -> Any:
    """Returns an instance after checking its options: frozen, documented, of types that a recipe can express."""
    cls = component if isinstance(component, type) else type(component)
    name = cls.__qualname__
    require(issubclass(cls, base), f"{name} must be a subclass of ganframe.{base.__name__}")
    require("__attrs_attrs__" in vars(cls), f"{name} must be decorated with @attrs.frozen: its fields are the options")
    fields = attrs.fields(cls)
    for field in fields:
        require(field.name != "use", f"{name}.use: `use` names the component in a recipe; rename the option")
        text = field.metadata.get("help")
        require(bool(text), f"{name}.{field.name} has no help; declare it with option(default, help='…')")
        require(field.type is not None, f"{name}.{field.name} has no type; write {field.name}: float = option(…)")
    if isinstance(component, type):
        missing = [field.name for field in fields if field.default is attrs.NOTHING]
        require(
            not missing, f"{name} has no default for {', '.join(missing)}; pass {name}(…) to the check, not the class"
        )
        component = cls()
    _check_frozen(component, name)
    _check_readable(component, name)
    return component


def _check_frozen(component: Any, name: str) -> None:
    try:
        component.an_option_it_does_not_have = 0
    except attrs.exceptions.FrozenInstanceError:
        pass
    except AttributeError:
        raise AssertionError(f"{name} is mutable; decorate it with @attrs.frozen") from None
    else:
        raise AssertionError(f"{name} is mutable; decorate it with @attrs.frozen")
    try:
        hash(component)
    except TypeError as error:
        raise AssertionError(f"{name} has a mutable option ({error}); use a tuple") from None


@contextmanager
def calling(what: str, hint: str = "") -> Iterator[None]:
    """Turns an exception of a component into an AssertionError. `what` names the call."""
    try:
        yield
    except Exception as error:
        text = str(error).partition("\n")[0]
        raise AssertionError(f"{what} raised {type(error).__name__}: {text}{hint and '; '}{hint}") from error


def _as_table(value: Any) -> Any:
    """The value in the form that a recipe has."""
    if attrs.has(type(value)):
        return {f.name: _as_table(v) for f in attrs.fields(type(value)) if (v := getattr(value, f.name)) is not None}
    return [_as_table(v) for v in value] if isinstance(value, tuple) else value


def _check_readable(component: Any, name: str) -> None:
    """Requires that reading these options from a recipe returns an equal component."""
    table = _as_table(component)
    try:
        read = make_converter(Registry(())).structure(table, type(component))
    except Exception as error:
        found = "; ".join(f"{place}: {text}" for place, text in problems(error))
        raise AssertionError(f"{name} cannot be read from a recipe with its own options: {found}") from None
    require(read == component, f"{name} read from a recipe with its own options is {read}, not {component}")


# ------------------------------------------------------------------------------------------------------------- devices

DEVICE = "cuda" if torch.cuda.is_available() else "meta"
"""A device other than the CPU: the GPU, else torch's `meta` device, which computes shapes without values."""


@contextmanager
def require_same_device(what: str) -> Iterator[None]:
    """Raises AssertionError if the computation on DEVICE in this block uses tensors of another device."""
    try:
        yield
    except (RuntimeError, TypeError, AssertionError) as raised:
        error = raised.__cause__ if isinstance(raised, AssertionError) else raised
        if not isinstance(error, (RuntimeError, TypeError)):
            raise
        text = str(error).partition("\n")[0]
        if "expected device" in text or "same device" in text or "copy out of meta" in text:
            raise AssertionError(
                f"{what} creates a tensor on the default device, not on the device of its input ({text}); "
                "pass device=x.device to torch's functions, or use torch.zeros_like and similar functions"
            ) from None
        if DEVICE != "meta":
            raise
        # A meta tensor has no values, so code that reads a value (.item(), if x > 0) cannot be checked here.


# ------------------------------------------------------------------------------------------------------------ networks


def buffers(network: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the network's buffers."""
    return {name: buffer.detach().clone() for name, buffer in network.named_buffers()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> list[str]:
    """The names of tensors in `after` that are new or differ from `before`."""
    return [name for name, tensor in after.items() if name not in before or not torch.equal(tensor, before[name])]


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the network's parameters."""
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
