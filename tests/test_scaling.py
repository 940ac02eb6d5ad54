"""Laws: coefficients that were planted are found again, and what was not varied is not made up."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import header, score, write
from msgspec.structs import replace

from suite import report
from suite.reading.opened import opened
from suite.reading.scaling import Law, Run, fit, fitted, nearest, optimal, tried
from suite.reading.scores import studies

PLANTED = Law(a=16.8, b=0.722, c=45.0, n=0.245, d=6.9e4, m=0.203, e=0.651)
SPARSITIES = (0.0, 0.5, 0.75, 0.875)
SIZES, EXAMPLES = (1e4, 4e4, 1.6e5, 6.4e5), (1e4, 8e4, 6.4e5)


def runs(law=PLANTED, examples=EXAMPLES, noise=0.0, sparsities=SPARSITIES):
    """A grid of models. An example takes as many FLOPs as if half of the zeros were multiplied."""
    drawn = np.random.default_rng(0)
    return [
        Run(s, n, d, law(s, n, d) * math.exp(noise * drawn.standard_normal()), 6 * n / (1 - s / 2) * d)
        for s, n, d in itertools.product(sparsities, SIZES, examples)
    ]


@pytest.mark.paper("sparse-scaling-laws")
def test_planted_coefficients_are_recovered():
    found = fit(runs())
    for name in ("b", "n", "m", "e"):
        assert getattr(found, name) == pytest.approx(getattr(PLANTED, name), rel=0.02), name
    for name in ("a", "c", "d"):
        assert getattr(found, name) == pytest.approx(getattr(PLANTED, name), rel=0.1), name


@pytest.mark.paper("sparse-scaling-laws")
def test_with_noise_it_foretells_what_it_has_not_seen():
    """Two in a hundred of noise, and a size four times beyond the grid, within five in a hundred."""
    found = fit(runs(noise=0.02))
    for s, d in itertools.product(SPARSITIES, EXAMPLES):
        assert found(s, 2.56e6, d) == pytest.approx(PLANTED(s, 2.56e6, d), rel=0.05)


@pytest.mark.paper("sparse-scaling-laws")
def test_without_zeros_it_is_the_dense_law():
    dense = fit(runs(sparsities=(0.0,)), sparse=False)
    assert dense.a == 0
    whole = fit(runs())
    for n, d in itertools.product(SIZES, EXAMPLES):
        assert whole(0.0, n, d) == pytest.approx(dense(0.5, n, d), rel=1e-3), "and it knows of no sparsity"
        assert whole(0.0, n, d) == pytest.approx(
            (whole.a + whole.c) * n**-whole.n + (whole.d / d) ** whole.m + whole.e
        )


def test_of_one_amount_of_data_no_law_of_data_is_told():
    found = fit(runs(examples=(8e4,)))
    assert found.d == 0
    for run in runs(examples=(8e4,)):
        assert found(*run[:3]) == pytest.approx(run.loss, rel=1e-3)
    told = tried("m", runs(examples=(8e4,)))
    assert told.budgets is None and told.optima is None


@settings(max_examples=6, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), *[st.floats(-9, 18).map(lambda power: 10**power)] * 3),
        min_size=10,
        max_size=14,
    )
)
def test_whatever_a_file_holds_a_law_is_numbers(made):
    told = tried("m", [Run(s, n, d, loss, n * d) for s, n, d, loss in made])
    assert all(math.isfinite(getattr(told.law, name)) for name in "abcnme")
    assert str(told.law) and told.best and told.off >= 0


@pytest.mark.paper("sparse-scaling-laws")
def test_the_best_sparsity_rises_with_the_budget():
    """By brute force over what was tried; with little to train on zeros cost more than they bring."""
    grid = runs()
    size = 4e4
    for flops in np.geomspace(1e2, 1e16, 20):
        losses = {s: PLANTED(s, size, flops / (6 * size / (1 - s / 2))) for s in SPARSITIES}
        assert optimal(PLANTED, grid, size, flops) == min(losses, key=losses.__getitem__)
    best = [optimal(PLANTED, grid, size, flops) for flops in np.geomspace(1e2, 1e16, 20)]
    assert best == sorted(best) and best[0] < best[-1]


def test_what_was_held_out_is_foretold_better_than_without_sparsity():
    told = tried("m", runs(noise=0.002))
    assert told.runs == len(runs()) and told.off < 0.005
    assert told.held_out < 0.01 < told.dense_law and told.held_out < told.nearest_run
    assert told.holds and told.optima is not None and "FLOPs: " in told.best


def test_where_the_law_does_not_hold_no_best_sparsity_is_told():
    """Losses that sparsity, size and data have nothing to do with."""
    drawn = np.random.default_rng(1)
    told = tried("m", [run._replace(loss=float(drawn.uniform(0.1, 2))) for run in runs()])
    assert not told.holds and told.best.startswith("not told")


def study_of(method, examples, **changes):
    """Lines of models whose loss follows the planted law, dense ones of as many nonzeros among them."""
    law = Law(a=20.0, b=0.7, c=40.0, n=0.3, d=1e4, m=0.3, e=0.2)
    about = {"training": "weights", "start": "fresh", "outcome": "ok", "better": "lower", "dense_value": 3.0}
    for (s, share), seed in itertools.product(itertools.product(SPARSITIES, (0.5, 0.21, 0.1)), (0, 1)):
        kept = 5e4 * share
        name, execution = (method, "simulated") if s else ("plain-narrow", "dense")
        parts = (
            {"criterion": "magnitude", "allocator": "global", "trainer": method.rpartition("-")[2]}
            if s
            else {}
        )
        ledger = {"nonzeros": round(kept), "train_tokens": examples, "train_flops": 6 * kept * examples}
        yield replace(
            score(),
            **about | ledger | parts | changes,
            transform=None if s else "narrow",
            method=name if s else f"{name}{examples}",
            execution=execution,
            seed=seed,
            pattern=f"unstructured@{1 - (1 - s) * share:g}",
            sparsity=1 - (1 - s) * share if s else 0.0,
            value=law(1 - (1 - s) * share if s else 0.0, kept, examples),
        )


def test_a_studys_trainings_of_all_lengths_are_one_law(tmp_path):
    lines = [
        line
        for length, examples in (("", 40_000), ("_quarter", 10_000), ("_fourfold", 160_000))
        for line in study_of(f"magnitude-global-gradual{length}", examples)
    ]
    (study,) = studies([opened(write(tmp_path / "study.jsonl", header(options={"study": []}), *lines))])
    (told,) = fitted(study)
    assert told.method == "magnitude-global-gradual" and told.runs == 36
    assert told.off < 0.01 and told.held_out < 0.01 and told.budgets is not None
    report.write([tmp_path / "study.jsonl"], tmp_path / "site")


def test_without_a_loss_or_a_ledger_there_is_no_law(tmp_path):
    for changes in ({"better": "higher"}, {"nonzeros": None}, {"start": "dense"}):
        lines = list(study_of("magnitude-global-gradual", 40_000, **changes))
        (study,) = studies([opened(write(tmp_path / "study.jsonl", header(options={"study": []}), *lines))])
        assert fitted(study) == []


def test_the_nearest_run_is_near_in_logarithms():
    among = [Run(0.5, 1e4, 1e4, 1.0), Run(0.9, 1e4, 1e4, 2.0), Run(0.5, 1e6, 1e4, 3.0)]
    assert nearest(Run(0.6, 2e4, 1e4, 0.0), among).loss == 1.0
    assert nearest(Run(0.88, 1e4, 1e4, 0.0), among).loss == 2.0
    assert nearest(Run(0.5, 1e5 * 4, 1e4, 0.0), among).loss == 3.0
