"""Duels: who was trained no longer may be a rival, and the best of many is not called better for its luck."""

import re

import numpy as np
import pytest
from test_scores import dense, found, one

from suite import report
from suite.op import discover_parts
from suite.reading.iso import chosen, duels
from suite.reading.scores import mean, sign, studies
from suite.registry import discover
from suite.study import StudyOptions, plan

discover_parts()
discover()

SEEDS = range(3)
TRAINED = {"training": "weights", "start": "fresh", "train_tokens": 100}
SMALL = TRAINED | {"execution": "dense", "infer_flops": 2e5}
TUNED = {"training": "weights", "start": "dense", "train_tokens": 50}  # after the dense model's 100


def of(tmp_path, *lines):
    (study,) = studies([found(tmp_path, *(dense(seed, train_tokens=100) for seed in SEEDS), *lines)])
    return study


def each(method, value, apart=0.001, **about):
    """A method at 80 %, its seeds so far apart."""
    return [one(method, 0.8, seed, value + apart * (seed - 1), **about) for seed in SEEDS]


def test_who_was_trained_longer_is_no_rival(tmp_path):
    """150 examples for what was fine-tuned, the dense model's with them: that is no rival of 100."""
    lines = [
        *each("small", 0.8, **SMALL),
        *each("as-long", 0.85, **TRAINED),
        *each("tuned", 0.89, **TUNED),
        *each("far-longer", 0.9, **TRAINED | {"train_tokens": 400}),
    ]
    (duel,) = duels(of(tmp_path, *lines), "flops")
    assert (duel.small, duel.sparse, duel.longer, duel.among) == ("small", "as-long", 1.0, 1)


def test_what_is_fine_tuned_meets_a_dense_model_that_was_trained_as_long(tmp_path):
    lines = [
        *each("small", 0.8, **SMALL),
        *each("longer", 0.84, **SMALL | {"train_tokens": 149}),  # whole steps
        *each("as-long", 0.85, **TRAINED),
        *each("tuned", 0.89, **TUNED),
    ]
    made = {duel.small: duel for duel in duels(of(tmp_path, *lines), "flops")}
    assert (made["small"].sparse, made["small"].longer) == ("as-long", 1.0)
    assert (made["longer"].sparse, made["longer"].among) == ("tuned", 2)
    assert made["longer"].longer == pytest.approx(150 / 149)


def test_the_dense_model_trained_on_stands_beside_itself(tmp_path):
    """At no more time it meets what is fine-tuned, which the dense model does not."""
    study = of(
        tmp_path,
        *each("tuned", 0.89, **TUNED | {"bytes": 10**5}),
        *each("continued", 0.9, **TUNED | {"execution": "dense", "bytes": 10**5}),
    )
    (duel,) = duels(study, "bytes")
    assert (duel.small, duel.sparse, duel.longer) == ("continued", "tuned", 1.0)


def test_a_ready_models_training_is_not_known_and_told_so(tmp_path):
    ready = [dense(seed) for seed in SEEDS]
    tuned = each("tuned", 0.89, **TUNED | {"infer_flops": 1e6})
    (study,) = studies([found(tmp_path, *ready, *tuned, *each("small", 0.8, **SMALL))])
    (duel,) = duels(study, "flops")
    assert (duel.small, duel.longer) == ("dense", None)
    report.write([tmp_path / "study.jsonl"], tmp_path / "site")
    page = re.sub(r"<[^>]+>", " ", (tmp_path / "site" / "isoflop.html").read_text())
    assert "not known" in page and not re.search(r"\bnan\b", page)


def rivals(count, gap=0.0, noise=0.01, seed=0, seeds=3):
    """So many candidates' gaps, [seeds] each, all truly of this size; a part of the noise they share."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=seeds)
    return [list(gap + noise * (rng.normal(size=seeds) + shared)) for _ in range(count)]


def test_of_many_that_are_equal_the_best_is_seldom_called_better():
    """By the interval of its own seeds alone it is, several times as often as the level says."""
    draws, told, naive = 400, 0, 0
    for seed in range(draws):
        gaps = rivals(30, seed=seed)
        best = max(gaps, key=sum)
        told += sign(chosen(best, gaps)) is not None
        naive += sign(mean(best)) is True
    assert told <= 0.05 * draws < 0.1 * draws < naive


def test_with_more_seeds_a_winner_among_many_is_clear_and_alone_it_is_with_three():
    gaps = rivals(30, gap=0.05, seeds=10)
    assert sign(chosen(max(gaps, key=sum), gaps)) is True
    alone = [0.05, 0.052, 0.049]
    assert chosen(alone, [alone]) == pytest.approx(mean(alone))
    assert sign(chosen(alone, [alone])) is True
    assert sign(chosen(alone, [alone, *rivals(29)])) is True, "beyond what the choice among thirty may do"
    close = [0.05, 0.06, 0.04]
    assert sign(mean(close)) is True and sign(chosen(close, [close, *rivals(29)])) is None


def test_a_dense_model_is_better_than_the_best_only_if_it_is_better_than_each():
    clear, vague = [-0.01, -0.011, -0.009], [-0.02, 0.02, -0.06]
    assert sign(chosen(clear, [clear])) is False
    assert sign(chosen(clear, [clear, vague])) is None, "the vague one may be the best in truth"
    assert sign(chosen(clear, [clear, [-0.5, -0.51, -0.49]])) is False


def test_one_seed_has_no_interval_and_fewer_shared_seeds_are_no_candidate(tmp_path):
    assert chosen([0.1], [[0.1]]).low is None
    lines = [*each("small", 0.8, **SMALL), *each("many", 0.85, **TRAINED)]
    lines.append(one("few", 0.8, 0, 0.95, **TRAINED))
    (duel,) = duels(of(tmp_path, *lines), "flops")
    assert (duel.sparse, duel.among, duel.verdict) == ("many", 1, True)


def test_the_page_tells_of_the_choice_and_of_the_training(tmp_path):
    lines = [*each("small", 0.8, **SMALL)]
    for at in range(20):
        lines += each(f"sparse-{at}", 0.8 + 0.0005 * at, apart=0.002, **TRAINED)
    study = of(tmp_path, *lines)
    (duel,) = duels(study, "flops")
    assert (duel.sparse, duel.among, duel.verdict) == ("sparse-19", 20, None)
    report.write([tmp_path / "study.jsonl"], tmp_path / "site")
    page = re.sub(r"<[^>]+>", " ", (tmp_path / "site" / "isoflop.html").read_text())
    assert "best of" in page and "trained on" in page and "Bonferroni" in page
    assert re.search(r"1.00×\s+20\s", page) and "0 of 1 clearly won" in page


def test_dense_rivals_of_what_is_fine_tuned_are_tried_by_default():
    (lot,) = plan(StudyOptions(tasks=("digits_mlp",), seeds=1))
    tried = [one.method for one in lot.trials]
    assert {"continued", "longer-narrow", "longer-slim"} <= set(tried)
    (whole,) = [one.pattern for one in lot.trials if one.method == "continued"]
    assert whole == "unstructured@0", "once, for it leaves nothing out"
    masks = ("static", "set", "rigl")
    assert {f"random-uniform-{mask}-wide" for mask in masks} <= set(tried)
