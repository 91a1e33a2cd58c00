"""Checks a certificate again without training: from the critics' weights, and from the samples where they are there.

No number of the file is trusted that follows from something else: constants follow from weights, parts of the samples
from the seed, means and variances from weights and samples, bounds from those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import attrs
import torch
from torch import Tensor, nn

from ganframe.analysis import certificate, certify, critics
from ganframe.analysis.bernstein import Mean
from ganframe.analysis.certificate import CRITICS, FILE, Certificate, Critic, Finding, Part
from ganframe.analysis.certify import SideSamples
from ganframe.analysis.sources import Source, reopened, with_features
from ganframe.components import DataSpec
from ganframe.errors import RequestError
from ganframe.plugins.registry import Registry, load
from ganframe.recipes.reading import structure_critic
from ganframe.storage.files import checksum
from ganframe.storage.weights import load_weights, read_weights
from ganframe.training.accelerator import process_state_kept, single_device

EXACT = 1e-9  # relative, of what is computed in float64 from the same numbers
ROUNDED = 1e-4  # of the interval of scores, where a generator's samples were made again with other rounding
TRAINING = (
    "that the critics were trained, and the intervals of their scores chosen, without the judged samples: only "
    "training again could show it"
)
SIDES = ("data", "against")


@attrs.frozen
class Verification:
    """What was found to be so, and what could not be obtained, a line each."""

    certificate: Certificate
    checked: tuple[str, ...]
    missing: tuple[str, ...]


@process_state_kept()
def verify_certificate(
    file: str | Path, *, data: str | Path | None = None, against: str | Path | None = None
) -> Verification:
    """Checks a certificate (certificate.json or its folder) by all that can be obtained.

    `data` and `against` are where a run or a file of samples lies now, if not where the certificate says. Raises
    RequestError, which names the number, the file or the samples, at the first that differs.
    """
    registry, device = load(), single_device()
    found = certificate.read(file, registry)
    check = _Check(found, registry, device)
    check.sums()
    networks = {name: check.networks(name, finding) for name, finding in check.findings}
    checked = ["bounds from means, variances and constants", "Lipschitz constants from the critics' weights"]
    pair, missing = check.sources({"data": data, "against": against})
    lines, untold = check.samples(pair, networks)
    return Verification(found, (*checked, *lines), (*missing, *untold, TRAINING))


class _Check:
    def __init__(self, found: Certificate, registry: Registry, device: torch.device) -> None:
        self.found, self.registry, self.device = found, registry, device
        self.path = found.folder / FILE
        self.findings = (("found", found.found), ("null", found.null))
        if not 0 < found.delta < 1:
            self.fail("delta", f"must be between 0 and 1, not {found.delta:g}")
        try:
            self.spec = DataSpec(found.shape, is_image=found.is_image)
            self.recipe = structure_critic(found.recipe, registry, f"{self.path}: recipe")
        except ValueError as error:
            self.fail("shape", str(error))

    def fail(self, place: str, text: str) -> NoReturn:
        raise RequestError(f"{self.path}: {place}: {text}")

    def same(self, place: str, stated: float, computed: float, of: str, within: float | None = None) -> None:
        """Fails where a number is not the one computed, within EXACT of it or an absolute difference."""
        allowed = EXACT * max(abs(computed), abs(stated)) if within is None else within
        if not abs(stated - computed) <= allowed:
            self.fail(place, f"the file says {stated:.10g}, and {of} give {computed:.10g}")

    # ------------------------------------------------------------------------------------------------- without samples

    def sums(self) -> None:
        """What follows from other numbers of the file."""
        found, risk = self.found, self.found.delta / len(CRITICS)
        for place, finding in self.findings:
            for name, critic in finding.critics.items():
                self._scores(f"{place}.critics.{name}", critic, finding)
                computed = critic.recomputed(risk)
                means = "its means, variances and constant"
                self.same(f"{place}.critics.{name}.certified", critic.certified, computed, means)
            best = max(critic.certified for critic in finding.critics.values())
            self.same(f"{place}.certified", finding.certified, best, "its critics")
            self.same(f"{place}.best", finding.critics[finding.best].certified, best, "its critics")
        self.same("certified", found.certified, found.found.certified, "its critics")
        self.same("confidence", found.confidence, 1 - found.delta, "delta")
        share = found.certified / found.spread if found.spread > 0 else 0.0
        self.same("share", found.share, share, "certified and spread")
        if found.says != certify.sentence(found.certified, found.delta, found.features):
            self.fail("says", "is not what the numbers say")
        judged = {side: getattr(found.found, side) for side in SIDES}
        each = (judged["data"].judged + judged["data"].other) // 2
        for side in SIDES:
            part: Part = getattr(found.null, side)
            if (part.judged, part.other) != (each // 2, each - each // 2):
                self.fail(f"null.{side}", "its samples are not those of two halves of the data")

    def _scores(self, place: str, critic: Critic, finding: Finding) -> None:
        if not critic.low <= critic.high:
            self.fail(place, f"low is {critic.low:g}, above high, {critic.high:g}")
        width = critic.high - critic.low
        for side in SIDES:
            mean, part = getattr(critic, side), getattr(finding, side)
            if mean.samples != part.judged or mean.samples < 1:
                self.fail(f"{place}.{side}", f"has {mean.samples} samples, and {part.judged} are judged")
            slack = EXACT * max(1.0, abs(critic.low), abs(critic.high))
            if not (critic.low - slack <= mean.mean <= critic.high + slack):
                self.fail(f"{place}.{side}.mean", f"{mean.mean:g} is not between low and high")
            if not 0 <= mean.variance <= width * width / 4 + slack:
                self.fail(f"{place}.{side}.variance", f"{mean.variance:g} is none of scores between low and high")

    def networks(self, place: str, finding: Finding) -> dict[str, nn.Module]:
        """The critics of a finding with their weights, whose constants are as stated."""
        networks: dict[str, nn.Module] = {}
        for name, critic in finding.critics.items():
            if Path(critic.weights).name != critic.weights:
                self.fail(f"{place}.critics.{name}.weights", "must be a file beside the certificate")
            file = self.found.folder / critic.weights
            if not file.is_file():
                self.fail(
                    f"{place}.critics.{name}.weights", f"there is no file {critic.weights} beside the certificate"
                )
            if checksum(file) != critic.sha256:
                self.fail(f"{place}.critics.{name}.sha256", f"{critic.weights} is not the file of the certificate")
            networks[name] = self._network(file, name)
            proved = critics.constant(networks[name], self.spec).value
            self.same(f"{place}.critics.{name}.constant", critic.constant, proved, "its weights")
        return networks

    def _network(self, file: Path, name: str) -> nn.Module:
        if name == "trained":
            network: nn.Module = critics.untrained(self.recipe, self.spec)
        else:
            points = read_weights(file).get("points")
            if points is None or tuple(points.shape[1:]) != self.spec.shape or not len(points):
                raise RequestError(f"{file}: holds no points of shape {self.spec.shape}")
            network = critics.Nearest(torch.zeros_like(points))
        load_weights(file, network)
        return network.eval()

    # ---------------------------------------------------------------------------------------------------- with samples

    def sources(self, where: dict[str, Any]) -> tuple[dict[str, Source], list[str]]:
        """The sources by side, as far as they are there, and lines that say what is not."""
        opened: dict[str, Source] = {}
        missing: list[str] = []
        identities = self.found.identities
        if {*identities} != {*SIDES}:
            self.fail("identities", f"must be of {' and '.join(SIDES)}")
        for side in sorted(SIDES, key=lambda side: "file" in identities[side]):  # whose form may be the other's
            like = next((source.spec for source in opened.values()), None if self.found.features else self.spec)
            try:
                source = reopened(identities[side], like, where[side], self.registry, self.device)
            except RequestError as error:
                missing.append(f"the samples of {side}: {error}")
                continue
            for key, value in identities[side].items():
                if key not in ("run", "file") and source.identity.get(key) != value:
                    self.fail(f"identities.{side}", f"{source.title} is not what was judged: its {key} differs")
            opened[side] = source
        return opened, missing

    def samples(
        self, opened: dict[str, Source], networks: dict[str, dict[str, nn.Module]]
    ) -> tuple[list[str], list[str]]:
        """What follows from the samples, as far as they are there: lines for what is so, and for what is not known."""
        if self.found.features and (len(opened) < 2 or (opened := self._features(opened)) is None):
            return [], ["the features of the samples, which need both sides and the same network"]
        seeds = certify.seeds_of(self.found.seed)
        orders = {"data": seeds.data, "against": seeds.latents}
        sequences: dict[str, Tensor] = {}
        training = None
        for side, source in sorted(opened.items(), key=lambda item: SIDES.index(item[0])):
            part: Part = getattr(self.found.found, side)
            if source.spec.shape != self.spec.shape:
                self.fail("shape", f"samples of {source.title} have shape {source.spec.shape}")
            sequences[side] = source.draw(part.judged + part.other, orders[side])
            if len(sequences[side]) != part.judged + part.other:
                self.fail(f"found.{side}", f"{source.title} has {len(sequences[side]):,} samples, and not so many")
            if side == "data":
                training = certify.stored(source, orders[side])
        lines: list[str] = []
        if "data" in sequences:
            one, other = certify.halves(sequences["data"], training)
            lines += self._sides("null", {"data": one, "against": other}, opened["data"], opened["data"], networks)
            whole = certify.divided(sequences["data"], self.found.found.data.judged, training)
            self.same(
                "spread", self.found.spread, certify.spread_of(whole.other), "the data", self.found.spread * ROUNDED
            )
        sides = {
            side: certify.divided(x, getattr(self.found.found, side).judged, training if side == "data" else None)
            for side, x in sequences.items()
        }
        lines += self._sides("found", sides, opened.get("data"), opened.get("against"), networks)
        return list(dict.fromkeys(lines)), []

    def _features(self, opened: dict[str, Source]) -> Any:
        """Both sources by their features; None where their network cannot be had again."""
        pair = (opened["data"], opened["against"])
        try:
            one, other, described = with_features(
                pair, str(self.found.features.get("name")), self.registry, self.device
            )
        except RequestError:
            return None
        return {"data": one, "against": other} if described == self.found.features else None

    def _sides(
        self,
        place: str,
        sides: dict[str, SideSamples],
        data: Source | None,
        against: Source | None,
        networks: dict[str, dict[str, nn.Module]],
    ) -> list[str]:
        """Checks the parts of a finding, what its critics store, and the means and variances of their scores."""
        finding = dict(self.findings)[place]
        sources, lines = {"data": data, "against": against}, []
        rounded: dict[str, bool] = {}
        for side, samples in sides.items():
            source, stated, part = sources[side], getattr(finding, side), samples.part()
            assert source is not None
            if (stated.judged, stated.other, stated.stored) != (part.judged, part.other, part.stored):
                self.fail(f"{place}.{side}", "its numbers of samples are not those that its source gives")
            rounded[side] = stated.sha256 != part.sha256
            made = "run" in source.identity or bool(self.found.features)
            if rounded[side] and not made:
                self.fail(f"{place}.{side}.sha256", f"the judged samples of {source.title} are others")
            how = "made again, with other rounding" if rounded[side] else "the same"
            lines.append(f"samples of {side}: {how}, in parts that share none")
        for name, points in certify.points_of(*sides.values()).items() if len(sides) == 2 else ():
            kept: Any = networks[place][name].points
            nearly = ROUNDED * float(points.std()) if any(rounded.values()) else 0.0
            same = kept.shape == points.shape and torch.allclose(kept, points, rtol=0, atol=nearly)
            if not same:
                self.fail(f"{place}.critics.{name}.weights", "its points are not the samples that it has to store")
        for name, critic in finding.critics.items():
            for side, samples in sides.items():
                scored = critics.scores(networks[place][name], samples.judged, self.spec, self.device)
                computed = Mean.of(scored.clamp(critic.low, critic.high))
                width = critic.high - critic.low
                within = width * (ROUNDED if rounded[side] else EXACT)
                stated = getattr(critic, side)
                at = f"{place}.critics.{name}.{side}"
                self.same(f"{at}.mean", stated.mean, computed.mean, "its weights and samples", within)
                self.same(
                    f"{at}.variance", stated.variance, computed.variance, "its weights and samples", within * width
                )
        lines.append(f"means and variances of {' and '.join(sides)} from weights and samples")
        return lines
