"""Statistics over seeds, against scipy, values by hand, and the coverage that an interval claims."""

import numpy as np
import pytest
from scipy import stats

from ganframe.studies.statistics import Difference, corrected, estimate, paired

VALUES = [0.91, 0.97, 0.88, 0.95, 0.99]


def test_an_estimate_has_scipys_t_interval():
    found = estimate(VALUES)
    low, high = stats.t.interval(0.95, 4, np.mean(VALUES), stats.sem(VALUES))
    assert found.mean == pytest.approx(np.mean(VALUES))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert found.n == 5


def test_the_t_interval_of_five_seeds_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.normal(3.0, 2.0, (1500, 5)).tolist()
    covered = np.mean([abs(found.mean - 3.0) <= found.half_width for found in map(estimate, samples)])
    assert covered == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 1500) ** 0.5)


def test_no_value_has_no_estimate_and_one_no_interval():
    assert estimate([]) is None
    assert (estimate([2.5]).mean, estimate([2.5]).half_width) == (2.5, None)


@pytest.mark.parametrize("values", [[8, 8, 8], [0.1 + 0.2, 0.3, 0.3], [0.0, 0.0]])
def test_equal_values_have_an_interval_of_width_0(values):
    assert estimate(values).half_width == 0


def test_paired_differences_are_those_of_scipys_paired_test():
    base = {1: 0.8, 2: 0.9, 3: 0.85, 4: 0.7, 5: 0.95}
    values = dict(zip((5, 4, 3, 2, 1), VALUES, strict=True))  # another order of seeds
    ours = paired(values, base)
    theirs = stats.ttest_rel([values[seed] for seed in base], list(base.values()))
    interval = theirs.confidence_interval(0.95)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert (ours.mean - ours.half_width, ours.mean + ours.half_width) == pytest.approx((interval.low, interval.high))


def test_only_seeds_that_both_have_are_paired():
    assert paired({1: 3.0, 2: 5.0, 9: 100.0}, {2: 1.0, 1: 1.0, 7: 4.0}).n == 2
    assert paired({1: 3.0}, {2: 1.0}) is None
    assert paired({}, {2: 1.0}) is None
    assert paired({1: 3.0, 2: 4.0}, {2: 1.0}) == Difference(3.0, None, 1, None)


@pytest.mark.parametrize("base", [[0.1, 0.2, 0.4], [1.1, 1.2, 1.3]])
def test_the_same_difference_in_every_pair_has_no_test(base):
    """t would be infinite, or that of rounding: 0.3 - 0.2 is not 0.2 - 0.1."""
    found = paired({seed: value + 0.1 for seed, value in enumerate(base)}, dict(enumerate(base)))
    assert found.mean == pytest.approx(0.1)
    assert (found.half_width, found.p) == (0, None)


def test_no_difference_in_any_pair_is_no_evidence():
    assert paired({1: 2.0, 2: 7.0}, {1: 2.0, 2: 7.0}) == Difference(0.0, 0.0, 2, 1.0)


def test_holms_correction_by_hand():
    """Holm 1979: sorted p times m, m - 1, …, made monotone; what has no test stays out of the count."""
    given = [0.01, None, 0.04, 0.03, 0.005]
    found = corrected([None if p is None else Difference(1.0, 1.0, 5, p) for p in given])
    assert [None if d is None else pytest.approx(d.adjusted) for d in found] == [0.03, None, 0.06, 0.06, 0.02]
    untested = Difference(1.0, 0.0, 5, None)
    assert corrected([untested, Difference(1.0, 1.0, 5, 0.6)])[0].adjusted is None
    assert corrected([Difference(1.0, 1.0, 5, 0.6)] * 2)[0].adjusted == 1.0
    assert corrected([]) == []
