"""What `ganframe divergence` found, as its caller gets it and as divergence.json has it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs

from ganframe.analysis.meaning import Scale


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
    disjoint sides. `exact` is the maximum of -L_D by quadrature, where both densities on the line are known.
    `transported` is W1 between samples, where the objective is a difference of means: over 1-Lipschitz critics its
    maximum is W1. `critic_error` is the mean of |σ(D(x)) - σ(D*(x))| over both sides, where the optimal discriminator
    D* is known on the line.
    """

    folder: Path
    value: float
    error: float
    scale: Scale
    exact: float | None
    transported: Transport | None
    critic_error: float | None
    history: list[dict[str, float]]

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
        if not self.value - 2 * (0.0 if math.isnan(self.error) else self.error) > known:
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
    scale, transported = measured.scale, measured.transported
    return {
        "value": _finite(measured.value),
        "error": _finite(measured.error),
        "indistinguishable": scale.indistinguishable,
        "separable": scale.separable,
        "jsd": scale.jsd(measured.value),
        "exact": measured.exact,
        "transport": measured.transport,
        "transport_samples": transported and transported.samples,
        "transport_floor": transported and transported.floor,
        "slope": transported and transported.slope,
        "value_per_slope": measured.value_per_slope,
        "warning": measured.warning,
        "critic_error": measured.critic_error,
        "history": [{key: _finite(number) for key, number in record.items()} for record in measured.history],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
