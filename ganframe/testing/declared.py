"""Checks of a penalty on discriminators that declare groups of samples or many scores."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ganframe.testing.calls import differentiates_by_samples, penalty_of, plain_shape, prepared, refusal, same, value_of
from ganframe.testing.common import require
from ganframe.testing.discriminators import POINT, Many, Pairs, curved, linear, points


def check_gradient_of_groups(name: str, constraint: Any) -> None:
    """Where D mixes declared groups, a gradient penalty is that of a D whose one sample is the group."""
    if plain_shape(constraint) != POINT:
        return  # samples of other shapes are no images
    D = prepared(constraint, curved(POINT))
    penalty_of(name, constraint, D, points(8, POINT), points(8, POINT))
    if not differentiates_by_samples(constraint, D):
        return
    plain = linear((2 * POINT[0],))
    pairs = Pairs(copy.deepcopy(plain.layers[-1]))
    if refusal(name, constraint, pairs) is not None:
        return
    real, fake = points(8, POINT), points(8, POINT)
    found = value_of(name, constraint, prepared(constraint, pairs), real, fake)
    wanted = value_of(name, constraint, prepared(constraint, plain), real.view(4, -1), fake.view(4, -1))
    require(
        same(found, wanted),
        f"{name}: where D mixes groups of 2 samples (mixes_groups_of = 2), the penalty must be that of the groups' "
        f"gradients, {wanted:.6g}, but it is {found:.6g}; differentiate by ganframe.score_gradients(D, scores, x), or "
        "refuse such a D in check(D)",
    )


def check_many_scores(name: str, constraint: Any) -> None:
    """Where a D has several equal scores for each sample, the penalty is that of one score, or ValueError."""
    shape = plain_shape(constraint)
    plain = curved(shape)
    many = Many(*copy.deepcopy(plain.layers[1:]))
    real, fake = points(4, shape), points(4, shape)
    if any(refusal(name, constraint, D) is not None for D in (plain, many)):
        return
    values = []
    for D in (plain, many):
        torch.default_generator.manual_seed(3)
        try:
            values.append(value_of(name, constraint, prepared(constraint, D), real, fake))
        except AssertionError as raised:
            if D is many and isinstance(raised.__cause__, ValueError):
                return  # it says that it needs scores (N,)
            raise
    wanted, found = values
    require(
        same(wanted, found),
        f"{name}: where D returns three equal scores for each sample (many_scores = True), the penalty must be that of "
        f"one score, {wanted:.6g}, but it is {found:.6g}; differentiate by ganframe.score_gradients(D, scores, x), "
        "which takes each sample's mean score, take means over all scores, or raise ValueError in check(D)",
    )
