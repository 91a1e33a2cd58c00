"""Every term passes ganframe's conformance kit for plugin authors."""

import pytest
from ganframe_terms import L1, ClassHead, ClassScores, FeatureMatching, Info, ModeSeeking, SemiSupervised

import ganframe
from ganframe import DataSpec
from ganframe.testing import check_term

MLP = ganframe.component("discriminator", "mlp")


@pytest.mark.parametrize(
    "term",
    [
        L1(),
        FeatureMatching(),
        ModeSeeking(),
        Info(categories=3, continuous=2),
        Info(categories=0, continuous=2),
    ],
    ids=str,
)
def test_conformance(term):
    check_term(term)


@pytest.mark.parametrize("term", [ClassHead(), ClassHead(on_fakes=False), ClassHead(weight_generator=0.0)], ids=str)
def test_class_head_conformance(term):
    check_term(term, DataSpec((5,), classes=4), discriminator=MLP(hidden=(8,)))  # which does not see the label


def test_semi_supervised_conformance():
    check_term(SemiSupervised(), DataSpec((5,), classes=4), discriminator=ClassScores(of=MLP(hidden=(8,))))
