"""Helpers of all checks: the component's options, a fixed random state, a second device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import torch
from torch import nn

from ganframe.components import Constraint, Objective, Term, with_nested
from ganframe.plugins.registry import Plugin, Registry
from ganframe.recipes.strict import make_converter, problems
from ganframe.recipes.writing import to_table

MOVING = (Objective, Constraint, Term)
"""The kinds whose options may move while a run trains: those that are called in each step."""


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
        require(
            not field.metadata.get("scheduled") or (field.type in (float, "float") and base in MOVING),
            f"{name}.{field.name}: scheduled=True is for options of type float of objectives, constraints and terms",
        )
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


def _offering(component: Any) -> Registry:
    """A registry of one plugin, which offers the classes of a component and of those among its options."""
    tables: dict[str, dict[str, type]] = {}
    for kind, part in with_nested(component):
        table = tables.setdefault(kind, {})
        if type(part) not in table.values():
            table[f"{type(part).__qualname__}-{len(table)}"] = type(part)
    return Registry((Plugin("kit", "", "ganframe", "0", status="loaded", components=tables),))


def _check_readable(component: Any, name: str) -> None:
    """Requires that reading these options from a recipe returns an equal component."""
    registry = _offering(component)
    try:
        read = make_converter(registry).structure(to_table(component, registry), type(component))
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


@torch.no_grad()
def descend(*networks: nn.Module) -> None:
    """One step against the signs of the gradients, which are then removed. Such small steps do not diverge."""
    for network in networks:
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad.sign(), alpha=1e-3)
        network.zero_grad(set_to_none=True)


def snapshot(modules: dict[str, nn.Module]) -> dict[str, Any]:
    """All that a component may leave as it is: values, gradients, modes and hooks, by names that a message can show.

    Names of buffers end in ".buffer". On torch's meta device, which has no values, those are left out.
    """
    found: dict[str, Any] = {}
    for name, network in modules.items():
        for key, module in network.named_modules():
            place = f"{name}.{key}".rstrip(".")
            found[f"{place}'s training mode"] = module.training
            found[f"{place}'s hooks"] = [*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks]
        for key, parameter in network.named_parameters():
            found[f"{name}.{key}"] = _bytes(parameter)
            found[f"{name}.{key}.requires_grad"] = parameter.requires_grad
            found[f"{name}.{key}.grad"] = None if parameter.grad is None else _bytes(parameter.grad)
        for key, buffer in network.named_buffers():
            found[f"{name}.{key}.buffer"] = _bytes(buffer)
    return found


def _bytes(tensor: torch.Tensor) -> bytes:
    if tensor.device.type == "meta":
        return b""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


# ------------------------------------------------------------------------------------------------- options that move


def scheduled_options(component: Any) -> Iterator[tuple[str, list[Any]]]:
    """(name, the component with other values of it) for each option that a recipe may let move."""
    for field in attrs.fields(type(component)):
        if not field.metadata.get("scheduled"):
            continue
        value, others = getattr(component, field.name), []
        for other in (1.5 * value, 0.5 * value, value + 0.1, value - 0.1):
            with suppress(ValueError):
                others += [attrs.evolve(component, **{field.name: other})] if other != value else []
        where = f"{type(component).__qualname__}.{field.name}"
        require(bool(others), f"{where} is scheduled, but accepts no value near {value}")
        yield field.name, others
