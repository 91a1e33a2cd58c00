"""ganframe: generative adversarial networks from components that anyone can publish as plugins.

Importing the package is cheap. Each public name is imported from its module on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganframe.analysis.arithmetic import arithmetic
    from ganframe.analysis.bench import bench
    from ganframe.analysis.certify import certify
    from ganframe.analysis.compare import compare
    from ganframe.analysis.evaluate import evaluate
    from ganframe.analysis.export import export
    from ganframe.analysis.interpolation import interpolate
    from ganframe.analysis.inversion import invert
    from ganframe.analysis.publish import publish
    from ganframe.analysis.trained import load_generator
    from ganframe.analysis.verify import verify_certificate
    from ganframe.batches import whole_batch
    from ganframe.components import (
        Constraint,
        Dataset,
        DataSpec,
        Discriminator,
        Distribution,
        Features,
        Generator,
        Judging,
        Metric,
        Objective,
        Parts,
        Scored,
        Term,
        Turn,
        option,
    )
    from ganframe.data.image_files import read_image, read_image_header
    from ganframe.data.image_listing import choose_images, find_images, is_hidden, is_image, list_images
    from ganframe.declarations import (
        group_size,
        mean_scores,
        mixes_samples,
        refuse_mixed_samples,
        score_gradients,
    )
    from ganframe.engine.timing import Ramp, Timing
    from ganframe.errors import RecipeError, RequestError, RunError, warn
    from ganframe.hookspecs import hookimpl
    from ganframe.plugins.registry import component
    from ganframe.recipes.reading import load_recipe
    from ganframe.recipes.tables import Recipe
    from ganframe.report.notebook import show
    from ganframe.studies.study import study
    from ganframe.training.run import Run, resume, run

__version__ = "0.1.0"

_HOME = {
    "component": "plugins.registry",
    "hookimpl": "hookspecs",
    "load_recipe": "recipes.reading",
    "Recipe": "recipes.tables",
    "load_generator": "analysis.trained",
    "arithmetic": "analysis.arithmetic",
    "bench": "analysis.bench",
    "evaluate": "analysis.evaluate",
    "compare": "analysis.compare",
    "study": "studies.study",
    "interpolate": "analysis.interpolation",
    "invert": "analysis.inversion",
    "export": "analysis.export",
    "publish": "analysis.publish",
    "certify": "analysis.certify",
    "verify_certificate": "analysis.verify",
    **dict.fromkeys(("Run", "resume", "run"), "training.run"),
    **dict.fromkeys(("RecipeError", "RequestError", "RunError", "warn"), "errors"),
    **dict.fromkeys(("read_image", "read_image_header"), "data.image_files"),
    **dict.fromkeys(("choose_images", "find_images", "is_hidden", "is_image", "list_images"), "data.image_listing"),
    **dict.fromkeys(
        ("Constraint", "Dataset", "DataSpec", "Discriminator", "Distribution", "Generator", "Objective", "option"),
        "components",
    ),
    **dict.fromkeys(("Parts", "Scored", "Term", "Turn"), "components"),
    **dict.fromkeys(("Features", "Judging", "Metric"), "components"),
    **dict.fromkeys(
        ("group_size", "mean_scores", "mixes_samples", "refuse_mixed_samples", "score_gradients"), "declarations"
    ),
    "show": "report.notebook",
    "whole_batch": "batches",
    **dict.fromkeys(("Ramp", "Timing"), "engine.timing"),
}

__all__ = [  # noqa: RUF022  (by theme: what a plugin needs, what a script needs)
    "Constraint",
    "DataSpec",
    "Dataset",
    "Discriminator",
    "Distribution",
    "Features",
    "Generator",
    "Judging",
    "Metric",
    "Objective",
    "Parts",
    "Scored",
    "Term",
    "Turn",
    "choose_images",
    "find_images",
    "group_size",
    "hookimpl",
    "is_hidden",
    "is_image",
    "list_images",
    "mean_scores",
    "mixes_samples",
    "option",
    "read_image",
    "read_image_header",
    "refuse_mixed_samples",
    "score_gradients",
    "whole_batch",
    "warn",
    "component",
    "load_recipe",
    "run",
    "resume",
    "load_generator",
    "bench",
    "evaluate",
    "compare",
    "study",
    "interpolate",
    "arithmetic",
    "invert",
    "export",
    "publish",
    "show",
    "certify",
    "verify_certificate",
    "Recipe",
    "Ramp",
    "Timing",
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
