"""Five more ways to hold a critic back, as a plugin of ganframe.

This module hands the constraints over. `gradients` bounds D's slope, `consistency` the effect of dropout on D,
`weights` looks at D's matrices alone, and `noise` at what D sees.
"""

from collections.abc import Mapping

from ganframe import Constraint, hookimpl
from ganframe_lipschitz.consistency import Consistency
from ganframe_lipschitz.gradients import DRAGAN, LipschitzPenalty
from ganframe_lipschitz.noise import InstanceNoise
from ganframe_lipschitz.weights import Orthogonal

__all__ = ["DRAGAN", "Consistency", "InstanceNoise", "LipschitzPenalty", "Orthogonal"]


@hookimpl
def ganframe_constraints() -> Mapping[str, type[Constraint]]:
    return {
        "lp": LipschitzPenalty,
        "consistency": Consistency,
        "dragan": DRAGAN,
        "orthogonal": Orthogonal,
        "instance_noise": InstanceNoise,
    }
