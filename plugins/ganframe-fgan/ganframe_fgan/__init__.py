"""f-GAN (Nowozin, Cseke, Tomioka 2016) and maximum likelihood GAN (Goodfellow 2014) as a plugin of ganframe.

This module registers the objectives; `divergences` has the paper's tables, `objectives` the two objectives.
"""

from collections.abc import Mapping

from ganframe import Objective, hookimpl
from ganframe_fgan.objectives import FGAN, MaximumLikelihood

__all__ = ["FGAN", "MaximumLikelihood"]


@hookimpl
def ganframe_objectives() -> Mapping[str, type[Objective]]:
    return {"f_gan": FGAN, "maximum_likelihood": MaximumLikelihood}
