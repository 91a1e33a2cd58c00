"""Optimisers and learning-rate schedules: classes of torch.optim, or of plugins, with options that may move."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import torch

from ganframe.engine.timing import Ramp
from ganframe.errors import RequestError, did_you_mean
from ganframe.plugins.registry import OPTIMIZER, Registry
from ganframe.recipes.eager_optimizers import eager
from ganframe.recipes.signatures import checked_options
from ganframe.recipes.strict import Problem, as_table, join, make_converter, problems, split_index
from ganframe.recipes.timing import is_ramp_table

# LBFGS evaluates the loss itself. These schedules take functions, other schedules, or a validation loss.
_UNUSABLE = {"LBFGS", "LambdaLR", "MultiplicativeLR", "ReduceLROnPlateau", "ChainedScheduler", "SequentialLR"}
_TORCH = "torch"  # before the name of a class of torch.optim, as in torch:Adam
_VALUES = make_converter(Registry(()))


@attrs.frozen
class Schedule:
    """A class of torch.optim.lr_scheduler and its options. It advances once per generator step."""

    use: str
    options: dict[str, Any]

    def build(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return getattr(torch.optim.lr_scheduler, self.use)(optimizer, **self.options)

    def lasts(self, steps: int) -> None:
        """Raises ValueError where the schedule ends before the training does."""
        trial = self.build(eager(torch.optim.SGD)([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9))
        trial.optimizer.step()
        trial.last_epoch = steps - 1
        trial.step()


@attrs.frozen
class Optimizer:
    """An optimiser's class and its options.

    `use` is the name of a class of torch.optim, or plugin:name. `options` are those of the first step; `ramps` say how
    some of them move, by their names: "lr", or "betas[1]" for the second element. Gradients are clipped to the norm
    `max_norm`, if it is given.
    """

    use: str
    options: dict[str, Any]
    schedule: Schedule | None = None
    ramps: Mapping[str, Ramp] = attrs.field(factory=dict)
    max_norm: float | None = None
    cls: type[torch.optim.Optimizer] = attrs.field(
        default=attrs.Factory(lambda self: getattr(torch.optim, self.use), takes_self=True), eq=False, repr=False
    )

    @property
    def full_name(self) -> str:
        """As a recipe may name it whatever plugins are installed: plugin:name, or torch:name."""
        return self.use if self.of_plugin else f"{_TORCH}:{self.use}"

    @property
    def of_plugin(self) -> bool:
        return ":" in self.use

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser. Adam and AdamW are fused unless the options say otherwise.

        SGD is not: fused SGD takes its first momentum from memory that stays unset if fp16's scaler skips that step.
        """
        options = dict(self.options)
        if self.cls in (torch.optim.Adam, torch.optim.AdamW) and not options.keys() & {"fused", "foreach"}:
            options["fused"] = True
        return eager(self.cls)(parameters, **options)

    def move(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Sets the options that move to their values at a generator step."""
        for group in optimizer.param_groups:
            group |= _moved(group, self.ramps, step)


def structure_optimizer(value: Any, registry: Registry | None = None) -> Optimizer:
    """The optimiser of a table with `use`, `max_norm`, options, and a table `schedule` with `use` and options.

    Raises exceptions that `strict.problems` reads.
    """
    given = dict(as_table(value))
    use, schedule, max_norm = (given.pop(name, None) for name in ("use", "schedule", "max_norm"))
    name, cls = _find(f"{_TORCH}:Adam" if use is None else use, registry or Registry(()))
    mistakes: list[Exception] = []
    given, ramps, wrong = _without_ramps(given, mistakes)
    if max_norm is not None:
        max_norm = _positive("max_norm", max_norm, mistakes)
    options: dict[str, Any] = {}
    try:
        options = checked_options(cls, given)
    except Exception as error:
        mistakes += [Problem(place, text) for place, text in problems(error) if place not in wrong]
    if mistakes:
        raise ExceptionGroup(name, mistakes)
    # An optimiser checks values when it is made and when it steps: both are tried on a dummy weight.
    trial = _trial(cls, name, options)
    built = None if schedule is None else _structure_schedule(schedule, trial, ramps)
    _try_ramps(cls, options, ramps, trial)
    return Optimizer(name, options, built, ramps, max_norm, cls)


def default_optimizer() -> Optimizer:
    """Adam as in the residual networks of SN-GAN and WGAN-GP: 2e-4, betas 0 and 0.9."""
    return structure_optimizer({"lr": 2e-4, "betas": [0, 0.9]})


# -------------------------------------------------------------------------------------------------------------- classes


def _classes(module: types.ModuleType, base: type) -> dict[str, type]:
    """The classes of a module of torch that a recipe may use, by name."""
    found = {n: v for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, base)}
    return {n: v for n, v in found.items() if n[0].isupper() and n not in _UNUSABLE and v is not base}


def _find(use: Any, registry: Registry) -> tuple[str, type[torch.optim.Optimizer]]:
    """The name and class of an optimiser: of torch.optim as `Adam` or `torch:Adam`, of a plugin as there."""
    known = _classes(torch.optim, torch.optim.Optimizer)
    offered = registry.names(OPTIMIZER)
    owner, _, short = use.rpartition(":") if isinstance(use, str) else ("", "", "")
    of_torch = short in known and owner in ("", _TORCH)
    try:
        of_plugin = registry.optimizer(use) if short in offered or owner not in ("", _TORCH) else None
    except RequestError as error:
        if not (of_torch and owner):  # torch:SGD, which no plugin offers
            raise Problem("use", str(error)) from None
        of_plugin = None
    if of_torch and of_plugin is not None:
        choices = f"'{_TORCH}:{short}' or '{registry.full_name(of_plugin)}'"
        raise Problem("use", f"'{use}' is a class of torch.optim and of a plugin; choose {choices}")
    if of_torch:
        return short, known[short]
    if of_plugin is not None:
        return registry.full_name(of_plugin), of_plugin
    absent = [plugin.name for plugin in registry.plugins if plugin.status != "loaded"]
    hint = f"; plugins that are not loaded: {', '.join(absent)} (`ganframe plugins` says why)" if absent else ""
    raise Problem("use", f"unknown class of torch.optim {use!r}{did_you_mean(str(use), {*known, *offered})}{hint}")


def _trial(cls: type[torch.optim.Optimizer], name: str, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """An optimiser of a dummy weight after one step."""
    weight = torch.zeros(1, 1, requires_grad=True)
    weight.grad = torch.zeros(1, 1)
    try:
        trial = eager(cls)([weight], **options)
    except (ValueError, RuntimeError):  # torch's way to refuse a value
        raise
    except Exception as error:  # the class of a plugin may raise anything
        raise Problem("use", f"{name} cannot be built: {type(error).__name__}: {error}") from None
    try:
        trial.step()
    except Exception as error:  # as LBFGS, if its step needs a function
        raise Problem("use", f"{name} cannot train these networks: {error}") from None
    return trial


# ---------------------------------------------------------------------------------------------------------------- ramps


def _without_ramps(
    given: Mapping[str, Any], mistakes: list[Exception]
) -> tuple[dict[str, Any], dict[str, Ramp], set[str]]:
    """The options with first values in the place of ramps, the ramps by place, and the names of wrong options."""
    ramps: dict[str, Ramp] = {}
    wrong: set[str] = set()

    def first(value: Any, name: str, place: str) -> Any:
        if not is_ramp_table(value):
            return value
        try:
            ramps[place] = _VALUES.structure(value, Ramp)
        except Exception as error:
            mistakes.extend(Problem(inner, text) for inner, text in problems(error, place))
            wrong.add(name)
            return value
        return ramps[place].from_

    plain = {}
    for name, value in given.items():
        several = isinstance(value, list)
        items = [first(item, name, f"{name}[{i}]") for i, item in enumerate(value)] if several else []
        plain[name] = items if several else first(value, name, name)
    return {name: value for name, value in plain.items() if name not in wrong}, ramps, wrong


def _moved(options: Mapping[str, Any], ramps: Mapping[str, Ramp], step: int) -> dict[str, Any]:
    """The options that have ramps, at a generator step."""
    moved: dict[str, Any] = {}
    for place, ramp in ramps.items():
        name, index = split_index(place)
        if index is None:
            moved[name] = ramp.at(step)
        else:
            elements = list(moved.get(name, options[name]))
            elements[index] = ramp.at(step)
            moved[name] = tuple(elements)
    return moved


def _try_ramps(
    cls: type[torch.optim.Optimizer], options: dict[str, Any], ramps: Mapping[str, Ramp], trial: torch.optim.Optimizer
) -> None:
    """Tries the end of each ramp, with a new optimiser and with one that moves there.

    The second finds what is prepared at the first step only, as RMSprop's memory for a momentum that is 0 at first.
    """
    (group,) = trial.param_groups
    for place, ramp in ramps.items():
        if split_index(place)[0] not in group:
            raise Problem(place, f"{cls.__name__} reads this option only when it is made, so it cannot move")
        moved = _moved(options, {place: ramp}, ramp.steps)
        try:
            _trial(cls, cls.__name__, {**options, **moved})
            group |= moved
            trial.step()
        except (ValueError, RuntimeError, Problem) as error:
            raise Problem(join(place, "to"), str(error)) from None
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise Problem(join(place, "to"), f"{cls.__name__} cannot move from {ramp.from_} to it: {why}") from None


# ------------------------------------------------------------------------------------------------------------ schedules


def _structure_schedule(value: Any, trial: torch.optim.Optimizer, ramps: Mapping[str, Ramp]) -> Schedule:
    module, base = torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler
    try:
        given = dict(as_table(value))
        use = given.pop("use", None)
        known = _classes(module, base)
        if not isinstance(use, str) or use not in known:
            raise Problem("use", f"unknown class of {module.__name__} {use!r}{did_you_mean(str(use), known)}")
        built = Schedule(use, checked_options(known[use], given))
        schedule = built.build(trial)
        trial.step()
        schedule.step()
        (group,) = trial.param_groups
        if not 0 <= group["lr"] < math.inf:
            raise ValueError(f"gives a learning rate of {group['lr']}")
    except Exception as error:
        raise ExceptionGroup("schedule", [Problem(join("schedule", p), text) for p, text in problems(error)]) from None
    for place in ramps:
        name, _ = split_index(place)
        first = _moved(group, {place: ramps[place]}, 0) if name in group else {}
        if name == "lr" or (first and first[name] != group[name]):  # CyclicLR and OneCycleLR move momentum and betas
            raise Problem(place, "moves by a ramp, and the schedule moves it too; remove one of them")
    return built


def _positive(name: str, value: Any, mistakes: list[Exception]) -> float | None:
    """A number > 0; otherwise None, and a mistake is added."""
    try:
        number: float = _VALUES.structure(value, float)
        if number <= 0:
            raise ValueError(f"must be > 0, not {number}")
    except Exception as error:
        mistakes += [Problem(name, text) for _, text in problems(error)]
        return None
    return number
