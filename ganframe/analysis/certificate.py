"""A certificate as certificate.json has it, and how it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from ganframe.analysis.bernstein import Mean, difference
from ganframe.errors import RecipeError, RequestError
from ganframe.plugins.registry import Registry
from ganframe.recipes.strict import make_converter, problems
from ganframe.storage.files import first_line

FILE = "certificate.json"
CRITICS = ("trained", "nearest_against", "nearest_data")
"""The critics that each certificate has. Each takes an equal share of the risk, so that the best may be reported."""

ASSUMES = (
    "The judged samples of each side are independent draws of one distribution, and independent of all other samples: "
    "critics, their Lipschitz constants and the intervals of their scores were chosen without them.",
    "The seed was not chosen for its result. Of several certificates of one pair each has its own risk.",
)
COVERS = (
    "The critics are functions of real numbers with the weights in the files. Their scores are computed in float64, "
    "whose rounding is not covered; the samples are taken as they are in float32."
)


@attrs.frozen
class Critic:
    """A critic, judged: its constant from above, the interval of its scores, and their means and variances."""

    weights: str
    sha256: str
    constant: float
    layers: tuple[dict[str, Any], ...]
    covers: str
    low: float
    high: float
    data: Mean
    against: Mean
    certified: float

    def recomputed(self, risk: float) -> float:
        """W1 is at least this, but for a probability of `risk`: by the means, variances and the constant."""
        found = difference(self.data, self.against, self.high - self.low, risk)
        return max(0.0, found / self.constant) if self.constant > 0 else 0.0


@attrs.frozen
class Part:
    """The samples of one side: the first `judged` of its sequence judge, the next `other` train critics.

    `sha256` is of the judged ones. `stored` is the number of training samples of a dataset among the points of
    "nearest_data": 0 where these are of the other samples.
    """

    judged: int
    other: int
    sha256: str
    stored: int = 0


@attrs.frozen
class Finding:
    """What the critics of two sides say. `certified` is the largest bound, of the critic `best`."""

    certified: float
    best: str
    data: Part
    against: Part
    critics: dict[str, Critic]


@attrs.frozen
class Certificate:
    """With this confidence W1 of the two sides is at least `certified`, in units of distances between samples.

    `null` is the bound that the same procedure gives for two halves of the data, with a confidence of its own: above 0
    it shows that something is wrong. `spread` is the mean distance between two samples of the data, estimated, and
    `share` the bound divided by it. `identities` say what the two sides are, and `recipe` what trained the critic.
    """

    folder: Path
    says: str
    certified: float
    confidence: float
    null: Finding
    found: Finding
    spread: float
    share: float
    delta: float
    seed: int
    shape: tuple[int, ...]
    is_image: bool
    identities: dict[str, dict[str, Any]]
    features: dict[str, Any]
    recipe: dict[str, Any]
    assumes: tuple[str, ...]
    covers: str
    versions: dict[str, Any]

    def to_json(self) -> str:
        kept = attrs.asdict(self, filter=lambda attribute, _: attribute.name != "folder")
        return json.dumps(kept, indent=2) + "\n"


def read(file: str | Path, registry: Registry) -> Certificate:
    """The certificate in a file, or in a folder. Raises RequestError where it is missing or of another form."""
    path = Path(file).expanduser()
    path = path / FILE if path.is_dir() else path
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(document, dict):
            raise ValueError("it is no table")
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not a certificate: {first_line(error)}") from None
    converter = make_converter(registry)
    converter.register_structure_hook(Path, lambda value, _: value)  # handed through
    try:
        found = converter.structure({**document, "folder": path.parent}, Certificate)
    except Exception as error:
        raise RecipeError(f"{path}: {place or 'certificate'}: {text}" for place, text in problems(error)) from None
    for finding in (found.found, found.null):
        if {*finding.critics} != {*CRITICS} or finding.best not in CRITICS:
            raise RequestError(f"{path}: not a certificate: its critics must be {', '.join(CRITICS)}")
    return found
