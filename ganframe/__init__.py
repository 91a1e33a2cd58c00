"""ganframe: generative adversarial networks out of parts that anyone can publish.

Importing the package is cheap; each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganframe.components import (
        Constraint,
        Dataset,
        DataSpec,
        Discriminator,
        Distribution,
        Generator,
        Objective,
        Scored,
        mixes_samples,
        option,
        refuse_mixed_samples,
    )
    from ganframe.errors import RecipeError, RequestError, RunError
    from ganframe.hookspecs import hookimpl
    from ganframe.latent import arithmetic, interpolate
    from ganframe.plugins import component
    from ganframe.recipe import Recipe, load_recipe
    from ganframe.sampling import load_generator
    from ganframe.session import Run, resume, run

__version__ = "0.1.0"

_HOME = {
    "component": "plugins",
    "hookimpl": "hookspecs",
    **dict.fromkeys(("Recipe", "load_recipe"), "recipe"),
    "load_generator": "sampling",
    **dict.fromkeys(("arithmetic", "interpolate"), "latent"),
    **dict.fromkeys(("Run", "resume", "run"), "session"),
    **dict.fromkeys(("RecipeError", "RequestError", "RunError"), "errors"),
    **dict.fromkeys(
        ("Constraint", "Dataset", "DataSpec", "Discriminator", "Distribution", "Generator", "Objective", "Scored"),
        "components",
    ),
    **dict.fromkeys(("mixes_samples", "option", "refuse_mixed_samples"), "components"),
}

__all__ = [  # noqa: RUF022  (by theme: what a plugin needs, what a script needs)
    "Constraint",
    "DataSpec",
    "Dataset",
    "Discriminator",
    "Distribution",
    "Generator",
    "Objective",
    "Scored",
    "hookimpl",
    "mixes_samples",
    "option",
    "refuse_mixed_samples",
    "component",
    "load_recipe",
    "run",
    "resume",
    "load_generator",
    "interpolate",
    "arithmetic",
    "Recipe",
    "Run",
    "RecipeError",
    "RequestError",
    "RunError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ganframe' has no attribute '{name}'")
    return getattr(importlib.import_module(f"ganframe.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
