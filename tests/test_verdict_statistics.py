"""The statistics of verdicts: what they promise holds for runs that were drawn, with fixed seeds."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from suite.comparing import trial
from suite.comparing.discoveries import adjusted, bars
from suite.comparing.power import OFTEN, needed, power, seen
from suite.comparing.verdicts import Rule
from suite.comparing.welch import TESTS, Difference, difference, estimate

LOGS = st.lists(st.floats(-1, 1), min_size=2, max_size=12)
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def trimmed(base, head, share):
    return Difference(*map(float, estimate(np.array(base), np.array(head), share)))


@pytest.mark.parametrize("share", TESTS)
@given(base=LOGS, head=LOGS)
def test_welch_and_yuen_are_scipys(share, base, head):
    ours = trimmed(base, head, share)
    kept = [
        sorted(side)[int(share * len(side)) : len(side) - int(share * len(side))] for side in (base, head)
    ]
    if min(map(np.std, kept)) < 1e-3:  # below it, a floor: no timer is that good
        return
    theirs = stats.ttest_ind(head, base, equal_var=False, trim=share)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    assert ours.freedom == pytest.approx(theirs.df, rel=1e-6)


@given(LOGS, LOGS)
def test_each_of_two_tests_has_half_the_level(base, head):
    found = difference(base, head)
    both = [trimmed(base, head, share) for share in TESTS]
    assert found.tests == 2 and found.p >= min(1, 2 * min(one.p for one in both)) - 1e-12
    low, high = found.interval()
    assert low < found.middle < high and (low <= 0 <= high) == (found.p >= 0.05)


@given(LOGS)
def test_equal_sides_differ_by_nothing(logs):
    assert difference(logs, logs).p == pytest.approx(1)


def test_a_stray_run_does_not_hide_a_change():
    quiet = [0.0, 0.01, -0.01, 0.005, -0.005, 0.0]
    slow = [one + 0.26 for one in quiet[:-1]] + [2.0]
    assert trimmed(quiet, slow, 0.0).p > 0.1 and difference(quiet, slow).p < 0.001


def test_times_without_scatter_have_a_test_all_the_same():
    assert difference([0.0] * 5, [0.0] * 5).p == 1
    assert difference([0.0] * 5, [0.05] * 5).p < 1e-6


@given(SHARES)
def test_discoveries_are_benjamini_and_hochbergs(found):
    assert adjusted(found) == pytest.approx(list(stats.false_discovery_control(found)))


@given(SHARES, st.floats(1e-3, 0.2))
def test_the_bar_of_a_test_is_what_its_p_must_stay_below_whatever_it_was(found, level):
    steps = [level * rank / len(found) for rank in range(1, len(found) + 1)]
    assume(not any(one == pytest.approx(step) for one in found for step in steps))  # but for rounding
    for at, bar in enumerate(bars(found, level)):
        assert (adjusted(found)[at] <= level) == (found[at] <= bar)
        for other, told in ((0.999 * bar, True), (1.001 * bar + 1e-12, False)):
            moved = [*found[:at], other, *found[at + 1 :]]
            assert (adjusted(moved)[at] <= level) is told


@settings(deadline=None)
@given(st.integers(5, 20), st.floats(0.001, 0.3), st.floats(1e-4, 0.05))
def test_what_could_have_been_seen_is_seen_four_times_in_five(runs, spread, level):
    made = difference(*np.random.default_rng(runs).normal(0, spread, (2, runs)))
    change = seen(made, level, 0.01)
    if change < 1e3:
        assert power(change, made, level, 0.01) == pytest.approx(OFTEN, abs=1e-3)
    assert power(0.5 * change, made, level, 0.01) < OFTEN < power(2 * change, made, level, 0.01) + 1e-3


def test_runs_that_differ_beyond_measure_could_have_seen_nothing():
    wild = difference([0.0, 0.0, 0.0, 0.0, 30.0, 30.0], [0.0, 0.0, 0.0, 30.0, 30.0, 30.0])
    for level in (0.02, 1e-6, 1e-12):
        assert 1e3 < seen(wild, level, 0.01) < float("inf")


def test_power_far_out_is_certain():
    made = difference([0, 1e-4, 2e-4, 1e-4, 0], [0, 1e-4, 0, 1e-4, 2e-4])
    assert power(0.3, made, 0.001, 0.01) == 1


@pytest.mark.parametrize("spread", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("runs", [5, 10])
def test_the_power_that_is_printed_is_the_power_there_is(runs, spread):
    """On average over runs of equal code, each with its own idea of how much they scatter."""
    level, effect = 0.004, Rule().effect
    drawn = np.random.default_rng(0).normal(0, spread, (400, 2, runs))
    found = [difference(*sides) for sides in drawn]
    marks = [needed(one, level, effect) for one in found]

    def reported(changes):
        met = [
            one.middle + np.log1p(change) > mark * one.error
            for one, mark, change in zip(found, marks, changes, strict=True)
        ]
        return stats.binomtest(sum(met), len(met)).proportion_ci(0.999)

    sights = [seen(one, level, effect) for one in found]
    for share in (0.4, 0.7, 1.0, 1.5):
        change = float(share * np.median(sights))
        low, high = reported([change] * len(found))
        assert low <= np.mean([power(change, one, level, effect) for one in found]) <= high
    low, high = reported(sights)
    assert low <= OFTEN <= high


def test_what_a_comparison_says_it_could_have_seen_is_seen():
    """Though each kernel is told by whatever is known most precisely, of four ways."""
    some = [list(trial.sights(trial.drawn(at, 6, 0.03, 0.6, 0.0))) for at in range(50)]
    _, low, high = trial.rate(trial.met(some))
    assert low - 0.03 <= OFTEN <= high + 0.03


@given(st.integers(2, 40), st.integers(2, 6))
def test_cases_that_always_agree_within_a_comparison_count_once(comparisons, cases):
    found = [(cases * (at % 2), cases) for at in range(2 * comparisons)]
    alone = [(at % 2, 1) for at in range(2 * comparisons)]
    assert trial.rate(found) == pytest.approx(trial.rate(alone))
    once = stats.binomtest(comparisons, 2 * comparisons).proportion_ci()
    assert trial.rate(found)[1:] == pytest.approx((once.low, once.high), abs=0.05)


@given(st.integers(0, 50), st.integers(1, 50))
def test_cases_without_comparisons_are_clopper_and_pearsons(some, more):
    once = stats.binomtest(some, some + more).proportion_ci()
    assert trial.rate([(some, some + more)])[1:] == pytest.approx((once.low, once.high), abs=1e-9)


def told(gate, how, pairs=40, **slower):
    some = [
        trial.drawn(1000 + at, how["runs"], how["spread"], how["shared"], **slower) for at in range(pairs)
    ]
    return trial.rate((trial.caught if slower["slower"] else trial.cried)(gate, some))[0]


SETTINGS = [
    {"runs": 5, "spread": 0.02, "shared": 0.0},
    {"runs": 10, "spread": 0.02, "shared": 0.0},
    {"runs": 10, "spread": 0.1, "shared": 0.9},
]


@pytest.mark.parametrize("how", SETTINGS, ids=str)
def test_equal_code_is_hardly_ever_said_to_have_changed(how):
    assert told(trial.verdicts, how, slower=0.0) <= 0.01


def test_five_percent_is_caught_at_two_percent_spread():
    assert told(trial.verdicts, SETTINGS[1], slower=0.05) >= 0.9


def test_dense_tells_the_machines_share_from_the_codes():
    """Most of a spread of 10 % is the machine's: a change of 30 % is seen, which a time alone hides."""
    assert told(trial.verdicts, SETTINGS[2], slower=0.3) >= 0.9


def test_pooled_samples_cry_wolf():
    """Which is why nobody should gate on them, and why the page says so."""
    assert told(trial.ranks, SETTINGS[1], pairs=10, slower=0.0) > 0.5


def test_the_rule_is_what_the_page_says():
    assert Rule() == Rule(effect=0.01, same=0.10, level=0.02, runs=5)
