"""The scores of a run while it trains: by the metrics of its recipe, and the best checkpoint by one of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from ganframe.engine.state import State
from ganframe.errors import warn
from ganframe.judging.best import headline, score_curves
from ganframe.judging.generated import generate
from ganframe.judging.protocol import Score, numbers, recipe_hash
from ganframe.storage.evaluations import append_evaluations, keep_evaluations
from ganframe.storage.run_folder import RunFolder
from ganframe.storage.weights import load_generator_weights
from ganframe.training.networks import evaluation, in_parts, samples_at_a_time
from ganframe.training.trainer import Trainer


class Scores:
    """Judges a run, as a callback of each step, in every process; the first one computes and writes.

    `best` is the step of the best checkpoint so far, where the recipe asks for it. `save` saves a checkpoint.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder, save: Callable[[State], None]) -> None:
        assert trainer.judge is not None
        self.trainer, self.judge, self.folder, self.save = trainer, trainer.judge, folder, save
        self.main = trainer.accelerator.is_main_process
        self.latest: dict[str, Score] = {}
        recipe = trainer.recipe
        self.about: dict[str, Any] = {
            "by": "run",
            "recipe": recipe_hash(recipe),
            "seed": recipe.seed,
            "averaged": trainer.averaged is not None,
            "versions": trainer.versions,
        }
        self.scores: list[Score] = []
        self.return_to(trainer.state.step)

    def return_to(self, step: int) -> None:
        """Forgets the scores of later steps, as of a run that was killed or rolled back."""
        if self.main:
            self.scores = keep_evaluations(self.folder, step)

    @property
    def best(self) -> int | None:
        """The step of the best checkpoint so far."""
        kept = self.trainer.best
        return None if kept is None else kept.step(self.scores)

    def __call__(self, state: State) -> None:
        names = self.due(state.step)
        if not names:
            return
        before = self.best
        if self.main:
            self._add(self._judged(self.trainer.sampled, names, state.step, None))
            values = {
                f"{s['metric']}/{name}": value for s in self.latest.values() for name, value in numbers(s).items()
            }
            self.trainer.accelerator.log(values, step=state.step)
        if self.trainer.best is not None:
            improved = broadcast_object_list([self.main and self.best != before])[0]
            if improved and not self._is_saved_anyway(state.step):
                self.save(state)

    def due(self, step: int) -> list[str]:
        """The metrics that judge at a step: at the last one, all."""
        last = step == self.trainer.recipe.train.steps
        entries = self.judge.evaluations.items()
        return [name for name, entry in entries if last or (entry.every is not None and step % entry.every == 0)]

    def judge_chosen(self) -> None:
        """Judges the generator that was chosen, at the end of a run that keeps its best checkpoint."""
        step, last = self.best, self.trainer.recipe.train.steps
        if not self.main or step is None:
            return
        chosen = self.trainer.recipe.log.keep_best
        network = self.trainer.sampled
        if step != last:
            network = copy.deepcopy(network)
            load_generator_weights(self.folder.generator, network)
        self._add(self._judged(network, list(self.judge.evaluations), step, chosen))

    def text(self) -> str:
        """The latest scores, for the progress bar."""
        entries = self.judge.evaluations
        return "  ".join(headline(entries[name].metric, score) for name, score in self.latest.items())

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """(step, value) of each metric's first number."""
        return score_curves(self.scores, self.judge.evaluations)

    def _is_saved_anyway(self, step: int) -> bool:
        return self.trainer.cadences.checkpoints(step)

    def _add(self, scores: list[Score]) -> None:
        self.scores += scores
        append_evaluations(self.folder, scores)
        for score in scores:
            self.latest[score["metric"]] = score
            if "error" in score:
                warn(f"{self.folder.path}: step {score['judged']['step']}: {score['metric']}: {score['error']}")

    def _judged(self, network: nn.Module, names: list[str], step: int, chosen: str | None) -> list[Score]:
        trainer, judge = self.trainer, self.judge
        heeds_y = trainer.heeding is not None and trainer.heeding.generator

        def decode(z: Tensor, y: Tensor) -> Tensor:
            device = trainer.state.device
            return in_parts(network, samples_at_a_time(trainer.spec, device), device, z, y)

        with evaluation(network), torch.no_grad():
            x, y = generate(judge, trainer.recipe.latent, decode, judge.wanted(names), heeds_y)
        scores = judge.scores(x, y, names)
        for score in scores:
            score["protocol"]["chosen_by"] = chosen
        return [{**score, "judged": {"step": step, **self.about}} for score in scores]
