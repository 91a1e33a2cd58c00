"""Studies of a few steps."""

from textwrap import dedent

import pytest

from ganframe.studies import study as studies
from ganframe.studies.plan import load_study
from ganframe.studies.work import work

STUDY = """
base = "tiny.toml"
seeds = 2
[[axes.objective]]
name = "vanilla"
set = ["objective.use=vanilla"]
[[axes.objective]]
name = "saturating not"
objective = { use = "non_saturating" }
"""


@pytest.fixture
def write_study(tiny, tmp_path):
    """write_study(more="", study=STUDY, base=""): the file of a study of two cells and two seeds on a tiny recipe.

    `base` is added to the recipe, `more` to the study.
    """

    def write(more="", study=STUDY, base="", name="study.toml"):
        tiny(base)
        file = tmp_path / name
        file.write_text(study + dedent(more), encoding="utf-8")
        return file

    return write


@pytest.fixture
def in_process(monkeypatch):
    """Studies are worked on in this process, which takes less time than to start another one."""

    def employ(folder, jobs, threads, look):
        return list(work(load_study(folder / "study.toml"), folder).refused.values())

    monkeypatch.setattr(studies, "employ", employ)


@pytest.fixture
def metric(install):
    """Installs a metric `spread`: the mean distance of samples from their mean."""
    return install("ganframe-spread", METRIC, module="ganframe_spread", plugin="spread")


METRIC = """
import attrs
from ganframe import Metric, hookimpl, option


@attrs.frozen
class Spread(Metric):
    "Mean distance of the samples from their mean."

    power: int = option(1, help="of the distance")
    better = {"spread": "higher"}
    samples = 64

    def build(self, judging):
        return lambda x, y: {"spread": float((x - x.mean(0)).norm(dim=1).pow(self.power).mean())}


@hookimpl
def ganframe_metrics():
    return {"spread": Spread}
"""
