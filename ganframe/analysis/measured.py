"""What `ganframe divergence` found, as its caller gets it and as divergence.json has it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs

from ganframe.analysis.meaning import Scale
from ganframe.analysis.optimum import Agreement


@attrs.frozen
class Transport:
    """W1 between `samples` held-out samples of each side, by optimal transport, beside what D says of the same ones.

    `floor` is W1 between as many held-out samples of the dataset and other samples of it: what two equal sides show.
    In more than a few dimensions, and with few samples, it is far above 0. `slope` is the largest |D(x) - D(x')| /
    ‖x - x'‖ between the two sides, None where D mixes samples: divided by it, -L_D is at most W1 of these samples.
    """

    samples: int
    w1: float
    floor: float
    slope: float | None


@attrs.frozen
class Measured:
    """A finished measurement, in nats where the objective is a divergence of densities.

    `value` is -L_D on held-out samples and `error` its standard error; `scale` says what is its value of equal and of
    disjoint sides. `exact` is the maximum of -L_D, by quadrature where both densities on the line are known, and by
    samples, with the standard error `exact_error`, where the sides know an optimal Wasserstein critic. `agreement` is
    how the gradients of D agree with those of such a critic, where one is known. `lipschitz` is a certified upper bound
    on D's Lipschitz constant, where the objective is a difference of means; None where `no_bound` says why.
    `transported` is W1 between samples, where the objective is a difference of means: over 1-Lipschitz critics its
    maximum is W1. `critic_error` is the mean of |σ(D(x)) - σ(D*(x))| over both sides, where the optimal discriminator
    D* is known on the line. `seconds` is the time that training took, with what was judged meanwhile.
    """

    folder: Path
    value: float
    error: float
    scale: Scale
    exact: float | None
    exact_error: float | None
    agreement: Agreement | None
    lipschitz: float | None
    no_bound: str | None
    transported: Transport | None
    critic_error: float | None
    history: list[dict[str, float]]
    seconds: float

    @property
    def share(self) -> float | None:
        """-L_D as a share of W1, where W1 is known and above 0."""
        return None if self.agreement is None or not self.exact else self.value / self.exact

    @property
    def share_error(self) -> float | None:
        """The standard error of `share`: of -L_D and of W1, to first order."""
        if self.share is None or not self.exact:
            return None
        return math.hypot(self.error, self.share * (self.exact_error or 0.0)) / self.exact

    @property
    def certified(self) -> float | None:
        """-L_D / `lipschitz`: a lower bound on W1 of the two sides, apart from the sampling error. None below 0."""
        return self.value / self.lipschitz if self.lipschitz and self.value >= 0 else None

    @property
    def certified_share(self) -> float | None:
        """`certified` as a share of W1, where W1 is known and above 0."""
        return None if self.certified is None or not self.exact else self.certified / self.exact

    @property
    def transport(self) -> float | None:
        """W1 between held-out samples."""
        return None if self.transported is None else self.transported.w1

    @property
    def value_per_slope(self) -> float | None:
        """-L_D of the critic divided by its slope, at most W1 between the held-out samples of `transported`.

        None below 0, where the critic is not trained enough to say anything of W1.
        """
        slope = None if self.transported is None else self.transported.slope
        return self.value / slope if slope and self.value >= 0 else None

    @property
    def warning(self) -> str | None:
        """Why the value is no lower bound of W1, where it is above it."""
        if self.transported is None:
            return None
        known, name = (self.exact, "W1") if self.exact is not None else (self.transported.w1, "W1 of the samples")
        error = math.hypot(0.0 if math.isnan(self.error) else self.error, self.exact_error or 0.0)
        if not self.value - 2 * error > known:
            return None
        found = self.value_per_slope
        instead = "" if found is None else f"; use -L_D / slope, {found:.5g}"
        return (
            f"-L_D is above {name}, {known:.5g}: the critic's slope is above 1, so -L_D is no lower bound{instead}. "
            "Under a gradient_penalty the slope rests near 1 + W1 / (2 · weight), and more steps do not change this: "
            "raise its weight. Without a constraint the slope grows without end: add one"
        )


def report(measured: Measured) -> dict[str, Any]:
    """divergence.json. What is unknown or not finite is null: JSON has no NaN."""
    scale, transported, agreement = measured.scale, measured.transported, measured.agreement
    return {
        "value": _finite(measured.value),
        "error": _finite(measured.error),
        "indistinguishable": scale.indistinguishable,
        "separable": scale.separable,
        "jsd": scale.jsd(measured.value),
        "exact": measured.exact,
        "exact_error": measured.exact_error,
        "share": measured.share,
        "share_error": _finite(measured.share_error),
        **{
            f"gradient_{name}": agreement and _finite(getattr(agreement, name))
            for name in ("cosine", "cosine_error", "l2", "l2_error")
        },
        "lipschitz": _finite(measured.lipschitz),
        "no_bound": measured.no_bound,
        "certified": measured.certified,
        "certified_share": measured.certified_share,
        "transport": measured.transport,
        "transport_samples": transported and transported.samples,
        "transport_floor": transported and transported.floor,
        "slope": transported and transported.slope,
        "value_per_slope": measured.value_per_slope,
        "warning": measured.warning,
        "critic_error": measured.critic_error,
        "seconds": measured.seconds,
        "history": [{key: _finite(number) for key, number in record.items()} for record in measured.history],
    }


def log_record(point: dict[str, float], seconds: float) -> dict[str, float | int | None]:
    """A point of the history as a line of log.jsonl has it: with the seconds of training, by which it is followed."""
    return {**{key: number if key == "step" else _finite(number) for key, number in point.items()}, "seconds": seconds}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
