"""Tolerated sparsity: the test errs as rarely as it says, and finds a difference that is there."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.case import case
from suite.commands import load
from suite.op import generator
from suite.ops import decode
from suite.patterns.chosen import Chosen
from suite.reading.tolerated import difference, tolerated
from suite.selector import SELECTORS

load()

written = pytest.importorskip("suite.workloads.inputs_turns")

pytestmark = pytest.mark.paper("sparse-frontier")

TRIALS, ITEMS = 600, 40


def scores(loss, seed, items=ITEMS):
    """Dense scores of items of several difficulties, and sparse ones so much worse, each with noise."""
    rng = np.random.default_rng(seed)
    difficulty = rng.uniform(0.3, 0.9, items)
    noisy = [difficulty + rng.normal(0, 0.1, items) for _ in range(2)]
    return noisy[0].tolist(), (noisy[1] - loss).tolist()


def share(test):
    return sum(map(test, range(TRIALS))) / TRIALS


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_what_is_as_good_is_missed_as_often_as_the_level_says(level):
    """And as often shown to be better: both bounds hold at the level."""
    edge = 3 * math.sqrt(level * (1 - level) / TRIALS)

    def found(seed):
        dense, sparse = scores(0, seed)
        return difference(dense, sparse, 1.0, level)

    assert share(lambda seed: found(seed).high < 0) == pytest.approx(1 - level, abs=edge)
    assert share(lambda seed: found(seed).low > 0) == pytest.approx(1 - level, abs=edge)


def test_of_several_sparsities_as_good_the_highest_is_missed_no_oftener():
    """Two that are as good as dense, and a higher one that is far worse: no correction is needed."""

    def missed(seed):
        rng = np.random.default_rng(seed)
        dense = rng.normal(0.6, 0.1, ITEMS)
        sparse = {one: (rng.normal(0.6, 0.1, ITEMS) - loss).tolist() for one, loss in LOSSES.items()}
        return tolerated(dense.tolist(), sparse).most != 0.8

    LOSSES = {0.5: 0.0, 0.8: 0.0, 0.9: 0.3}
    assert share(missed) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)


def test_a_known_loss_is_found_and_a_share_of_the_quality_may_be_enough():
    dense, sparse = scores(0.06, 0, items=400)
    found = tolerated(dense, {0.5: dense, 0.9: sparse})
    assert (found.most, found.sure) == (0.5, 0.5)
    assert found.differences[0.9].low < -0.06 < found.differences[0.9].high < 0
    enough = tolerated(dense, {0.5: dense, 0.9: sparse}, threshold=0.85)  # of some 0.6, 0.09 may go
    assert (enough.most, enough.sure) == (0.9, 0.9)


def test_few_items_show_neither():
    dense, sparse = scores(0.02, 1, items=5)
    found = tolerated(dense, {0.9: sparse})
    assert (found.most, found.sure) == (0.9, None)
    assert tolerated([0.5], {0.9: [0.1]}).most == 0.9


def test_each_walk_ends_at_its_first_failure():
    good, bad = [0.9, 0.9, 0.9], [0.1, 0.1, 0.1]
    found = tolerated(good, {0.9: good, 0.5: good, 0.8: bad})
    assert found.most == 0.9, "it is not shown to be below"
    assert found.sure == 0.5, "beyond one that is below, nothing is sure"
    assert list(found.differences) == [0.5, 0.8, 0.9]
    none = tolerated(good, {0.5: bad})
    assert (none.most, none.sure) == (None, None)
    assert (tolerated(good, {}).most, tolerated(good, {}).differences) == (None, {})


@settings(max_examples=50, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12),
    threshold=st.sampled_from([1.0, 0.9]),
)
def test_the_bounds_are_those_of_students_t(pairs, threshold):
    from scipy import stats

    dense, sparse = zip(*pairs, strict=True)
    each = np.subtract(sparse, threshold * np.array(dense))
    found = difference(dense, sparse, threshold, 0.95)
    assert found.mean == pytest.approx(each.mean(), abs=1e-12)
    if each.std() > 1e-6:
        p = stats.ttest_1samp(each, 0, alternative="less").pvalue
        assert (found.high < 0) == (p < 0.05) or p == pytest.approx(0.05, rel=1e-6)
        assert found.low - found.mean == pytest.approx(found.mean - found.high)


def test_pairs_are_pairs():
    with pytest.raises(ValueError, match="longer"):
        tolerated([1.0, 0.5], {0.5: [1.0]})


# What tasks with known answers tolerate, in either phase.

SEEDS, BUDGETS, NEAR = range(4), (0.5, 0.75, 0.875, 0.9375), (3, 1, 0)
STRINGS, COUNT = "retrieval", "counting"


def items(text, answer):
    """Of each task, what its answers are worth: of a question that retrieves, and of the one that counts."""
    found = {STRINGS: [], COUNT: []}
    for name, worth in written.marked(text, answer, requests=False):
        found[COUNT if name.endswith("miscount") else STRINGS].append(
            1 - worth if "miscount" in name else worth
        )
    return found


def left_out(near, stretches):
    """The share of a causal map that sparse prefill does not look at, by stretches."""
    seen = sum(min(row + 1, near + 2) for row in range(stretches))
    return 1 - seen / (stretches * (stretches + 1) / 2)


@pytest.fixture(scope="module")
def answered():
    """Scores of both tasks: dense, and by phase and sparsity."""
    dense, sparse = {STRINGS: [], COUNT: []}, {}

    def add(phase, sparsity, text, answer):
        for task, worth in items(text, answer).items():
            held = sparse.setdefault((phase, task), {}).setdefault(sparsity, []) if phase else dense[task]
            held += worth

    for seed in SEEDS:
        one = case("decode", Chosen(0.5), "float32", seed, "turns", n=4, h=8, g=4, t=2048, d=64, b=16)
        text = written.written(one, generator(one, 1))
        k, v, q = decode.drawn(one)
        add("", 0.0, text, decode.in_full(k, v, q))
        for sparsity in BUDGETS:
            found = SELECTORS["pages"].prepare(replace(one, pattern=Chosen(sparsity)), k, v)(q)
            add("decoding", sparsity, text, decode.answer(found, k, v, q))
        for near in NEAR:
            k, v, q = written.asked(one, generator(one, 1), near=near)
            add("prefill", left_out(near, 2048 // written.STRETCH), text, decode.in_full(k, v, q))
    return dense, sparse


@pytest.mark.parametrize("phase", ["decoding", "prefill"])
def test_each_task_and_phase_tolerates_a_sparsity_of_its_own(phase, answered):
    """Retrieval nearly all that was tried; counting looks at all tokens, and in decoding tolerates little."""
    dense, sparse = answered
    found = {task: tolerated(dense[task], sparse[phase, task], threshold=0.85) for task in dense}
    for one in found.values():
        assert all(each.low <= each.mean <= each.high for each in one.differences.values())
    highest = max(sparse[phase, STRINGS])
    if phase == "decoding":
        assert (found[COUNT].most or 0) <= 0.5 < 0.75 < found[STRINGS].most
        assert found[COUNT].sure is None, "the worst task"
    else:
        assert found[COUNT].most == found[STRINGS].most == highest > 0.5
