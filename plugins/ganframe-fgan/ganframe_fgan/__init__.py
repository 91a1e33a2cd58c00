"""f-GAN (Nowozin, Cseke, Tomioka 2016) and the maximum likelihood game (Goodfellow 2014) as a plugin of ganframe.

This module hands the objectives over; `divergences` is the paper's table, `objectives` the two games.
"""

from collections.abc import Mapping

from ganframe import Objective, hookimpl
from ganframe_fgan.objectives import FGAN, MaximumLikelihood

__all__ = ["FGAN", "MaximumLikelihood"]


@hookimpl
def ganframe_objectives() -> Mapping[str, type[Objective]]:
    return {"f_gan": FGAN, "maximum_likelihood": MaximumLikelihood}
