"""The hooks of the plugin API. Each takes no arguments and returns a mapping from names to classes, or to functions.

A plugin is a module that implements any of them, named by an entry point in the group `ganframe`:

    [project.entry-points.ganframe]
    hinge = "ganframe_hinge"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import pluggy
import torch

from ganframe.components import (
    KINDS,
    Constraint,
    Dataset,
    Discriminator,
    Features,
    Generator,
    Judging,
    Metric,
    Objective,
    Term,
)

PROJECT = "ganframe"

F = TypeVar("F", bound=Callable[..., object])
hookspec = cast(Callable[[F], F], pluggy.HookspecMarker(PROJECT))
hookimpl = cast(Callable[[F], F], pluggy.HookimplMarker(PROJECT))
"""Marks a function as the implementation of the hook with the same name."""

HOOKS: dict[str, str] = {f"ganframe_{kind}s": kind for kind in KINDS}
"""Hook name -> the kind of component it returns."""

OPTIMIZERS = "ganframe_optimizers"
"""The hook that returns classes of torch.optim.Optimizer, which are not components."""

FEATURES = "ganframe_features"
"""The hook that returns functions which build feature networks for metrics. They are not components either."""


@hookspec
def ganframe_generators() -> Mapping[str, type[Generator]]:  # type: ignore[empty-body]
    """Generators by name.

    Example:

        @attrs.frozen
        class Affine(Generator):
            \"\"\"G(z) = A z + b: sufficient for one Gaussian.\"\"\"
            def build(self, data, latent_dim):
                return AffineNet(latent_dim, *data.shape)   # forward(z, y) -> (N, *data.shape)

        @hookimpl
        def ganframe_generators():
            return {"affine": Affine}
    """


@hookspec
def ganframe_discriminators() -> Mapping[str, type[Discriminator]]:  # type: ignore[empty-body]
    """Discriminators by name.

    Example:

        @attrs.frozen
        class Quadratic(Discriminator):
            \"\"\"D(x) = x'Ax + b'x + c.\"\"\"
            def build(self, data):
                return QuadraticNet(*data.shape)            # forward(x, y) -> scores (N,)

        @hookimpl
        def ganframe_discriminators():
            return {"quadratic": Quadratic}
    """


@hookspec
def ganframe_objectives() -> Mapping[str, type[Objective]]:  # type: ignore[empty-body]
    """Objectives by name.

    Example:

        @attrs.frozen
        class Hinge(Objective):
            \"\"\"Hinge loss (Lim & Ye 2017).\"\"\"
            margin: float = option(1.0, help="scores beyond this distance from 0 have zero loss")
            def discriminator_loss(self, real, fake):
                return relu(self.margin - real).mean() + relu(self.margin + fake).mean()
            def generator_loss(self, fake, real=None):
                return -fake.mean()

        @hookimpl
        def ganframe_objectives():
            return {"hinge": Hinge}
    """


@hookspec
def ganframe_constraints() -> Mapping[str, type[Constraint]]:  # type: ignore[empty-body]
    """Lipschitz constraints and other regularisers of the discriminator, by name.

    Example:

        @attrs.frozen
        class R1(Constraint):
            \"\"\"Gradient penalty on real samples (Mescheder et al. 2018, eq. 9).\"\"\"
            gamma: float = option(1.0, help="weight; the penalty is gamma/2 times the mean squared norm")
            input_gradients = True
            def penalty(self, D, real, fake):
                gradients = score_gradients(D, real.scores, real.x)   # (N, numbers of a sample)
                return self.gamma / 2 * gradients.square().sum(1).mean()

        @hookimpl
        def ganframe_constraints():
            return {"r1": R1}
    """


@hookspec
def ganframe_terms() -> Mapping[str, type[Term]]:  # type: ignore[empty-body]
    """Terms of a player's loss, by name.

    Example:

        @attrs.frozen
        class L1(Term):
            \"\"\"weight · E|x - G(z, y)|, for real samples x with conditions y (Isola et al. 2017, eq. 3).\"\"\"
            weight: float = option(100.0, help="weight of the term", scheduled=True)
            needs_real = "x"
            def generator_term(self, turn):
                return self.weight * (turn.real.x - turn.fake.x).abs().mean()

        @hookimpl
        def ganframe_terms():
            return {"l1": L1}
    """


@hookspec
def ganframe_datasets() -> Mapping[str, type[Dataset]]:  # type: ignore[empty-body]
    """Datasets by name.

    Example:

        @attrs.frozen
        class Helix(Dataset):
            \"\"\"Points on a helix in three dimensions.\"\"\"
            count: int = option(10_000, help="number of points")
            @property
            def spec(self):
                return DataSpec(shape=(3,))
            def build(self):
                t = torch.rand(self.count) * 12
                x = torch.stack([t.cos(), t.sin(), t / 6 - 1], dim=1)
                return TensorDataset(x, torch.zeros(self.count, dtype=torch.long))

        @hookimpl
        def ganframe_datasets():
            return {"helix": Helix}
    """


@hookspec
def ganframe_optimizers() -> Mapping[str, type[torch.optim.Optimizer]]:  # type: ignore[empty-body]
    """Optimisers by name, as [optimizer.generator] use = "…" may name them besides those of torch.optim.

    Example:

        class OptimisticAdam(torch.optim.Optimizer):
            \"\"\"Optimistic Adam (Daskalakis et al. 2018, algorithm 1).\"\"\"

        @hookimpl
        def ganframe_optimizers():
            return {"OptimisticAdam": OptimisticAdam}
    """


@hookspec
def ganframe_metrics() -> Mapping[str, type[Metric]]:  # type: ignore[empty-body]
    """Metrics by name.

    Example:

        @attrs.frozen
        class MeanDistance(Metric):
            \"\"\"Distance between the means of generated and real features.\"\"\"
            features: str = option("pixels", help="name of the features")
            better = {"mean_distance": "lower"}
            def build(self, judging):
                extract = judging.features(self.features)
                real = extract(judging.real(judging.samples)[0]).mean(0)
                return lambda x, y: {"mean_distance": (extract(x).mean(0) - real).norm().item()}

        @hookimpl
        def ganframe_metrics():
            return {"mean_distance": MeanDistance}
    """


@hookspec
def ganframe_features() -> Mapping[str, Callable[[Judging], Features]]:  # type: ignore[empty-body]
    """Features by name: functions judging -> Features, as metrics name them in `features`.

    Example:

        def small(judging):
            \"\"\"Images in 8×8 pixels.\"\"\"
            return Features(torch.nn.Flatten(), channels=3, size=8)

        @hookimpl
        def ganframe_features():
            return {"small": small}
    """
