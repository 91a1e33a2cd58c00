"""What a recipe may be right to do, and is seldom meant to."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize

from ganframe.components import Term
from ganframe.declarations import growth
from ganframe.engine.timing import ALWAYS
from ganframe.recipes.tables import Recipe
from ganframe.training.directions import is_linear, slopes_of


def cautions(recipe: Recipe, G: nn.Module, D: nn.Module) -> Iterator[str]:
    """A line for each, with its place in the recipe. G and D are the networks as they are trained."""
    growing = [player for player, network in (("generator", G), ("discriminator", D)) if growth(network)]
    last = max(growth(G) + growth(D), default=0)
    if growing and last >= recipe.train.steps:
        yield (
            f"{', '.join(growing)}: growing ends at step {last}, and train.steps is {recipe.train.steps}, so the last "
            f"stage is not reached, or not faded in; train for more than {last} steps, or shorten the stages"
        )
    if _grows_without_end(recipe, D):
        yield (
            "objective: L_D is linear in the scores, so it has no minimum, and nothing in this recipe limits the "
            "discriminator: its scores can grow without end; add [[constraints]], as gradient_penalty, spectral_norm "
            "or weight_clipping"
        )


def _grows_without_end(recipe: Recipe, D: nn.Module) -> bool:
    """Whether L_D is linear, and there is no constraint, no term of D's, no parametrisation or declared bound in D."""
    acting = [
        index
        for index in range(len(recipe.constraints))
        if recipe.timing.get(f"constraints[{index}]", ALWAYS).start < recipe.train.steps
    ]
    if acting or any(type(t).discriminator_term is not Term.discriminator_term for t in recipe.terms):
        return False
    bounded = any(
        parametrize.is_parametrized(m) or m._forward_pre_hooks or hasattr(m, "lipschitz_constant") for m in D.modules()
    )
    if bounded or recipe.objective.scores_are_vectors:
        return False
    try:
        with torch.random.fork_rng(devices=()):
            return is_linear(slopes_of(recipe.objective))
    except Exception:  # of losses that need scores of another shape
        return False
