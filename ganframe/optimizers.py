"""Optimisers and learning-rate schedules: any class of torch.optim, its options checked against its signature."""

from __future__ import annotations

import collections.abc
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import torch

from ganframe.errors import did_you_mean
from ganframe.plugins import Registry
from ganframe.strict import Problem, as_table, join, make_converter, problems

# LBFGS evaluates the loss itself; these schedules take functions, other schedules, or a validation loss.
_UNUSABLE = {"LBFGS", "LambdaLR", "MultiplicativeLR", "ReduceLROnPlateau", "ChainedScheduler", "SequentialLR"}
_VALUES = make_converter(Registry(()))


@attrs.frozen
class Schedule:
    """A class of torch.optim.lr_scheduler and its options; it advances once per generator step."""

    use: str
    options: dict[str, Any]

    def build(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return getattr(torch.optim.lr_scheduler, self.use)(optimizer, **self.options)

    def lasts(self, steps: int) -> None:
        """Raises ValueError where the schedule ends before the training does."""
        trial = self.build(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9))
        trial.optimizer.step()
        trial.last_epoch = steps - 1
        trial.step()


@attrs.frozen
class Optimizer:
    """A class of torch.optim and its options."""

    use: str
    options: dict[str, Any]
    schedule: Schedule | None = None

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser; Adam and AdamW in torch's fused form where the options leave the choice open.

        Not SGD: fused, its momentum starts from memory that a first step skipped by fp16's scaler leaves unset.
        """
        options = dict(self.options)
        if self.use in ("Adam", "AdamW") and not options.keys() & {"fused", "foreach"}:
            options["fused"] = True
        return getattr(torch.optim, self.use)(parameters, **options)


def structure_optimizer(value: Any, _: Any = Optimizer) -> Optimizer:
    """The optimiser of a table with `use`, options, and a table `schedule` with `use` and options.

    Raises exceptions that `strict.problems` reads.
    """
    given = dict(as_table(value))
    use, schedule = given.pop("use", "Adam"), given.pop("schedule", None)
    options = _options(torch.optim, torch.optim.Optimizer, use, given)
    # torch looks at the values when it makes one and when it steps: a trial on a weight of no consequence.
    weight = torch.zeros(1, 1, requires_grad=True)
    weight.grad = torch.zeros(1, 1)
    trial = getattr(torch.optim, use)([weight], **options)
    try:
        trial.step()
    except RuntimeError as error:
        raise Problem("use", f"{use} cannot train these networks: {error}") from None
    return Optimizer(use, options, None if schedule is None else _structure_schedule(schedule, trial))


def default_optimizer() -> Optimizer:
    """Adam as in SN-GAN's and WGAN-GP's residual networks: 2e-4, betas 0 and 0.9."""
    return structure_optimizer({"use": "Adam", "lr": 2e-4, "betas": [0, 0.9]})


def _structure_schedule(value: Any, trial: torch.optim.Optimizer) -> Schedule:
    module, base = torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler
    try:
        given = dict(as_table(value))
        use = given.pop("use", None)
        built = Schedule(use, _options(module, base, use, given))
        schedule = built.build(trial)
        trial.step()
        schedule.step()
        rates = [group["lr"] for group in trial.param_groups]
        if not all(0 <= rate < math.inf for rate in rates):
            raise ValueError(f"gives a learning rate of {rates[0]}")
    except Exception as error:
        raise ExceptionGroup("schedule", [Problem(join("schedule", p), text) for p, text in problems(error)]) from None
    return built


def _options(module: types.ModuleType, base: type, use: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options checked against a class's signature, with the signature's defaults for those that are not given.

    Each takes the type that torch declares: integers become floats where torch wants floats, in tuples too.
    """
    known = {name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)}
    known = {name for name in known if name[0].isupper()} - _UNUSABLE - {base.__name__}
    if not isinstance(use, str) or use not in known:
        raise Problem("use", f"unknown class of {module.__name__} {use!r}{did_you_mean(str(use), known)}")
    cls = getattr(module, use)
    parameters = dict(list(inspect.signature(cls).parameters.items())[1:])  # the first is what it is applied to
    hints = typing.get_type_hints(cls.__init__, localns=vars(collections.abc))
    options: dict[str, Any] = {}
    errors = [
        Problem(name, f"unknown option of {use}{did_you_mean(name, parameters)}")
        for name in sorted(given.keys() - parameters.keys())
    ]
    for name, parameter in parameters.items():
        if name in given:
            try:
                options[name] = _VALUES.structure(given[name], _in_toml(hints[name]))
            except Exception as error:
                errors += [Problem(join(name, place), text) for place, text in problems(error)]
        elif parameter.default is inspect.Parameter.empty or name == "total_iters":  # torch's 5 is meant for epochs
            errors.append(Problem(name, "missing"))
        elif not _holds_none(parameter.default):
            options[name] = _VALUES.structure(parameter.default, _in_toml(hints[name]))
    if errors:
        raise ExceptionGroup(use, errors)
    return options


def _in_toml(hint: Any) -> Any:
    """A type of torch's signatures as far as TOML can write it: without tensors and functions, iterables as lists."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        writable = [a for a in arguments if a is not torch.Tensor and typing.get_origin(a) is not Callable]
        return typing.Union[tuple(map(_in_toml, writable))]  # noqa: UP007
    if origin is tuple:
        return tuple[tuple(map(_in_toml, arguments))]  # type: ignore[misc]
    return list[arguments] if origin in (Iterable, Sequence) else hint  # type: ignore[valid-type]


def _holds_none(value: Any) -> bool:
    """Whether a default cannot be written in TOML, which has no None."""
    return value is None or (isinstance(value, tuple) and None in value)
