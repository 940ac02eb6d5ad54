"""Scores: knees that were planted are found, losses are paired by seed, and what cannot be told is not."""

import itertools
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import header, line, score, write
from msgspec.structs import replace

from suite import report
from suite.op import discover_parts
from suite.reading.frame import read
from suite.reading.iso import duels
from suite.reading.joined import Times, front
from suite.reading.opened import opened
from suite.reading.orderings import claimed, orderings
from suite.reading.scores import beaten, knee, mean, named, studies, told
from suite.registry import discover

discover_parts()
discover()

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def one(method, sparsity, seed, value, dense=0.9, **changes):
    """A model of a method that trains nothing, unless told otherwise."""
    about = {
        "task": "digits_mlp",
        "protocol": "digits-5-folds",
        "data": "digits-1",
        "metric": "accuracy",
        "method": method,
        "pattern": f"unstructured@{sparsity:g}",
        "sparsity": sparsity,
        "seed": seed,
        "value": value,
        "dense_value": dense,
        "outcome": "ok",
        "infer_flops": 1e6 * (1 - sparsity),
        "train_flops": 1e9,
        "bytes": round(1e5 * (1 - sparsity)),
        "execution": "simulated",
    }
    return replace(score(), **(about | changes))


def dense(seed, value=0.9, **changes):
    about = {
        "pattern": "dense",
        "training": "weights",
        "start": "fresh",
        "execution": "dense",
        "bytes": 10**5,
    }
    return one("dense", 0.0, seed, value, value, **(about | changes))


def falling(method, edge, seeds=3, level=0.9, **changes):
    """Level up to an edge, then down steeply; seeds differ by a little."""
    for seed in range(seeds):
        for at in SPARSITIES:
            lost = max(0.0, math.log((1 - edge) / (1 - at))) * 0.3
            yield one(method, at, seed, level - lost - 0.001 * seed, **changes)


def found(tmp_path, *lines, name="study.jsonl"):
    return opened(write(tmp_path / name, header(options={"study": []}), *lines))


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 6), before=st.floats(0.0, 0.3), after=st.floats(2.0, 9.0), height=st.floats(-1, 1))
def test_a_planted_knee_is_found(cut, before, after, height):
    at = [0.1 * step for step in range(8)]
    losses = [height + before * x + max(0.0, x - at[cut]) * after for x in at]
    assert knee(at, losses) == at[cut]


def test_of_three_points_no_knee_is_told():
    assert knee([0.5, 0.7, 0.9], [0, 0, 1]) is None


def test_one_percent_is_lost_between_the_points_around_it(tmp_path):
    (study,) = studies([found(tmp_path, *falling("magnitude-uniform", 0.85))])
    (curve,) = study.curves
    tolerated = curve.tolerates()
    assert 0.8 < tolerated.low <= tolerated.middle <= tolerated.high < 0.95
    assert told(tolerated, curve).startswith("8")
    assert curve.knee in (0.8, 0.9)


def test_what_never_loses_and_what_always_does_are_told_so(tmp_path):
    lines = (*falling("good", 0.999), *falling("bad", 0.1))
    (study,) = studies([found(tmp_path, *lines)])
    words = {curve.method: told(curve.tolerates(), curve) for curve in study.curves}
    assert words == {"good": "98 % or more", "bad": "below 50 %"}


def test_a_metric_that_is_better_when_lower_loses_upwards(tmp_path):
    lines = [one("m", 0.5, seed, 2.2, 2.0, better="lower", metric="bits per byte") for seed in range(3)]
    (study,) = studies([found(tmp_path, *lines)])
    assert study.curves[0].points[0].loss.middle == pytest.approx(0.1)


def test_losses_are_paired_by_seed(tmp_path):
    """Folds differ by far more than methods do: only in pairs is the difference clear."""
    folds = {0: 0.95, 1: 0.7, 2: 0.5}
    lines = [
        one(method, 0.8, seed, level - cost, level)
        for method, cost in (("better", 0.01), ("worse", 0.03))
        for seed, level in folds.items()
    ]
    (study,) = studies([found(tmp_path, *lines)])
    better, worse = study.curves
    assert beaten(better, worse) == [(0.8, True)]
    assert beaten(worse, better) == [(0.8, False)]
    assert beaten(better, better) == [(0.8, None)]


def test_one_seed_tells_no_interval_and_nothing_clearly(tmp_path):
    lines = [one("a", 0.8, 0, 0.9), one("b", 0.8, 0, 0.1)]
    (study,) = studies([found(tmp_path, *lines)])
    assert beaten(*study.curves) == [(0.8, None)]
    assert mean([1.0]).low is None


def test_other_protocols_data_and_dense_models_are_other_curves(tmp_path):
    lines = [
        one("m", 0.5, 0, 0.8),
        one("m", 0.5, 1, 0.8, protocol="other"),
        one("m", 0.5, 2, 0.8, data="digits-2"),
    ]
    first = found(tmp_path, *lines)
    near = found(tmp_path, one("m", 0.7, 0, 0.8, 0.9004), name="near.jsonl")
    far = found(tmp_path, one("m", 0.7, 0, 0.8, 0.95), name="far.jsonl")
    made = studies([first, near, far])
    assert len(made) == 4
    assert [len(one.curves[0].points) for one in made] == [2, 1, 1, 1]
    assert [named(one, made) for one in made] == [f"digits_mlp-{at + 1}" for at in range(4)]


def test_a_score_without_its_dense_model_is_on_no_curve(tmp_path):
    lines = [one("m", 0.5, 0, 0.8), one("m", 0.7, 0, 0.8, None)]
    (study,) = studies([found(tmp_path, *lines)])
    assert [point.sparsity for point in study.curves[0].points] == [0.5]
    assert [line.sparsity for line in study.failures] == [0.7]
    assert studies([found(tmp_path, lines[1], name="alone.jsonl")]) == []


def test_a_model_measured_again_counts_once(tmp_path):
    again = found(tmp_path, one("m", 0.5, 0, 0.7), name="again.jsonl")
    (study,) = studies([found(tmp_path, one("m", 0.5, 0, 0.8)), again])
    assert study.curves[0].points[0].value.middle == 0.7


def test_orderings_of_the_table_show_where_they_do(tmp_path):
    lines = (
        *falling("magnitude-uniform", 0.9),
        *falling("random-uniform", 0.55, control=True),
        *falling("magnitude-global", 0.8),
    )
    (study,) = studies([found(tmp_path, *lines)])
    said = {one.claim: one for one in orderings([study])}
    assert said["magnitude loses less than random choice"].verdict is True
    assert "clearly at" in str(said["magnitude loses less than random choice"])
    assert said["ranked over all layers magnitude loses less than layer by layer"].verdict is False
    assert "not reproduced" in str(said["ranked over all layers magnitude loses less than layer by layer"])


def test_every_ordering_names_a_paper_of_the_table_and_methods_that_exist():
    from suite.method import PARTS
    from suite.papers import papers

    for row in claimed():
        assert row["id"] in papers(), row
        for side in (row["better"], row["worse"]):
            if side != "dense" and not re.fullmatch(r"[\d.]+", side):
                assert all(part in PARTS for part in side.split("-")), side


def test_equal_flops_put_a_larger_sparse_model_beside_a_smaller_dense_one(tmp_path):
    trained = {"training": "weights", "start": "dense"}
    lines = [
        *(dense(seed) for seed in range(3)),
        *(one("large-sparse", 0.8, seed, 0.88, **trained) for seed in range(3)),
        *(one("untrained", 0.8, seed, 0.9) for seed in range(3)),
        *(
            one("small", 0.0, seed, 0.8 + 0.001 * seed, training="weights", start="fresh", execution="dense")
            for seed in range(3)
        ),
    ]
    small = [
        replace(line, pattern="unstructured@0.8", infer_flops=2.1e5, bytes=20_000)
        if line.method == "small"
        else line
        for line in lines
    ]
    (study,) = studies([found(tmp_path, *small)])
    (duel,) = duels(study, "flops")
    assert (duel.small, duel.sparse, duel.verdict) == ("small", "large-sparse", True)
    assert duel.cost == pytest.approx(0.21)
    # Its training began with the dense model's: it cost twice that, and nothing dense did.
    assert duels(study, "training") == []


def test_the_pages_say_what_the_lines_do(tmp_path):
    trained = {"training": "weights", "start": "fresh"}
    lines = [
        *(dense(seed) for seed in range(3)),
        *falling("magnitude-uniform", 0.9),
        *falling("random-uniform", 0.55, control=True),
        *falling("plain-narrow", 0.7, execution="dense", **trained),
        *falling("random-erk-static", 0.9, **trained),
        one("broken-one", 0.5, 0, None, outcome="broken", note="ValueError: <b>no</b>"),
    ]
    file = write(tmp_path / "study.jsonl", header(options={"study": []}), *lines)
    report.write([file], tmp_path / "site")
    page = (tmp_path / "site" / "accuracy-digits_mlp.html").read_text()
    assert "magnitude-uniform" in page and re.search(r"at [56] of 6", page)
    assert "<b>no</b>" not in page and "&lt;b&gt;no" in page
    assert "nan" not in re.sub(r"<[^>]+>", "", page)
    index = (tmp_path / "site" / "index.html").read_text()
    assert 'href="accuracy-digits_mlp.html"' in index and 'href="isoflop.html"' in index
    assert "random-erk-static" in (tmp_path / "site" / "isoflop.html").read_text()


def test_a_run_without_scores_has_no_such_pages(tmp_path):
    file = write(tmp_path / "run.jsonl", header())
    report.write([file], tmp_path / "site")
    assert (
        not list((tmp_path / "site").glob("accuracy*")) and not (tmp_path / "site" / "isoflop.html").exists()
    )


LAYERS = [
    {"name": "a", "m": 300, "k": 64, "n": 1, "pattern": "unstructured@0.8", "sparsity": 0.8},
    {"name": "b", "m": 100, "k": 300, "n": 2, "pattern": "unstructured@0.6", "sparsity": 0.6},
    {"name": "c", "m": 10, "k": 100, "n": 1, "pattern": "dense", "sparsity": 0.0},
]


def timed(tmp_path, *leave_out):
    """Dense takes 1 ms at each layer's shape, sparse a time in proportion to its density."""
    made = []
    for (m, k, n), visit in itertools.product(((300, 64, 8), (100, 300, 16), (10, 100, 8)), (1, 2)):
        for sparsity in (0.5, 0.8, 0.9):
            made.append(
                line(
                    m=m, k=k, n=n, sparsity=sparsity, dense=True, kernel="d", seconds=[1e-3] * 4, visit=visit
                )
            )
            if (m, sparsity) not in leave_out:
                seconds = [1e-3 * (1 - sparsity)] * 4
                made.append(line(m=m, k=k, n=n, sparsity=sparsity, seconds=seconds, visit=visit))
    return read(write(tmp_path / "run.jsonl", header(), *made))


def test_a_models_layers_take_what_kernels_took_at_their_shapes(tmp_path):
    times = Times(timed(tmp_path), "made-up")
    model = one("m", 0.7, 0, 0.9, layers=LAYERS)
    assert times.batches(model) == [8]
    found = times.of(model, 8)
    assert found.dense == pytest.approx(3e-3)
    assert found.sparse == pytest.approx(0.2e-3 + 0.4e-3 + 1e-3)  # between 50 and 80 %: in proportion still
    assert found.between and found.speed_up == pytest.approx(3 / 1.6)


def test_no_time_is_made_up_beyond_what_was_timed(tmp_path):
    beyond = [LAYERS[0] | {"sparsity": 0.95, "pattern": "unstructured@0.95"}, *LAYERS[1:]]
    times = Times(timed(tmp_path), "made-up")
    assert times.of(one("m", 0.7, 0, 0.9, layers=beyond), 8) is None
    blocks = [LAYERS[0] | {"pattern": "block4x4@0.8"}, *LAYERS[1:]]
    assert times.of(one("m", 0.7, 0, 0.9, layers=blocks), 8) is None
    assert times.batches(one("m", 0.7, 0, 0.9, layers=[LAYERS[0] | {"m": 7}])) == []
    assert Times(timed(tmp_path), "another").batches(one("m", 0.7, 0, 0.9, layers=LAYERS)) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_brute_force_finds(points):
    expected = [not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points) for x, y in points]
    assert front(points) == expected


def test_the_page_joins_scores_with_kernels_of_the_same_device(tmp_path):
    timed(tmp_path)
    scores = [one("m", 0.7, seed, 0.88, layers=LAYERS) for seed in range(3)]
    file = write(tmp_path / "study.jsonl", header(options={"study": []}), *scores)
    report.write([tmp_path / "run.jsonl", file], tmp_path / "site")
    said = re.sub(r"<[^>]+>", " ", (tmp_path / "site" / "pareto.html").read_text())
    assert "1 of 1 models are faster than dense" in said and "1.9x" in said and "between" in said
    report.write([file], tmp_path / "alone")
    assert "Not measured" in (tmp_path / "alone" / "pareto.html").read_text()


def test_the_layers_that_are_timed_are_those_of_the_tasks():
    """Workload `layers` names shapes; they are the shapes of the models."""
    from suite.task import TASKS
    from suite.workload import WORKLOADS

    timed = {(case["m"], case["k"]) for case in WORKLOADS["layers"].cases("default")}
    for task in ("digits_mlp", "byte_lm"):
        problem = TASKS[task].problem(0)
        model = problem.dense() or problem.model()
        shapes = {tuple(one.weight.shape) for one in model.modules() if isinstance(one, torch.nn.Linear)}
        assert shapes <= timed
