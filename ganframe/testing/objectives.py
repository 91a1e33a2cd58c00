"""Checks of objectives: losses are scalar means with gradients of the right sign, finite where the true values are."""

from __future__ import annotations

import inspect
import itertools
import math
from typing import Any

import attrs
import torch
from torch import Tensor

from ganframe.components import Objective
from ganframe.testing.common import (
    DEVICE,
    calling,
    checked,
    configured,
    require,
    require_same_device,
    scheduled_options,
)
from ganframe.testing.vector_objectives import check_vector_objective
from ganframe.training.directions import Player, random_scores, wrong_direction

PLAYERS: tuple[Player, ...] = ("D", "G")


@checked
def check_objective(objective: Objective | type[Objective]) -> None:
    """Checks the two losses of an objective, L_D and L_G, as functions of a = D(x) and b = D(G(z)).

    - Each loss is a scalar with the scores' dtype and device, and a mean over the batch in any order of its samples.
    - Gradients have the right sign. Descending L_D raises a and lowers b where D cannot tell real from fake (in some
      band of scores between -3 and 3.5). Descending L_G raises b where D classifies b as fake (below that band).
    - Losses are not NaN at scores of ±100 in float32. Losses and gradients are finite wherever their true values are
      representable.
    - L_D is smallest at `optimal_score`, if the objective defines it.
    - Losses of scores (N, P) are those of all N·P scores, or ValueError. A scheduled option changes a loss.
    - L_G, or both losses, may be identically 0, to stand beside a term; then nothing is asked of their gradients.
    - A gradient that is nonzero where a player is wrong does not vanish where it is more wrong: that of log(σ(a) + ε)
      vanishes.

    For an objective that declares `scores_are_vectors`, see `check_vector_objective`.

    Raises AssertionError for the first property that is violated.
    """
    game = configured(objective, Objective)
    name = type(game).__qualname__
    for method in ("discriminator_loss", "generator_loss"):
        require(getattr(type(game), method) is not getattr(Objective, method), f"{name} has no {method}")
    if game.scores_are_vectors:
        check_vector_objective(name, game)
        return
    for player in PLAYERS:
        _check_mean(name, game, player)
        _check_many_scores(name, game, player)
    idle = [player for player in PLAYERS if _is_idle(name, game, player)]
    active = [player for player in PLAYERS if player not in idle] if "G" in idle else list(PLAYERS)
    if "D" in active:
        _check_directions(name, game, "G" in active)
        _check_optimum(name, game)
    for player in active:
        _check_finite(name, game, player)
        _check_persistent(name, game, player)
        with require_same_device(f"{name}: L_{player}"):
            scores = torch.zeros(4, device=DEVICE)
            loss = _evaluate(name, game, player, scores, scores).loss
            require(loss.device.type == DEVICE, f"{name}: L_{player} must be on the device of the scores")
    if "D" in active:
        _check_raw_scores(name, game, "G" in active)
    _check_scheduled(name, game)


@attrs.frozen
class _Evaluated:
    """A player's loss and its derivatives dL/da and dL/db, each (N,)."""

    loss: Tensor
    real: Tensor
    fake: Tensor


def _evaluate(name: str, game: Any, player: Player, a: Tensor, b: Tensor) -> _Evaluated:
    a, b = (scores.detach().clone().requires_grad_() for scores in (a, b))
    real, fake = a.clone(), b.clone()
    dtype = "float64" if a.dtype == torch.float64 else "float32"
    if player == "D":
        with calling(f"{name}: discriminator_loss(real, fake), scores in {dtype},"):
            loss = game.discriminator_loss(real, fake)
    else:
        try:
            inspect.signature(game.generator_loss).bind(fake, real)
        except TypeError as error:
            raise AssertionError(
                f"{name}: generator_loss must take (fake, real=None), in this order: {error}"
            ) from error
        hint = "" if game.compares_real else ("without compares_real = True it receives (fake, None), in this order")
        with calling(f"{name}: generator_loss(fake, real), scores in {dtype},", hint):
            loss = game.generator_loss(fake, real if game.compares_real else None)
    require(
        isinstance(loss, Tensor), f"{name}: L_{player} must be a tensor, not {type(loss).__name__}; is return missing?"
    )
    require(
        loss.shape == (),
        f"{name}: L_{player} must be a scalar, the mean over the batch; its shape is {tuple(loss.shape)}",
    )
    require(loss.dtype == a.dtype, f"{name}: L_{player} of scores in {a.dtype} must be in {a.dtype}, not {loss.dtype}")
    if not loss.requires_grad:
        zero = a.device.type == "meta" or loss.item() == 0
        require(zero, f"{name}: L_{player} has no gradient: compute it from the scores with torch's functions")
        return _Evaluated(loss, torch.zeros_like(a), torch.zeros_like(b))
    if a.device.type != "meta":
        same = torch.equal(real, a) and torch.equal(fake, b)
        require(same, f"{name}: L_{player} changes the scores in place; the engine needs them unchanged")
    slopes = torch.autograd.grad(loss, (a, b), allow_unused=True)
    s, t = (torch.zeros_like(a) if slope is None else slope for slope in slopes)
    return _Evaluated(loss.detach(), s, t)


def _check_mean(name: str, game: Any, player: Player) -> None:
    a, b = random_scores(8, -2, 2), random_scores(8, -2, 2)
    _evaluate(name, game, player, a.float(), b.float())
    once = _evaluate(name, game, player, a, b).loss.item()
    twice = _evaluate(name, game, player, torch.cat([a, a]), torch.cat([b, b])).loss.item()
    require(
        math.isclose(once, twice, rel_tol=1e-6, abs_tol=1e-9),
        f"{name}: L_{player} must be a mean over the batch: the same samples twice must have the same loss; "
        f"it is {twice:.6g}, not {once:.6g}; is a sum taken instead of a mean?",
    )
    order = torch.randperm(8)
    moved = _evaluate(name, game, player, a[order], b[order]).loss.item()
    require(
        math.isclose(once, moved, rel_tol=1e-6, abs_tol=1e-9),
        f"{name}: L_{player} must not depend on the order of the batch; reordered it is {moved:.6g}, not {once:.6g}",
    )


def _check_many_scores(name: str, game: Any, player: Player) -> None:
    """The loss of scores (N, P) is that of all of them, (N·P,), or the objective says that it needs (N,)."""
    a, b = random_scores(12, -2, 2), random_scores(12, -2, 2)
    wanted = _evaluate(name, game, player, a, b).loss.item()
    try:
        found = _evaluate(name, game, player, a.view(4, 3), b.view(4, 3)).loss.item()
    except AssertionError as raised:
        if isinstance(raised.__cause__, ValueError):
            return
        raise
    require(
        math.isclose(wanted, found, rel_tol=1e-6, abs_tol=1e-9),
        f"{name}: L_{player} of scores (4, 3) must be that of all 12 scores, {wanted:.6g}, but it is {found:.6g}; take "
        "means over all scores, or raise ValueError for scores that are not (N,)",
    )


def _is_idle(name: str, game: Any, player: Player) -> bool:
    """Whether the loss is identically 0: the player is trained by a term beside the objective, or not at all."""
    at = torch.cat([random_scores(16, -3, 3), torch.tensor([-100.0, -10.0, 10.0, 100.0], dtype=torch.float64)])
    pairs = [_evaluate(name, game, player, a.expand(1), b.expand(1)) for a, b in itertools.product(at, at)]
    return all(not e.loss.any() and not e.real.any() and not e.fake.any() for e in pairs)


def _check_scheduled(name: str, game: Any) -> None:
    """A scheduled option that moves must change a loss."""
    a, b = random_scores(64, -5, 5), random_scores(64, -5, 5)
    for option, others in scheduled_options(game):
        effective = any(
            not torch.equal(_evaluate(name, game, player, a, b).loss, _evaluate(name, other, player, a, b).loss)
            for other in others
            for player in PLAYERS
        )
        require(effective, f"{name}: {option} is scheduled, but neither loss changes when it moves; is it read at all?")


def _check_optimum(name: str, game: Any) -> None:
    """L_D must be smallest at `optimal_score`, if it is defined. Tried for the densities N(0, 1) and N(1, 1)."""
    if type(game).optimal_score is Objective.optimal_score:
        return
    x = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
    with calling(f"{name}: optimal_score(log_ratio), in float64,"):
        a, b = game.optimal_score(0.5 - x), game.optimal_score(0.5 - (x + 1))
    shaped = a.shape == x.shape and a.dtype == x.dtype
    wanted, found = f"{tuple(x.shape)}, {x.dtype}", f"{tuple(a.shape)}, {a.dtype}"
    require(shaped, f"{name}: optimal_score must have the shape and dtype of its argument, {wanted}, not {found}")
    best = _evaluate(name, game, "D", a, b).loss.item()
    for scale, shift in ((0.9, 0.0), (1.1, 0.0), (1.0, 0.1), (1.0, -0.1)):
        other = _evaluate(name, game, "D", scale * a + shift, scale * b + shift).loss.item()
        require(
            other >= best - 1e-9 * abs(best),
            f"{name}: L_D must be smallest at optimal_score(log p/q), {best:.6g} for N(0, 1) and N(1, 1); it is "
            f"{other:.6g} at {scale} times that score {shift:+}",
        )


def _check_directions(name: str, game: Any, both: bool) -> None:
    """Of L_D, and of L_G where `both`: where L_G is not identically 0."""

    def both_slopes(player: Player, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        evaluated = _evaluate(name, game, player, a, b)
        return evaluated.real, evaluated.fake

    wrong = wrong_direction(both_slopes, PLAYERS[: 1 + both])
    require(not wrong, f"{name}: {wrong}")
    if not both:
        require(not game.compares_real, f"{name}: compares_real = True, but L_G is 0 whatever the real scores are")
        return
    if game.compares_real:
        b = random_scores(64, -0.5, -0.05)
        slopes = [_evaluate(name, game, "G", a * torch.ones_like(b), b).fake for a in (-20, 0, 20)]
        require(
            not all(torch.equal(slope, slopes[0]) for slope in slopes),
            f"{name}: compares_real = True makes every step of G draw and score a real batch, but L_G does not use it",
        )
    _check_fake_target(name, game)


def _slope(name: str, game: Any, player: Player, side: str, score: float) -> float:
    at, zero = torch.full((1,), score, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    evaluated = _evaluate(name, game, player, *((at, zero) if side == "a" else (zero, at)))
    return (evaluated.real if side == "a" else evaluated.fake).item()


def _check_raw_scores(name: str, game: Any, both: bool) -> None:
    """Detects scores squashed by σ or a clamp: the gradient vanishes at both ends. Total variation is exempt."""
    a0, a1 = (abs(_slope(name, game, "D", "a", s)) for s in (0.0, -40.0))
    b0, b1 = (abs(_slope(name, game, "D", "b", s)) for s in (0.0, 40.0))
    at = [torch.full((1,), s, dtype=torch.float64) for s in (-3.0, 0.0, 3.0)]
    values = [_evaluate(name, game, "D", s, s).loss.item() for s in at]
    total_variation = math.isclose(min(values), max(values), abs_tol=1e-9)
    require(
        total_variation or a1 > 1e-3 * a0 or b1 > 1e-3 * b0,
        f"{name}: L_D's gradient vanishes where D is most wrong: dL_D/da at a = -40 and dL_D/db at b = 40 are 0; "
        "use the raw scores, without a sigmoid, tanh or clamp",
    )
    if not both:
        return
    g = [abs(_slope(name, game, "G", "b", s)) for s in (-40.0, 0.0, 40.0)]
    require(
        total_variation or max(g[0], g[2]) > 1e-3 * g[1],
        f"{name}: L_G's gradient vanishes: dL_G/db is 0 at b = -40 and at b = 40; "
        "use the raw scores, without a sigmoid, tanh or clamp",
    )


def _check_fake_target(name: str, game: Any) -> None:
    """Just above D's target score for fakes, if there is one, descending L_G must raise b."""
    scores = [i / 4 for i in range(-40, 1)]
    last = max((s for s in scores if _slope(name, game, "D", "b", s) <= 1e-6), default=None)
    if last is not None:
        found = _slope(name, game, "G", "b", last + 0.2)
        require(
            found < 0,
            f"{name}: descending L_G must raise the scores of fakes above D's target for fakes, about b = {last:g}; "
            f"dL_G/db = {found:.3g} there; is L_G's target the code of fakes?",
        )


def _check_finite(name: str, game: Any, player: Player) -> None:
    """Compares float32 with float64, for batches of one at scores up to ±100."""
    for score_a, score_b in itertools.product((-100.0, -50.0, -20.0, 0.0, 20.0, 50.0, 100.0), repeat=2):
        place = f"at a = {score_a:g}, b = {score_b:g}"
        a, b = torch.tensor([score_a], dtype=torch.float64), torch.tensor([score_b], dtype=torch.float64)
        exact = _evaluate(name, game, player, a, b)
        single = _evaluate(name, game, player, a.float(), b.float())
        for what, wanted, found in (
            (f"L_{player}", exact.loss, single.loss),
            (f"dL_{player}/da", exact.real, single.real),
            (f"dL_{player}/db", exact.fake, single.fake),
        ):
            w, f = wanted.item(), found.item()
            hint = "use softplus, logsumexp and similar functions, not σ, log and exp in sequence"
            require(not math.isnan(f), f"{name}: {what} is NaN {place} in float32; {hint}")
            if not math.isfinite(w):
                largest = _largest_finite(name, game, player, what, score_a, score_b)
                require(
                    largest > 1e100,
                    f"{name}: {what} is {w} {place} even in float64, but {largest:.3g} just before; {hint}",
                )
            if abs(w) < 3e38:
                close = math.isclose(w, f, rel_tol=1e-2, abs_tol=1e-3)
                require(close, f"{name}: {what} {place} is {w:.4g}, but {f:.4g} in float32; {hint}")


def _check_persistent(name: str, game: Any, player: Player) -> None:
    """A derivative that is settled where the player is wrong must not vanish where it is more wrong (in float64)."""
    for side, sign in (("a", -1), ("b", 1)) if player == "D" else (("b", -1),):
        near, far, extreme = (abs(_slope(name, game, player, side, sign * size)) for size in (3, 6, 100))
        require(
            not (far > 0.5 * near and extreme < 0.01 * far),
            f"{name}: dL_{player}/d{side} is {far:.3g} at {side} = {6 * sign} and {extreme:.3g} at {100 * sign}: "
            f"the gradient vanishes where {player} is most wrong, like that of log(σ + ε); use softplus",
        )


def _largest_finite(name: str, game: Any, player: Player, what: str, a: float, b: float) -> float:
    """The magnitude of a quantity at the last point from (0, 0) to (a, b) where it is finite in float64."""
    low, high, largest = 0.0, 1.0, 0.0
    for _ in range(50):
        share = (low + high) / 2
        at = (torch.tensor([share * s], dtype=torch.float64) for s in (a, b))
        evaluated = _evaluate(name, game, player, *at)
        value = {"L": evaluated.loss, "a": evaluated.real, "b": evaluated.fake}[what[-1] if "/" in what else "L"].item()
        low, high, largest = (share, high, abs(value)) if math.isfinite(value) else (low, share, largest)
    return largest
