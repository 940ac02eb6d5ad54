"""Statistics: the visit is the unit, and what one half of the samples chooses the other half reports."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.reading.statistics import choosing, estimate, overlap, paired, reporting

times = st.floats(1e-6, 1e3)
visits = st.lists(times, min_size=2, max_size=7)


def test_no_visit_says_nothing_and_one_has_no_interval() -> None:
    assert estimate([]) is None
    alone = estimate([2.0])
    assert alone and (alone.middle, alone.low, alone.high, alone.visits) == (2.0, None, None, 1)
    assert alone.half_width is None


def test_three_visits_give_the_t_interval_of_two_degrees_of_freedom() -> None:
    logs = np.log([1.0, 1.1, 1.3])
    reach = 4.302653 * logs.std(ddof=1) / math.sqrt(3)
    made = estimate([1.0, 1.1, 1.3])
    assert made and made.low and made.high
    assert made.low == pytest.approx(math.exp(logs.mean() - reach), rel=1e-6)
    assert made.high == pytest.approx(math.exp(logs.mean() + reach), rel=1e-6)


@given(visits, st.floats(0.01, 100))
def test_an_interval_holds_its_middle_and_follows_the_unit(values: list[float], unit: float) -> None:
    made, other = estimate(values), estimate([value * unit for value in values])
    assert made and made.low and made.high and other
    assert made.low <= made.middle * (1 + 1e-9) and made.middle <= made.high * (1 + 1e-9)
    assert other.middle == pytest.approx(made.middle * unit, rel=1e-6)


@given(visits)
def test_less_spread_is_a_narrower_interval(values: list[float]) -> None:
    wide = estimate(values)
    assert wide
    narrow = estimate([wide.middle * (value / wide.middle) ** 0.5 for value in values])
    assert narrow and (narrow.half_width or 0) <= (wide.half_width or 0) + 1e-9


@given(visits, st.floats(0.1, 10), st.lists(st.floats(0.5, 2), min_size=7, max_size=7))
def test_a_slow_visit_cancels_out_of_a_ratio(values: list[float], ratio: float, slow: list[float]) -> None:
    over = {visit: value * ratio * slow[visit] for visit, value in enumerate(values)}
    under = {visit: value * slow[visit] for visit, value in enumerate(values)}
    made = paired(over, under)
    assert made and made.middle == pytest.approx(ratio) and made.high == pytest.approx(made.low)


def test_a_ratio_takes_only_the_visits_both_have() -> None:
    made = paired({1: 4.0, 2: 100.0}, {1: 2.0, 3: 1.0})
    assert made and (made.middle, made.visits) == (2.0, 1)
    assert paired({1: 1.0}, {2: 1.0}) is None


def test_odd_samples_choose_and_even_ones_report() -> None:
    seconds = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]
    assert (choosing(seconds), reporting(seconds)) == (2.0, 20.0)
    assert (choosing([5.0]), reporting([5.0])) == (5.0, 5.0)


def test_a_nominal_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [estimate(list(np.exp(0.02 * rng.standard_normal(5)))) for _ in range(400)]
    covered = [bool(one and one.low and one.high and one.low <= 1 <= one.high) for one in found]
    assert 0.91 < np.mean(covered) < 0.99


def test_overlap_of_intervals() -> None:
    assert overlap(1, 2, 2, 3) and overlap(1, 4, 2, 3) and not overlap(1, 2, 2.1, 3)
