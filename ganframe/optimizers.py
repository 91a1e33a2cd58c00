"""Optimisers and learning-rate schedules: any class of torch.optim, its options checked against its signature."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import torch

from ganframe.errors import did_you_mean
from ganframe.strict import Problem, as_leaf, as_table, join, problems, shown

# LBFGS evaluates the loss itself; these schedules take functions, other schedules, or a validation loss.
_UNUSABLE = {"LBFGS", "LambdaLR", "MultiplicativeLR", "ReduceLROnPlateau", "ChainedScheduler", "SequentialLR"}


@attrs.frozen
class Schedule:
    """A class of torch.optim.lr_scheduler and its options; it advances once per generator step."""

    use: str
    options: dict[str, Any]

    def build(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return getattr(torch.optim.lr_scheduler, self.use)(optimizer, **self.options)


@attrs.frozen
class Optimizer:
    """A class of torch.optim and its options."""

    use: str
    options: dict[str, Any]
    schedule: Schedule | None = None

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser, in torch's fused form where there is one and the options leave the choice open."""
        cls = getattr(torch.optim, self.use)
        options = dict(self.options)
        chosen = options.keys() & {"fused", "foreach"} or options.get("differentiable")
        if "fused" in inspect.signature(cls).parameters and not chosen:
            options["fused"] = True
        return cls(parameters, **options)


def structure_optimizer(value: Any, _: Any = Optimizer) -> Optimizer:
    """The optimiser of a table with `use`, options, and a table `schedule` with `use` and options.

    Raises exceptions that `strict.problems` reads.
    """
    given = dict(as_table(value))
    use, schedule = given.pop("use", "Adam"), given.pop("schedule", None)
    options = _options(torch.optim, torch.optim.Optimizer, use, given)
    # torch looks at the values when it makes one: a trial on a weight of no consequence.
    trial = getattr(torch.optim, use)([torch.zeros(1, 1, requires_grad=True)], **options)
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
        built.build(trial)
    except Exception as error:
        raise ExceptionGroup("schedule", [Problem(join("schedule", p), text) for p, text in problems(error)]) from None
    return built


def _options(module: types.ModuleType, base: type, use: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options checked against a class's signature, with the signature's defaults for those that are not given.

    Each takes the type of its default: integers become floats where torch wants floats, in tuples too.
    """
    known = {name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)}
    known = {name for name in known if name[0].isupper()} - _UNUSABLE - {base.__name__}
    if use not in known:
        raise Problem("use", f"unknown class of {module.__name__} {use!r}{did_you_mean(str(use), known)}")
    signature = inspect.signature(getattr(module, use))
    parameters = dict(list(signature.parameters.items())[1:])  # the first is what it is applied to
    options: dict[str, Any] = {}
    errors = [
        Problem(name, f"unknown option of {use}{did_you_mean(name, parameters)}")
        for name in sorted(given.keys() - parameters.keys())
    ]
    for name, parameter in parameters.items():
        try:
            value = given.get(name, parameter.default)
            if value is inspect.Parameter.empty:
                raise ValueError("missing")
            if name in given:
                value = _like(value, parameter.default)
            if value is not None:
                options[name] = value
        except ValueError as error:
            errors.append(Problem(name, str(error)))
    if errors:
        raise ExceptionGroup(use, errors)
    return options


def _like(value: Any, default: Any) -> Any:
    """`value` with the type of a signature's default."""
    if isinstance(default, bool):
        return as_leaf(value, bool)
    if isinstance(default, float) or (isinstance(default, int) and type(value) is not int):
        return as_leaf(value, float)
    if isinstance(default, tuple):
        if not isinstance(value, (list, tuple)) or len(value) != len(default):
            raise ValueError(f"must be a list of {len(default)} numbers, not {shown(value)}")
        return tuple(_like(item, like) for item, like in zip(value, default, strict=True))
    return value
