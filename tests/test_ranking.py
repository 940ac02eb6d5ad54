"""Ranking: ranks by what was measured alone; nothing is won by refusing, failing, or picking cases."""

from pathlib import Path

import pytest
from lines import grid, header, line, write

from suite.reading.ranking import COVERED, Place, Slice, ranking, together
from suite.reading.statistics import estimate
from suite.record import read

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
DENSE = 1e-3


def dense(**changes) -> list:
    given = {"kernel": "dense", "dense": True, "seconds": [DENSE] * 4}
    return [
        line(**(given | {"sparsity": one, "visit": visit} | changes))
        for one in SPARSITIES
        for visit in (1, 2)
    ]


def kernel(name: str, *speed_ups: float, noise: float = 0.001, **changes) -> list:
    """Lines of a kernel that is so much faster on the first sparsities, in two visits."""
    return [
        line(
            kernel=name,
            seconds=[DENSE / ratio * (1 + noise * (visit - 1.5))] * 4,
            **({"sparsity": one, "visit": visit} | changes),
        )
        for one, ratio in zip(SPARSITIES, speed_ups, strict=False)
        for visit in (1, 2)
    ]


def slices(tmp_path: Path, *lines, **about) -> list[Slice]:
    return ranking([read(write(tmp_path / "run.jsonl", header(**about), *lines))])


def places(tmp_path: Path, *lines, **about) -> dict[str, Place]:
    (only,) = slices(tmp_path, *lines, **about)
    assert only.cases == len(SPARSITIES)
    return {one.kernel: one for one in only.places}


def test_a_grid_has_a_slice_for_each_regime(tmp_path: Path) -> None:
    made = ranking([read(write(tmp_path / "run.jsonl", *grid()))])
    told = {(one.regime, one.dtype): one for one in made}
    assert set(told) == {("decode", "float32"), ("small batch", "float32"), ("small batch", "bfloat16")}
    mine = told["small batch", "float32"].places[0]
    assert (mine.kernel, mine.rank, mine.covered, told["small batch", "float32"].cases) == (
        "spmm_csr_mine",
        1,
        12,
        12,
    )
    assert (told["decode", "float32"].workload, told["decode", "float32"].version) == ("transformer", 1)
    refused = told["small batch", "bfloat16"].places[0]
    assert (refused.rank, refused.covered, refused.refused, refused.speed_up) == (None, 0, 2, None)


def test_the_geometric_mean_and_the_worst_case(tmp_path: Path) -> None:
    one = places(tmp_path, *dense(), *kernel("a", 0.5, 1, 2, 4, 8))["a"]
    assert one.speed_up and one.speed_up.middle == pytest.approx(2, rel=1e-3)
    assert one.worst and (one.worst.speed_up, one.worst.outcome) == (pytest.approx(0.5, rel=1e-3), "ok")
    assert "@0.5/" in one.worst.case and one.verdict is True


def test_one_case_that_is_far_ahead_does_not_win(tmp_path: Path) -> None:
    made = places(tmp_path, *dense(), *kernel("steady", 3, 3, 3, 3, 3), *kernel("peaked", 1, 1, 1, 1, 100))
    assert (made["steady"].rank, made["peaked"].rank) == (1, 2)


def test_ties_are_ties(tmp_path: Path) -> None:
    lines = [
        *kernel("a", *[2.0] * 5, noise=0.05),
        *kernel("b", *[2.01] * 5, noise=0.05),
        *kernel("c", *[1.0] * 5),
    ]
    made = places(tmp_path, *dense(), *lines)
    assert [(made[name].rank, made[name].tied) for name in "abc"] == [(1, True), (1, True), (3, False)]


def test_refusing_hard_cases_costs_coverage_and_then_the_rank(tmp_path: Path) -> None:
    def refused(name: str, *sparsities: float) -> list:
        return [line(kernel=name, outcome="refused", note="needs more", sparsity=one) for one in sparsities]

    lines = [
        *kernel("most", *[3.0] * 4),
        *refused("most", 0.95),
        *kernel("few", *[9.0] * 3),
        *refused("few", 0.9, 0.95),
    ]
    made = places(tmp_path, *dense(), *lines)
    most, few = made["most"], made["few"]
    assert (most.coverage, most.refused, most.rank) == (COVERED, 1, 1)
    assert most.speed_up and most.speed_up.middle == pytest.approx(3, rel=1e-3)  # costs nothing
    assert (few.coverage, few.rank) == (0.6, None) and "covers 60 %" in few.why


@pytest.mark.parametrize("outcome", ["wrong", "broken", "timeout", "memory"])
def test_a_failure_counts_as_twice_the_dense_time(outcome: str, tmp_path: Path) -> None:
    lines = [*kernel("a", *[2.0] * 4), line(kernel="a", outcome=outcome, note="why", sparsity=0.95)]
    one = places(tmp_path, *dense(), *lines)["a"]
    assert one.speed_up and one.speed_up.middle == pytest.approx((2**4 * 0.5) ** 0.2, rel=1e-3)
    assert one.worst and (one.worst.speed_up, one.worst.outcome) == (0.5, outcome)
    assert (one.failed, one.coverage, one.rank) == ({outcome: 1}, 1, 1)


def test_a_failure_never_makes_a_slow_kernel_faster(tmp_path: Path) -> None:
    lines = [*kernel("a", *[0.1] * 5), line(kernel="a", outcome="broken", note="why", sparsity=0.95, visit=3)]
    one = places(tmp_path, *dense(), *lines)["a"]
    assert one.speed_up and one.speed_up.middle == pytest.approx(0.1, rel=1e-3)


def test_breaking_in_one_visit_is_breaking(tmp_path: Path) -> None:
    lines = [*kernel("a", *[2.0] * 5), line(kernel="a", outcome="broken", note="why", sparsity=0.95, visit=3)]
    one = places(tmp_path, *dense(), *lines)["a"]
    assert one.worst and one.worst.speed_up == 0.5


@pytest.mark.parametrize("options", [{"set": ["n=64"]}, {"case": ["spmm/..."]}, {"race": ["csr"]}])
def test_cases_that_were_picked_do_not_rank(options: dict, tmp_path: Path) -> None:
    assert slices(tmp_path, *dense(), *kernel("a", *[2.0] * 5), options=options) == []


def test_matrices_and_workloads_without_a_case_set_do_not_rank(tmp_path: Path) -> None:
    given = {"data": "a.mtx-01234567", "pattern": "given"}
    assert slices(tmp_path, *dense(**given), *kernel("a", *[2.0] * 5, **given)) == []
    assert slices(tmp_path, *dense(), *kernel("a", *[2.0] * 5), workloads={}) == []


def test_only_the_newest_case_set_ranks(tmp_path: Path) -> None:
    old = write(tmp_path / "old.jsonl", header(), *dense(), *kernel("a", *[2.0] * 5))
    new = write(
        tmp_path / "new.jsonl", header(workloads={"transformer": 2}), *dense(), *kernel("a", *[3.0] * 5)
    )
    (only,) = ranking([read(old), read(new)])
    assert only.version == 2 and only.places[0].speed_up.middle == pytest.approx(3, rel=1e-3)  # pyright: ignore


def test_dense_and_masked_kernels_are_not_ranked(tmp_path: Path) -> None:
    assert list(places(tmp_path, *dense(), *kernel("a", *[2.0] * 5, execution="masked"))) == []


def test_one_visit_has_no_rank(tmp_path: Path) -> None:
    lines = [one for one in (*dense(), *kernel("a", *[2.0] * 5)) if one.visit == 1]
    one = places(tmp_path, *lines)["a"]
    assert one.rank is None and "one visit" in one.why and one.verdict is None


def test_without_dense_there_is_nothing_to_rank_by(tmp_path: Path) -> None:
    assert slices(tmp_path, *kernel("a", *[2.0] * 5)) == []


def test_where_every_visit_has_every_case_the_interval_is_the_visits_own() -> None:
    visits = {(0, 1): 1.9, (0, 2): 2.0, (0, 3): 2.2}
    cases = [visits, {visit: 3 * ratio for visit, ratio in visits.items()}]
    made, plain = together(cases), estimate([3**0.5 * ratio for ratio in visits.values()])
    assert made and plain
    assert (made.middle, made.low, made.high) == pytest.approx((plain.middle, plain.low, plain.high))


def test_cases_of_two_files_add_their_noise() -> None:
    one, other = {(0, 1): 1.0, (0, 2): 1.1}, {(1, 1): 1.0, (1, 2): 1.1}
    both, alone = together([one, other]), together([one])
    assert both and alone and both.high and alone.high and both.low and alone.low
    assert both.high / both.low == pytest.approx((alone.high / alone.low) ** 0.5**0.5)
