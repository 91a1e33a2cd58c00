"""Classes of torch.optim whose methods do not import torch's compiler.

At the first optimiser that a program makes, torch.optim imports torch._dynamo, which takes as long as importing torch:
to keep the compiler from tracing some methods, and to break its graphs within `step`. A program that compiles no
optimiser needs neither. The arithmetic is torch's own.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

T = TypeVar("T", bound=Optimizer)
_KEPT_FROM_COMPILER = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
_made: dict[type, Any] = {}


def eager(cls: type[T]) -> type[T]:
    """The subclass of a class of torch.optim that does the same without torch._dynamo, made once.

    Its methods are the functions beneath torch's decorators. A class of a plugin is returned as it is: what it calls
    of its base class is not known.
    """
    if not cls.__module__.startswith("torch.optim"):
        return cls
    if cls not in _made:
        members: dict[str, Any] = {
            name: getattr(method, "__wrapped__", method)
            for name in _KEPT_FROM_COMPILER
            if (method := getattr(cls, name, None)) is not None
        }
        members |= {"step": _step(cls), "__module__": cls.__module__, "__doc__": cls.__doc__}
        _made[cls] = type(cls.__name__, (cls,), members)  # prints itself as torch's own class does
    return _made[cls]


def _step(cls: type[Optimizer]) -> Any:
    """`step` of a class. torch's decorators of it say whether gradients are recorded, as is done here, and profile it.

    The optimiser itself adds the profiler's to its class once more.
    """
    function = inspect.unwrap(cls.step)

    @functools.wraps(function)
    def step(self: Optimizer, *arguments: Any, **named: Any) -> Any:
        with torch.set_grad_enabled(self.defaults.get("differentiable", False)):
            return function(self, *arguments, **named)

    return step
