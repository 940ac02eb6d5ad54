"""Scores: knees that were planted are found, losses are paired by seed, and what cannot be told is not."""

import itertools
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import NO_METER, header, line, score, write
from msgspec.structs import replace

from suite import report
from suite.op import discover_parts
from suite.reading.answers import NO_SCORES
from suite.reading.frame import read
from suite.reading.iso import duels, penalties
from suite.reading.joined import Measured, front
from suite.reading.opened import opened
from suite.reading.orderings import claimed, orderings
from suite.reading.scores import beaten, knee, mean, named, studies, told
from suite.registry import discover
from suite.studying.layers import Work

discover_parts()
discover()

LAYERS = [
    {"name": "a", "m": 300, "k": 64, "n": 1, "pattern": "unstructured@0.8", "sparsity": 0.8},
    {"name": "b", "m": 100, "k": 300, "n": 2, "pattern": "unstructured@0.6", "sparsity": 0.6},
    {"name": "c", "m": 10, "k": 100, "n": 1, "pattern": "dense", "sparsity": 0.0},
]

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


@pytest.mark.paper("essential-sparsity")
@settings(max_examples=40, deadline=None)
@given(
    slope=st.floats(-9, 9),
    wobble=st.lists(st.floats(-0.0025, 0.0025), min_size=6, max_size=6),
    bend=st.floats(0.0, 9.0),
)
def test_what_does_not_bend_upwards_has_no_knee(slope, wobble, bend):
    """A straight line, one that wobbles by less than is compared at, and one that flattens out."""
    at = [0.1 * step for step in range(6)]
    assert knee(at, [slope * x for x in at]) is None
    assert knee(at, [slope * x + off for x, off in zip(at, wobble, strict=True)]) is None
    assert knee(at, [slope * x - bend * max(0.0, x - 0.3) for x in at]) is None


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
    assert beaten(better, worse) == [(better.points[0], True)]
    assert beaten(worse, better) == [(worse.points[0], False)]
    assert beaten(better, better) == [(better.points[0], None)]


def test_two_patterns_of_one_sparsity_are_two_points_to_beat_chance_at(tmp_path):
    lines = [dense(seed) for seed in range(3)]
    for pattern in ("2:4", "4:8"):
        for seed in range(3):
            lines += [
                one("better", 0.5, seed, 0.8 + 0.001 * seed, pattern=pattern),
                one("chance", 0.5, seed, 0.5, pattern=pattern, control=True),
            ]
    report.write([found(tmp_path, *lines).file], tmp_path / "site")
    page = (tmp_path / "site" / "accuracy-digits_mlp.html").read_text()
    assert "at 2 of 2" in page and "of 4" not in page


def test_a_claim_of_models_that_use_a_part_is_of_their_budgets(tmp_path):
    """As the columns are: 19 % of the weights is what three quarters of the neurons come to."""
    about = {"task": "digits_vit", "pattern": "chosen@0.75", "training": "weights", "start": "fresh"}
    lines = [
        one(f"plain-{name}", 0.19 + by, seed, value + 0.001 * seed, **about)
        for seed in range(3)
        for name, by, value in (("squared_relu", 0.0, 0.8), ("relu", 0.02, 0.6))
    ]
    (study,) = studies([found(tmp_path, *lines)])
    (said,) = orderings([study])
    assert [(one.sparsity, one.shows) for one in said.tried] == [(0.75, True)]
    assert str(said) == "yes, clearly at 75 %"


def test_one_seed_tells_no_interval_and_nothing_clearly(tmp_path):
    lines = [one("a", 0.8, 0, 0.9), one("b", 0.8, 0, 0.1)]
    (study,) = studies([found(tmp_path, *lines)])
    assert beaten(*study.curves) == [(study.curves[0].points[0], None)]
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


def test_a_claim_is_tested_once_over_all_its_sparsities(tmp_path):
    """What one sparsity of five shows by itself makes no claim true; what all show together does."""

    def said(*wins):
        """The claim's, by what is won at each sparsity by each seed."""
        lines = [
            one(
                method,
                at,
                seed,
                0.8 + (won if method == "magnitude-uniform" else 0.0),
                control=method[0] == "r",
            )
            for at, by_seed in zip((0.7, 0.8, 0.9, 0.95, 0.98), wins, strict=False)
            for seed, won in enumerate(by_seed)
            for method in ("magnitude-uniform", "random-uniform")
        ]
        (study,) = studies([found(tmp_path, *lines, name=f"{len(wins)}-{sum(map(sum, wins)):.3f}.jsonl")])
        claim = "magnitude loses less than random choice"
        (made,) = [each for each in orderings([study]) if each.claim == claim]
        return made

    clear, unclear = (0.06, 0.07, 0.08), (0.3, -0.3, 0.1)
    assert said(clear).verdict is True and said(clear).gap.middle == pytest.approx(0.07 / 0.9)
    once = said(clear, unclear, unclear, unclear, unclear)
    assert once.verdict is None and str(once) == "not reproduced on the mean: clearly at 70 %"
    often = said((0.3, -0.1, 0.1), (-0.1, 0.1, 0.3), (0.1, 0.3, -0.1))
    assert str(often) == "yes, on the mean" and often.gap.low > 0
    assert not any(each.shows for each in often.tried)
    lost = said((-0.06, -0.07, -0.08), unclear)
    assert lost.verdict is None and "the other way at 70 %" in str(lost)


def test_seeds_tell_their_own_knees(tmp_path):
    """One seed bends later, one nowhere: the page says so beside the knee of the mean."""
    bends = (0.7, 0.9, 1.0)
    lines = [
        one("m", at, seed, 0.9 - max(0.0, at - bend)) for seed, bend in enumerate(bends) for at in SPARSITIES
    ]
    (study,) = studies([found(tmp_path, *lines)])
    (curve,) = study.curves
    assert curve.knees == [0.7, 0.9, None]
    report.write([tmp_path / "study.jsonl"], tmp_path / "site")
    page = (tmp_path / "site" / "accuracy-digits_mlp.html").read_text()
    assert "(70, 90, none)" in page


def test_why_a_claim_is_not_to_be_expected_stands_where_it_does_not_show(tmp_path):
    scores = [
        *falling("monarch_projected", 0.6, start="dense"),
        *falling("low_rank_projected", 0.9, start="dense"),
        *falling("magnitude-uniform", 0.9),
        *falling("random-uniform", 0.55, control=True),
    ]
    file = found(tmp_path, *scores)
    (without,) = [one for one in orderings(studies([file])) if one.better == "monarch_projected"]
    assert without.verdict is False and without.why
    shown = [one for one in orderings(studies([file])) if one.better == "magnitude-uniform"]
    assert shown and not any(one.why for one in shown)
    report.write([file.file], tmp_path / "site")
    page = (tmp_path / "site" / "accuracy-digits_mlp.html").read_text()
    assert page.count(f"({without.why})") == 1


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
        replace(line, pattern="unstructured@0.8", infer_flops=2.02e5, bytes=20_000)
        if line.method == "small"
        else line
        for line in lines
    ]
    (study,) = studies([found(tmp_path, *small)])
    (duel,) = duels(study, "flops")
    assert (duel.small, duel.sparse, duel.verdict) == ("small", "large-sparse", True)
    assert duel.cost == pytest.approx(0.202)
    # Its training began with the dense model's: it cost twice that, and nothing dense did.
    assert duels(study, "training") == []
    assert [one.sparse for one in duels(study, "bytes")] == ["large-sparse"]
    apart = [
        replace(line, infer_flops=2.05e5, bytes=20_300) if line.method == "small" else line for line in small
    ]
    (study,) = studies([found(tmp_path, *apart, name="apart.jsonl")])
    assert duels(study, "flops") == duels(study, "bytes") == [], "2 %, 1 %: no further apart"


def test_without_a_seed_of_both_nothing_is_said_of_who_is_better(tmp_path):
    """Nor that they are equal; and one that shares a seed is the rival, though it loses more."""
    trained = {"training": "weights", "start": "fresh"}
    small = {"execution": "dense", "infer_flops": 2e5, **trained}
    lines = [
        *(dense(seed) for seed in range(4)),
        *(one("small", 0.8, seed, 0.8, **small) for seed in (0, 1)),
        *(one("large-sparse", 0.8, seed, 0.88, **trained) for seed in (2, 3)),
    ]
    (study,) = studies([found(tmp_path, *lines)])
    (duel,) = duels(study, "flops")
    assert (duel.sparse, duel.gap, duel.verdict) == ("large-sparse", None, None)
    report.write([tmp_path / "study.jsonl"], tmp_path / "site")
    assert "not known: no seed of both" in (tmp_path / "site" / "isoflop.html").read_text()
    lines += [one("seeded", 0.8, 1, 0.84, **trained)]
    (study,) = studies([found(tmp_path, *lines, name="seeded.jsonl")])
    (duel,) = duels(study, "flops")
    assert duel.sparse == "seeded" and duel.gap.middle > 0


WHOLE = [layer | {"pattern": "dense", "sparsity": 0.0} for layer in LAYERS]


@pytest.mark.paper("s4")
def test_in_no_more_time_a_large_sparse_model_stands_beside_a_small_dense_one(tmp_path):
    """The small one leaves a layer out: 2 ms of 3. The sparse one takes 1.6, at 50 % it would be 2.0."""
    trained = {"training": "weights", "start": "fresh"}
    small = {"execution": "dense", "layers": WHOLE[1:], "pattern": "unstructured@0.5", **trained}
    lines = [
        *(dense(seed, layers=WHOLE) for seed in range(3)),
        *(one("small", 0.5, seed, 0.85 + 0.001 * seed, **small) for seed in range(3)),
        *(one("large-sparse", 0.7, seed, 0.88, layers=LAYERS, **trained) for seed in range(3)),
        *(one("untimed", 0.9, seed, 0.9, **trained) for seed in range(3)),
    ]
    (study,) = studies([found(tmp_path, *lines)])
    assert duels(study, "latency") == [] == duels(study, "latency", Measured(timed(tmp_path), "another"))
    here = Measured(timed(tmp_path, joules=2.0), "made-up")
    for cost in ("latency", "energy"):
        few, whole = duels(study, cost, here)
        assert (few.small, few.sparse, few.verdict) == ("small", "large-sparse", True)
        assert (few.cost, whole.small, whole.cost) == (pytest.approx(2 / 3), "dense", 1.0)
    slow = [LAYERS[0] | {"sparsity": 0.5}, LAYERS[1] | {"sparsity": 0.5}, LAYERS[2]]
    slower = [replace(line, layers=slow) if line.method == "large-sparse" else line for line in lines]
    slower += [one("small", 0.6, seed, 0.8, **small | {"layers": WHOLE[2:]}) for seed in range(3)]
    (study,) = studies([found(tmp_path, *slower, name="slow.jsonl")])
    assert [one.small for one in duels(study, "latency", here)] == ["small", "dense"], (
        "none is as fast as 1 ms"
    )


@pytest.mark.paper("sparse-ift")
def test_what_equal_flops_cost_is_told(tmp_path):
    wide = {"training": "weights", "start": "fresh", "iso": "infer_flops", "infer_flops": 1.01e6}
    lines = [
        *(dense(seed, layers=WHOLE) for seed in range(3)),
        *(
            one("wide", 0.7, seed, 0.91 + 0.001 * seed, layers=LAYERS, bytes=120_000, **wide)
            for seed in range(3)
        ),
        *(one("wide", 0.9, seed, 0.9, **wide) for seed in range(3)),
    ]
    (study,) = studies([found(tmp_path, *lines)])
    timed_one, untimed = penalties(study, Measured(timed(tmp_path), "made-up"))
    assert (timed_one.flops, timed_one.bytes) == (pytest.approx(1.01), pytest.approx(1.2))
    assert timed_one.time == pytest.approx(1.6 / 3) and timed_one.gain.low > 0
    assert untimed.time is None and penalties(study, None)[0].time is None


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


def timed(tmp_path, joules=None, windows=(0.5, 0.8, 0.9), also=None):
    """Dense takes 1 ms at each layer's shape, sparse a time in proportion to its density.

    joules: watts, of energy windows at these sparsities. also: another kernel's lines.
    """
    made = []
    shapes = ((300, 64, 8), (100, 300, 16), (10, 100, 8))
    for (m, k, n), sparsity, visit in itertools.product(shapes, (0.5, 0.8, 0.9), (1, 2)):
        about = {"m": m, "k": k, "n": n, "sparsity": sparsity, "visit": visit}
        about |= {"energy_note": NO_METER if joules is None else None}
        took = {True: 1e-3, False: 1e-3 * (1 - sparsity)}
        for dense, seconds in took.items():
            kernel = {"dense": dense, "kernel": "d" if dense else "s"}
            made.append(line(**about, **kernel, seconds=[seconds] * 4))
            if joules and visit == 1 and sparsity in windows:
                window = {"cache": "rotating", "seconds": [seconds], "joules_counter": joules * seconds}
                made.append(line(**about, **kernel, **window))
        if also:
            made.append(line(**about, **also))
    return read(write(tmp_path / "run.jsonl", header(), *made))


def test_a_models_layers_take_what_kernels_took_at_their_shapes(tmp_path):
    measured = Measured(timed(tmp_path), "made-up")
    model = one("m", 0.7, 0, 0.9, layers=LAYERS)
    assert measured.batches(model) == [8]
    found = measured.of(model, 8).seconds
    assert found.dense == pytest.approx(3e-3)
    assert found.sparse == pytest.approx(0.2e-3 + 0.4e-3 + 1e-3)  # between 50 and 80 %: in proportion still
    assert found.between and found.ratio == pytest.approx(3 / 1.6)


def test_layers_are_joined_with_times_of_all_threads_alone(tmp_path):
    """One thread here and two there would be a speed-up of threads."""
    frame = timed(tmp_path, also={"dense": True, "kernel": "alone", "threads": 4, "seconds": [2e-3] * 4})
    model = one("m", 0.7, 0, 0.9, layers=LAYERS)
    assert set(frame["threads"]) == {2, 4}
    assert Measured(frame, "made-up").of(model, 8) is None, "with four nothing sparse was timed"
    assert Measured(frame[frame["threads"] == 2], "made-up").of(model, 8).seconds.ratio > 1


@pytest.mark.paper("s4", "sparse-ift")
def test_bytes_and_joules_join_as_times_do(tmp_path):
    """Values and metadata are what kernels state; of joules one layer without a window leaves none."""
    model = one("m", 0.7, 0, 0.9, layers=LAYERS)
    found = Measured(timed(tmp_path), "made-up").of(model, 8)
    dense = 4 * (300 * 64 + 100 * 300 + 10 * 100)
    assert found.bytes.dense == dense
    assert found.bytes.sparse == pytest.approx(
        2 * 4 * (0.2 * 300 * 64 + 0.4 * 100 * 300) + 4 * 10 * 100, rel=1e-3
    )
    assert found.joules is None and found.unmetered == NO_METER
    metered = Measured(timed(tmp_path, joules=2.0), "made-up").of(model, 8)
    assert metered.joules.dense == pytest.approx(6e-3) and metered.unmetered == ""
    assert metered.joules.ratio == pytest.approx(metered.seconds.ratio)
    other = [LAYERS[0] | {"pattern": "unstructured@0.9", "sparsity": 0.9}, *LAYERS[1:]]
    found = Measured(timed(tmp_path, joules=2.0, windows=(0.5, 0.8)), "made-up").of(
        replace(model, layers=other), 8
    )
    assert found.seconds and found.joules is None and found.unmetered == "no energy window was chosen for it"


def told_of(tmp_path, *scores):
    """The fifth answer of the first screen, of each cell."""
    frame = timed(tmp_path)
    view = report.view_of([tmp_path / "run.jsonl", found(tmp_path, *scores).file])
    assert len(view.frame) == len(frame)
    return {(one.family, one.regime): one.accuracy for one in view.answers}


def test_the_fifth_answer_is_what_a_task_stands_and_what_that_buys(tmp_path):
    kept = [one("m", 0.7, seed, 0.897 + 0.0005 * seed, layers=LAYERS) for seed in range(3)]
    lost = [one("m", 0.9, seed, 0.85, layers=LAYERS) for seed in range(3)]
    luck = [one("luck", 0.9, seed, 0.9, layers=LAYERS, control=True) for seed in range(3)]
    said = told_of(tmp_path, *kept, *lost, *luck)
    assert said == {("unstructured", "decode"): "digits_mlp surely keeps 99 % up to 70 %: 1.9x"}
    beyond = [LAYERS[0] | {"sparsity": 0.95, "pattern": "unstructured@0.95"}, *LAYERS[1:]]
    untimed = [one("m", 0.7, seed, 0.9, layers=beyond, toy=True) for seed in range(3)]
    (text,) = told_of(tmp_path, *untimed).values()
    assert text == "digits_mlp (toy) surely keeps 99 % up to 70 %, not timed there"


@pytest.mark.parametrize(
    "scores",
    [
        [one("m", 0.7, 0, 0.9, layers=LAYERS)],  # one seed shows nothing
        [one("m", 0.7, seed, 0.9 - 0.02 * seed, layers=LAYERS) for seed in range(3)],
        [one("m", 0.7, seed, 0.9, layers=LAYERS, control=True) for seed in range(3)],
    ],
)
def test_what_is_not_shown_to_be_kept_buys_nothing(tmp_path, scores):
    (text,) = told_of(tmp_path, *scores).values()
    assert text == "digits_mlp surely keeps 99 % at no sparsity"


def test_without_scores_of_the_layers_timed_nothing_is_said_of_accuracy(tmp_path):
    other = [LAYERS[0] | {"m": 7}, *LAYERS[1:]]
    for scores in ([], [one("m", 0.7, 0, 0.9)], [one("m", 0.7, 0, 0.9, layers=other)]):
        assert set(told_of(tmp_path, *scores).values()) == {NO_SCORES}
    elsewhere = [one("m", 0.7, seed, 0.9, layers=LAYERS, device="another") for seed in range(3)]
    assert set(told_of(tmp_path, *elsewhere).values()) == {NO_SCORES}


def test_what_is_surely_kept_is_on_the_page(tmp_path):
    (study,) = studies([found(tmp_path, *falling("magnitude-uniform", 0.85), *falling("bad", 0.1))])
    assert [curve.kept.sure for curve in study.curves] == [0.8, None]
    report.write([tmp_path / "study.jsonl"], tmp_path / "site")
    said = re.sub(r"<[^>]+>", " ", (tmp_path / "site" / "accuracy-digits_mlp.html").read_text())
    assert "surely keeps 99 %" in said and "up to 80\N{NO-BREAK SPACE}%" in said


@pytest.mark.paper("s4")
def test_a_model_of_another_size_is_held_against_the_dense_one(tmp_path):
    """Not against itself without zeros, than which a larger model is always much faster."""
    small, large = LAYERS[:1], [*LAYERS, *LAYERS]
    trained = {"training": "weights", "start": "fresh", "transform": "other"}
    lines = [
        *(dense(seed, layers=WHOLE) for seed in range(3)),
        *(one("large", 0.7, seed, 0.9, layers=large, **trained) for seed in range(3)),
        *(one("small", 0.8, seed, 0.9, layers=small, **trained) for seed in range(3)),
        *(
            one("smaller", 0.5, seed, 0.9, layers=WHOLE[1:], execution="dense", **trained)
            for seed in range(3)
        ),
    ]
    timed(tmp_path)
    view = report.view_of([tmp_path / "run.jsonl", found(tmp_path, *lines).file])
    (page,) = [shown for _, shown in report.REPORTS["pareto"].pages(view)]
    gains = {point["method"]: point["gain"] for point in page["sections"][0]["points"]}
    assert gains == {
        "large": pytest.approx(3 / 3.2),
        "small": pytest.approx(3 / 0.2),
        "smaller": pytest.approx(3 / 2),
    }
    pruned = [one("pruned", 0.7, seed, 0.9, layers=LAYERS) for seed in range(3)]
    view = report.view_of([tmp_path / "run.jsonl", found(tmp_path, *lines, *pruned, name="more.jsonl").file])
    (page,) = [shown for _, shown in report.REPORTS["pareto"].pages(view)]
    efficiency = {point["method"]: point["efficiency"] for point in page["sections"][0]["points"]}
    assert efficiency.pop("pruned") == pytest.approx((3 / 1.6) / (1 / 0.3)) and set(efficiency.values()) == {
        None
    }
    alone = found(tmp_path, *lines[3:], name="alone.jsonl")
    view = report.view_of([tmp_path / "run.jsonl", alone.file])
    (page,) = [shown for _, shown in report.REPORTS["pareto"].pages(view)]
    assert not page["sections"] and len(page["untimed"]) == 1, "of which size the dense model is, nobody says"


@pytest.mark.parametrize("execution", ["masked", "simulated"])
def test_what_skips_no_zeros_makes_no_model_faster(tmp_path, execution):
    """However fast it was timed: the best sparse kernel stays the join's."""
    frame = timed(tmp_path, also={"kernel": "fake", "execution": execution, "seconds": [1e-6] * 4})
    assert (frame["kernel"] == "fake").any()
    found = Measured(frame, "made-up").of(one("m", 0.7, 0, 0.9, layers=LAYERS), 8)
    assert found.seconds.ratio == pytest.approx(3 / 1.6)
    alone = frame[(frame["kernel"] == "fake") | frame["dense"]]
    assert Measured(alone, "made-up").of(one("m", 0.7, 0, 0.9, layers=LAYERS), 8) is None


def test_no_time_is_made_up_beyond_what_was_timed(tmp_path):
    beyond = [LAYERS[0] | {"sparsity": 0.95, "pattern": "unstructured@0.95"}, *LAYERS[1:]]
    measured = Measured(timed(tmp_path), "made-up")
    assert measured.of(one("m", 0.7, 0, 0.9, layers=beyond), 8) is None
    blocks = [LAYERS[0] | {"pattern": "block4x4@0.8"}, *LAYERS[1:]]
    assert measured.of(one("m", 0.7, 0, 0.9, layers=blocks), 8) is None
    assert measured.batches(one("m", 0.7, 0, 0.9, layers=[LAYERS[0] | {"m": 7}])) == []
    assert Measured(timed(tmp_path), "another").batches(one("m", 0.7, 0, 0.9, layers=LAYERS)) == []


@pytest.mark.paper("s4")
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
    assert (
        "the layers of 1 of 1 pruned models are faster than dense ones" in said
        and "1.9x" in said
        and "between" in said
    )
    report.write([file], tmp_path / "alone")
    assert "Not measured" in (tmp_path / "alone" / "pareto.html").read_text()


def test_the_layers_that_are_timed_are_those_of_the_tasks():
    """Workload `layers` names shapes, and how many rows come at once: those of the dense models."""
    from suite.task import TASKS
    from suite.workloads.layers import BATCH, LAYERS, WINDOW

    for task, timed in LAYERS.items():
        problem = TASKS[task].problem(0)
        model = problem.dense() or problem.model()
        rows, at_once = Work(problem, model).rows, BATCH if task.startswith("digits") else WINDOW
        shapes = {
            (*layer.weight.shape, round(at_once * rows[name]))
            for name, layer in problem.layers(model).items()
        }
        assert shapes == set(timed)


def test_the_models_of_equal_cost_that_are_timed_are_those_of_the_transforms():
    from suite.method import PARTS
    from suite.patterns.unstructured import Unstructured
    from suite.task import TASKS
    from suite.workload import WORKLOADS
    from suite.workloads.layers import LARGER, SMALLER

    timed = {(case["m"], case["k"]) for case in WORKLOADS["layers"].cases("full")}
    problem = TASKS["digits_mlp"].problem(0)
    for transform, models in (("narrow", SMALLER), ("wide", LARGER)):
        for sparsity, shapes in models.items():
            model = PARTS[transform](problem, Unstructured(sparsity))
            layers = [one for one in model.modules() if isinstance(one, torch.nn.Linear)]
            assert [tuple(one.weight.shape) for one in layers] == list(shapes)
            assert set(shapes) <= timed
