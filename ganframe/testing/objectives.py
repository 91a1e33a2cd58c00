"""Checks of objectives: scalars, means, the right directions, and finite where the mathematics is."""

from __future__ import annotations

import inspect
import itertools
import math
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from ganframe.components import Objective
from ganframe.testing.common import DEVICE, asking, checked, configured, elsewhere, require

Player = Literal["D", "G"]
PLAYERS: tuple[Player, ...] = ("D", "G")


@checked
def check_objective(objective: Objective | type[Objective]) -> None:
    """An objective's two losses, a = D(x) and b = D(G(z)):

    - are scalars of the scores' dtype and on their device, and means over the batch, in any order of its samples;
    - have gradients of the right sign: descending L_D raises a and lowers b where D cannot tell them apart (in
      some band of scores between -3 and 3.5), descending L_G raises b where D takes it for a fake (below that band);
    - are no NaN at scores of ±100 in float32, and finite wherever their true values are representable, as are their
      gradients;
    - are smallest, L_D at least, at `optimal_score` where an objective gives it;
    - keep the slope they have where D, or G, is wrong when it is more wrong: log(σ(a) + ε) loses it.

    Raises AssertionError for the first of these that does not hold.
    """
    game = configured(objective, Objective)
    name = type(game).__qualname__
    for method in ("discriminator_loss", "generator_loss"):
        require(getattr(type(game), method) is not getattr(Objective, method), f"{name} has no {method}")
    for player in PLAYERS:
        _scalar_and_mean(name, game, player)
    _directions(name, game)
    _optimum(name, game)
    for player in PLAYERS:
        _finite(name, game, player)
        _persistent(name, game, player)
        with elsewhere(f"{name}: L_{player}"):
            scores = torch.zeros(4, device=DEVICE)
            loss = _play(name, game, player, scores, scores).loss
            require(loss.device.type == DEVICE, f"{name}: L_{player} leaves the device of the scores")
    _listens(name, game)


@attrs.frozen
class _Played:
    """A player's loss, with its slopes dL/da and dL/db, each (N,)."""

    loss: Tensor
    real: Tensor
    fake: Tensor


def _play(name: str, game: Any, player: Player, a: Tensor, b: Tensor) -> _Played:
    a, b = (scores.detach().clone().requires_grad_() for scores in (a, b))
    real, fake = a.clone(), b.clone()
    dtype = "float64" if a.dtype == torch.float64 else "float32"
    if player == "D":
        with asking(f"{name}: discriminator_loss(real, fake), scores in {dtype},"):
            loss = game.discriminator_loss(real, fake)
    else:
        try:
            inspect.signature(game.generator_loss).bind(fake, real)
        except TypeError as error:
            raise AssertionError(f"{name}: generator_loss takes (fake, real=None), in this order: {error}") from error
        hint = "" if game.compares_real else ("without compares_real = True it is given (fake, None), in this order")
        with asking(f"{name}: generator_loss(fake, real), scores in {dtype},", hint):
            loss = game.generator_loss(fake, real if game.compares_real else None)
    require(
        isinstance(loss, Tensor), f"{name}: L_{player} must be a tensor, not {type(loss).__name__}; is return missing?"
    )
    require(
        loss.shape == (),
        f"{name}: L_{player} must be a scalar, the mean over the batch; its shape is {tuple(loss.shape)}",
    )
    require(loss.dtype == a.dtype, f"{name}: L_{player} of scores in {a.dtype} must be in {a.dtype}, not {loss.dtype}")
    require(
        loss.requires_grad, f"{name}: L_{player} has no gradient: it does not depend on the scores by torch's functions"
    )
    if a.device.type != "meta":
        same = torch.equal(real, a) and torch.equal(fake, b)
        require(same, f"{name}: L_{player} changes the scores in place; they belong to the engine")
    slopes = torch.autograd.grad(loss, (a, b), allow_unused=True)
    s, t = (torch.zeros_like(a) if slope is None else slope for slope in slopes)
    return _Played(loss.detach(), s, t)


def _scores(n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n, dtype=torch.float64)


def _scalar_and_mean(name: str, game: Any, player: Player) -> None:
    a, b = _scores(8, -2, 2), _scores(8, -2, 2)
    _play(name, game, player, a.float(), b.float())
    once = _play(name, game, player, a, b).loss.item()
    twice = _play(name, game, player, torch.cat([a, a]), torch.cat([b, b])).loss.item()
    require(
        math.isclose(once, twice, rel_tol=1e-6, abs_tol=1e-9),
        f"{name}: L_{player} must be a mean over the batch: the same samples twice must give the same loss, "
        f"and they give {twice:.6g} against {once:.6g}; is a sum taken where a mean is meant?",
    )
    order = torch.randperm(8)
    mixed = _play(name, game, player, a[order], b[order]).loss.item()
    require(
        math.isclose(once, mixed, rel_tol=1e-6, abs_tol=1e-9),
        f"{name}: L_{player} must not depend on the order of the batch; reordered it is {mixed:.6g}, not {once:.6g}",
    )


def _optimum(name: str, game: Any) -> None:
    """Where the best critic's score is given, L_D is smallest there: for two normal densities one apart."""
    if type(game).optimal_score is Objective.optimal_score:
        return
    x = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
    with asking(f"{name}: optimal_score(log_ratio), in float64,"):
        a, b = game.optimal_score(0.5 - x), game.optimal_score(0.5 - (x + 1))
    shaped = a.shape == x.shape and a.dtype == x.dtype
    require(shaped, f"{name}: optimal_score must be of its argument's shape and dtype, {x.dtype}, not {a.dtype}")
    best = _play(name, game, "D", a, b).loss.item()
    for scale, shift in ((0.9, 0.0), (1.1, 0.0), (1.0, 0.1), (1.0, -0.1)):
        other = _play(name, game, "D", scale * a + shift, scale * b + shift).loss.item()
        require(
            other >= best - 1e-9 * abs(best),
            f"{name}: L_D must be smallest at optimal_score(log p/q), {best:.6g} for N(0, 1) and N(1, 1), and is "
            f"{other:.6g} at {scale} times that score {shift:+}",
        )


def _directions(name: str, game: Any) -> None:
    # Most games are undecided around 0 to ½; one with other codes is elsewhere, and perhaps in a narrower band.
    bands = list(itertools.product((1.0, 0.2), sorted((0.25 * i for i in range(-12, 13)), key=abs)))
    for right in (_raises_real_and_lowers_fake, _raises_its_own):
        wrong = right(name, game, *bands[0])
        if wrong and all(right(name, game, *band) for band in bands[1:]):
            raise AssertionError(wrong)
    if game.compares_real:
        b = _scores(64, -0.5, -0.05)
        slopes = [_play(name, game, "G", a * torch.ones_like(b), b).fake for a in (-20, 0, 20)]
        require(
            not all(torch.equal(slope, slopes[0]) for slope in slopes),
            f"{name}: compares_real = True makes every step of G draw and score a real batch, and L_G does not use it",
        )
    _wants_more_than_fakes_get(name, game)


def _raises_real_and_lowers_fake(name: str, game: Any, scale: float, shift: float) -> str:
    """What is wrong with L_D's slopes where both sides have scores in one band, or nothing."""
    low, high = (shift + scale * _scores(64, *part) for part in ((0.05, 0.25), (0.3, 0.5)))
    wrong = ""
    for a, b in ((low, high), (high, low)):  # whichever of them D takes for the more real
        near = _play(name, game, "D", a, b)
        far = _play(name, game, "D", a - 2, b + 2)  # where D is wrong a loss with a margin near 0 listens too
        a, b = torch.cat([a, a - 2]), torch.cat([b, b + 2])
        s, t = torch.cat([near.real, far.real]), torch.cat([near.fake, far.fake])
        hint = "is a sign swapped, or real and fake?"
        wrong = wrong or _sign(f"{name}: descending L_D must raise real scores: dL_D/da ≤ 0", a, -s, "a", hint)
        wrong = wrong or _sign(f"{name}: descending L_D must lower fake scores: dL_D/db ≥ 0", b, t, "b", hint)
    return wrong


def _raises_its_own(name: str, game: Any, scale: float, shift: float) -> str:
    """What is wrong with L_G's slopes where D takes its samples for fakes, or nothing."""
    a, b = shift + scale * _scores(64, 0.05, 0.5), shift - scale * _scores(64, 0.05, 0.5)
    slope = _play(name, game, "G", a, b).fake
    hint = "is a sign swapped? L_G is minimised, as L_D is"
    return _sign(f"{name}: descending L_G must raise the scores of fakes: dL_G/db ≤ 0", b, -slope, "b", hint)


def _slope(name: str, game: Any, player: Player, side: str, score: float) -> float:
    at, zero = torch.full((1,), score, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    played = _play(name, game, player, *((at, zero) if side == "a" else (zero, at)))
    return (played.real if side == "a" else played.fake).item()


def _listens(name: str, game: Any) -> None:
    """Scores squashed by σ or a clamp: L_D is deaf at both ends where D is wrong. Total variation is so by nature."""
    a0, a1 = (abs(_slope(name, game, "D", "a", s)) for s in (0.0, -40.0))
    b0, b1 = (abs(_slope(name, game, "D", "b", s)) for s in (0.0, 40.0))
    at = [torch.full((1,), s, dtype=torch.float64) for s in (-3.0, 0.0, 3.0)]
    values = [_play(name, game, "D", s, s).loss.item() for s in at]
    total_variation = math.isclose(min(values), max(values), abs_tol=1e-9)
    require(
        total_variation or a1 > 1e-3 * a0 or b1 > 1e-3 * b0,
        f"{name}: L_D stops listening where D is most wrong, dL_D/da at a = -40 and dL_D/db at b = 40 are 0: "
        "it takes raw scores, and puts them through no sigmoid, tanh or clamp first",
    )
    g = [abs(_slope(name, game, "G", "b", s)) for s in (-40.0, 0.0, 40.0)]
    require(
        total_variation or max(g[0], g[2]) > 1e-3 * g[1],
        f"{name}: L_G stops listening, dL_G/db is 0 at b = -40 and at b = 40: "
        "it takes raw scores, and puts them through no sigmoid, tanh or clamp first",
    )


def _wants_more_than_fakes_get(name: str, game: Any) -> None:
    """Just above the score that D wants for fakes, where it has one, G must go up."""
    scores = [i / 4 for i in range(-40, 1)]
    last = max((s for s in scores if _slope(name, game, "D", "b", s) <= 1e-6), default=None)
    if last is not None:
        found = _slope(name, game, "G", "b", last + 0.2)
        require(
            found < 0,
            f"{name}: descending L_G must raise the scores of fakes from where D wants them, about b = {last:g}, and "
            f"dL_G/db = {found:.3g} there; does L_G aim at the code of fakes?",
        )


def _sign(expected: str, at: Tensor, slope: Tensor, symbol: str, hint: str) -> str:
    """What is wrong, or nothing: `slope` must be ≥ 0 at each score, and somewhere > 0."""
    worst = int(slope.argmin())
    if slope[worst].item() < -1e-12:
        return f"{expected}; at {symbol} = {at[worst]:.3g} the slope has the other sign; {hint}"
    if slope.max().item() <= 0:
        low, high = at.min().item(), at.max().item()
        return f"{expected}, and not 0 throughout, as it is for {symbol} from {low:.3g} to {high:.3g}; {hint}"
    return ""


def _finite(name: str, game: Any, player: Player) -> None:
    """Batches of one at scores up to ±100, in float32 against float64."""
    for score_a, score_b in itertools.product((-100.0, -50.0, -20.0, 0.0, 20.0, 50.0, 100.0), repeat=2):
        place = f"at a = {score_a:g}, b = {score_b:g}"
        a, b = torch.tensor([score_a], dtype=torch.float64), torch.tensor([score_b], dtype=torch.float64)
        exact = _play(name, game, player, a, b)
        single = _play(name, game, player, a.float(), b.float())
        for what, wanted, found in (
            (f"L_{player}", exact.loss, single.loss),
            (f"dL_{player}/da", exact.real, single.real),
            (f"dL_{player}/db", exact.fake, single.fake),
        ):
            w, f = wanted.item(), found.item()
            hint = "write it with softplus, logsumexp and their kin, not with σ, log and exp in turn"
            require(not math.isnan(f), f"{name}: {what} is NaN {place} in float32; {hint}")
            if not math.isfinite(w):
                held = _largest_held(name, game, player, what, score_a, score_b)
                require(
                    held > 1e100, f"{name}: {what} is {w} {place} even in float64, and {held:.3g} just before; {hint}"
                )
            if abs(w) < 3e38:
                close = math.isclose(w, f, rel_tol=1e-2, abs_tol=1e-3)
                require(close, f"{name}: {what} {place} is {w:.4g}, and float32 gives {f:.4g}; {hint}")


def _persistent(name: str, game: Any, player: Player) -> None:
    """A slope that has settled where the player is wrong must not die where it is more wrong (in float64)."""
    for side, sign in (("a", -1), ("b", 1)) if player == "D" else (("b", -1),):
        near, far, extreme = (abs(_slope(name, game, player, side, sign * size)) for size in (3, 6, 100))
        require(
            not (far > 0.5 * near and extreme < 0.01 * far),
            f"{name}: dL_{player}/d{side} is {far:.3g} at {side} = {6 * sign} and {extreme:.3g} at {100 * sign}: "
            f"the loss stops listening where {player} is most wrong, as log(σ + ε) does; softplus does not",
        )


def _largest_held(name: str, game: Any, player: Player, what: str, a: float, b: float) -> float:
    """The size of a quantity at the last point on the way from 0 to (a, b) where it is finite in float64."""
    low, high, held = 0.0, 1.0, 0.0
    for _ in range(50):
        share = (low + high) / 2
        at = (torch.tensor([share * s], dtype=torch.float64) for s in (a, b))
        played = _play(name, game, player, *at)
        value = {"L": played.loss, "a": played.real, "b": played.fake}[what[-1] if "/" in what else "L"].item()
        low, high, held = (share, high, abs(value)) if math.isfinite(value) else (low, share, held)
    return held
