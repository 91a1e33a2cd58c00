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
from ganframe.plugins.registry import Registry
from ganframe.recipes.strict import Problem, as_table, join, make_converter, problems

# LBFGS evaluates the loss itself. These schedules take functions, other schedules, or a validation loss.
_UNUSABLE = {"LBFGS", "LambdaLR", "MultiplicativeLR", "ReduceLROnPlateau", "ChainedScheduler", "SequentialLR"}
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
        """The optimiser. Adam and AdamW are fused unless the options say otherwise.

        SGD is not: fused SGD takes its first momentum from memory that stays unset if fp16's scaler skips that step.
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
    # torch checks values when it makes an optimiser and when that steps: both are tried on a dummy weight.
    weight = torch.zeros(1, 1, requires_grad=True)
    weight.grad = torch.zeros(1, 1)
    trial = getattr(torch.optim, use)([weight], **options)
    try:
        trial.step()
    except RuntimeError as error:
        raise Problem("use", f"{use} cannot train these networks: {error}") from None
    return Optimizer(use, options, None if schedule is None else _structure_schedule(schedule, trial))


def default_optimizer() -> Optimizer:
    """Adam as in the residual networks of SN-GAN and WGAN-GP: 2e-4, betas 0 and 0.9."""
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
    """Options checked against a class's signature, with the signature's defaults for missing ones.

    Each has the type that torch declares: integers become floats where torch declares floats, in tuples too.
    """
    known = {name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)}
    known = {name for name in known if name[0].isupper()} - _UNUSABLE - {base.__name__}
    if not isinstance(use, str) or use not in known:
        raise Problem("use", f"unknown class of {module.__name__} {use!r}{did_you_mean(str(use), known)}")
    cls = getattr(module, use)
    parameters = dict(list(inspect.signature(cls).parameters.items())[1:])  # without the first: weights or optimiser
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
        elif (
            parameter.default is inspect.Parameter.empty or name == "total_iters"
        ):  # torch's default of 5 counts epochs
            errors.append(Problem(name, "missing"))
        elif not _holds_none(parameter.default):
            options[name] = _VALUES.structure(parameter.default, _in_toml(hints[name]))
    if errors:
        raise ExceptionGroup(use, errors)
    return options


def _in_toml(hint: Any) -> Any:
    """A type of torch's signatures, reduced to what TOML can write: no tensors or functions, lists for iterables."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        writable = [a for a in arguments if a is not torch.Tensor and typing.get_origin(a) is not Callable]
        return typing.Union[tuple(map(_in_toml, writable))]  # noqa: UP007
    if origin is tuple:
        return tuple[tuple(map(_in_toml, arguments))]  # type: ignore[misc]
    return list[arguments] if origin in (Iterable, Sequence) else hint  # type: ignore[valid-type]


def _holds_none(value: Any) -> bool:
    """Whether a default holds None, which TOML cannot write."""
    return value is None or (isinstance(value, tuple) and None in value)
