"""Races: who runs against whom, what a file says of it, and that a ratio never fails anything."""

import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from lines import STARTED, ceilings, header, line, write

from suite import race as racing
from suite import record, sources
from suite.case import case, from_id
from suite.kernel import KERNELS, Kernel, kernel
from suite.op import OPS, discover_parts, faults
from suite.patterns.given import Given
from suite.patterns.unstructured import Unstructured
from suite.race import RACES, Heat, Race, entries, matches
from suite.reading.standings import Goal, Standings, standings
from suite.registry import discover
from suite.workload import WORKLOADS

discover_parts()
discover()


def at(sparsity: float, n: int = 64, op: str = "spmm"):
    return case(op, Unstructured(sparsity), m=1024, k=1024, n=n)


def made(*heats: Heat, own=("spmm_csr_mine",), rivals=("spmm_csr_theirs",), mean=None) -> Race:
    return Race("made", "Made up.", lambda: heats, "unstructured", own, rivals, mean)


def named(name: str, dense: bool = False, **terms) -> Kernel:
    def prepare(a, b):
        """Never called."""

    prepare.__name__ = name
    return kernel(op="spmm", dense=dense, keep=False, **terms)(prepare)


def raced(
    own: Iterable[float], rival: Iterable[float], visits: int = 5, every: float = 40.0, **changes
) -> list:
    """Lines of two kernels on a case, the same samples in each visit."""
    start = datetime.fromisoformat(STARTED)
    found = []
    for visit in range(1, visits + 1):
        about = {"visit": visit, "started": (start + timedelta(seconds=every * (visit - 1))).isoformat()}
        for name, samples in (("spmm_csr_mine", own), ("spmm_csr_theirs", rival)):
            found.append(line(kernel=name, seconds=list(samples), **(about | changes)))
    return found


def stand(folder: Path, race: Race, *lines) -> Standings:
    (found,) = standings(race, [record.read(write(folder / "run.jsonl", header(), *lines))])
    return found


def test_globs_choose_and_take_away():
    globs = ("spmm_*", "!spmm_*_torch", "!*_scipy")
    assert matches("spmm_csr_tiled", globs)
    assert not matches("spmm_csr_torch", globs) and not matches("spmm_bsr_scipy", globs)
    assert not matches("sddmm_csr", globs)


def test_neither_a_dense_kernel_nor_a_rival_is_our_own():
    race = made(own=("spmm_*",), rivals=("spmm_csr_*",))
    assert race.is_own("spmm_bitmap", dense=False)
    assert not race.is_own("spmm_dense_mm", dense=True)
    assert not race.is_own("spmm_csr_torch", dense=False) and race.is_rival("spmm_csr_torch")


def test_two_races_of_one_name_are_a_mistake(monkeypatch):
    monkeypatch.setattr(racing, "RACES", {})

    def register():
        @racing.race(workload="unstructured", own=("a",), rivals=("b",))
        def twice():
            """Once."""
            yield Heat(at(0.5))

        return twice

    assert register().about == "Once."
    with pytest.raises(ValueError, match="two races are called 'twice'"):
        register()


def test_a_case_of_two_races_is_measured_once_with_the_kernels_of_both_and_races_take_turns():
    kernels = [named("mine"), named("theirs"), named("spmm_dense", dense=True), named("else")]
    first = made(Heat(at(0.5)), Heat(at(0.9)), own=("mine",), rivals=("theirs",))
    second = made(Heat(at(0.7)), Heat(at(0.5)), own=("mine",), rivals=("spmm_dense",))
    found = entries([first, second], kernels)
    assert [item.case for item in found] == [at(0.5), at(0.7), at(0.9)]
    assert [item.kernels for item in found] == [
        ("mine", "theirs", "spmm_dense"),
        ("mine", "spmm_dense"),
        ("mine", "theirs"),
    ]


def test_kernels_that_do_not_fit_do_not_enter():
    kernels = [named("mine", only={"n": 1}), named("theirs", extents=("full",)), named("spmm_slow")]
    assert entries([made(Heat(at(0.5)), own=("*",), rivals=("theirs",))], kernels)[0].kernels == (
        "spmm_slow",
    )
    assert entries([made(Heat(at(0.5, op="no such op")))], kernels) == []


def test_a_heat_on_given_runs_on_every_matrix_that_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_paths", {})
    file = tmp_path / "a.mtx"
    file.write_text("%%MatrixMarket matrix coordinate real general\n3 4 1\n1 2 5\n")
    race = made(Heat(case("spmm", Given(), m=0, k=0, n=8), ratio=2.0), own=("mine",), rivals=("theirs",))
    assert entries([race], [named("mine")]) == []
    data = sources.add(str(file))
    (item,) = entries([race], [named("mine")])
    assert str(item.case) == f"spmm/m=3,k=4,n=8/given/float32/seed=0/data={data}"


def test_sides_are_told_by_the_tenth_percentile_of_all_visits(tmp_path):
    own, rival = [1.0, 2e-3] * 10, [1.0, 6e-3] * 10  # chosen by the odd samples, told by the even ones
    found = stand(tmp_path, made(Heat(at(0.9), ratio=2.5)), *raced(own, rival))
    (heat,) = found.heats
    assert heat.ratio == pytest.approx(3.0) and heat.own.seconds == pytest.approx(2e-3)
    assert (heat.visits, heat.spread, heat.enough) == (5, 160.0, True)
    assert [goal.met for goal in found.goals] == [True]


def test_a_disturbed_minority_changes_nothing(tmp_path):
    quiet = stand(tmp_path, made(Heat(at(0.9))), *raced([1e-3] * 20, [2e-3] * 20)).heats[0].ratio
    loud = raced([1e-3] * 20, [2e-3] * 20, visits=3) + raced([9e-3] * 20, [2e-3] * 20, visits=5)[6:]
    assert stand(tmp_path, made(Heat(at(0.9))), *loud).heats[0].ratio == pytest.approx(quiet)


@pytest.mark.parametrize(("visits", "every"), [(4, 60.0), (5, 20.0)])
def test_too_few_visits_or_too_close_are_told(tmp_path, visits, every):
    (heat,) = stand(tmp_path, made(Heat(at(0.9))), *raced([1e-3], [2e-3], visits, every)).heats
    assert not heat.enough


def test_the_best_of_a_side_counts_and_a_wrong_kernel_never(tmp_path):
    lines = [
        *raced([3e-3] * 4, [4e-3] * 4, visits=1),
        line(kernel="spmm_csr_mine_too", seconds=[2e-3] * 4),
        line(kernel="spmm_csr_mine_wrong", outcome="wrong", note="[0, 0] is 1, should be 2"),
        line(kernel="spmm_dense_mm", dense=True, seconds=[1e-3] * 4),
    ]
    (heat,) = stand(tmp_path, made(Heat(at(0.9)), own=("spmm_*",)), *lines).heats
    assert heat.own.kernel == "spmm_csr_mine_too" and heat.ratio == pytest.approx(2.0)


def test_the_share_is_of_the_rivals_own_bound(tmp_path):
    dense = line(kernel="spmm_dense_mm", dense=True, seconds=[1e-3] * 4)
    sparse = line(kernel="spmm_csr_mine", seconds=[1e-3] * 4)
    race = made(Heat(at(0.9)), rivals=("spmm_dense_*",))
    (heat,) = stand(tmp_path, race, ceilings(), dense, sparse).heats
    assert heat.rival.share == pytest.approx(2 * 1024 * 1024 * 64 / 2e12 / 1e-3)
    assert stand(tmp_path, race, dense, sparse).heats[0].rival.share is None


def test_goals_are_met_missed_or_not_known(tmp_path):
    assert [Goal("ratio", 1.0, 1.0).met, Goal("ratio", 0.99, 1.0).met] == [True, False]
    assert [Goal("setup", 9.0, 10.0).met, Goal("padding", 1.03, 1.02).met] == [True, False]
    assert Goal("ratio", None, 1.0).met is None and Goal("ratio", 2.0, None).met is None
    heats = (Heat(at(0.9), setup=0.02, padding=1.5), Heat(at(0.5), ratio=1.0))
    found = stand(tmp_path, made(*heats), *raced([1e-3], [2e-3], flops_executed=2 * 1024 * 1024 * 64))
    assert [(goal.what, goal.met) for goal in found.goals] == [
        ("setup", True),
        ("padding", False),
        ("ratio", None),
    ]
    assert found.goals[0].reached == 0.01 and found.goals[1].reached == pytest.approx(10, rel=0.01)


def test_the_mean_is_geometric_over_what_was_measured(tmp_path):
    race = made(Heat(at(0.5)), Heat(at(0.9)), Heat(at(0.99)), mean=3.0)
    lines = raced([1e-3], [2e-3], sparsity=0.5) + raced([1e-3], [8e-3])
    found = stand(tmp_path, race, *lines)
    assert found.mean.reached == pytest.approx(4.0) and found.mean.met
    assert len(found.run) == 2


def test_against_dense_the_crossover_is_told(tmp_path):
    race = made(Heat(at(0.3)), Heat(at(0.5)), Heat(at(0.7)), rivals=("spmm_dense_*",))
    lines = [
        each
        for sparsity in (0.3, 0.5, 0.7)
        for each in (
            line(kernel="spmm_dense_mm", dense=True, seconds=[4e-3], sparsity=sparsity),
            line(kernel="spmm_csr_mine", seconds=[1e-2 * (1 - sparsity)], sparsity=sparsity),
        )
    ]
    (text,) = (one.text for one in stand(tmp_path, race, *lines).crossovers.values())
    assert text == "between 50 and 70 %"


def test_matrices_are_those_the_file_tells_of(tmp_path):
    race = made(Heat(case("spmm", Given(), m=0, k=0, n=64)))
    lines = raced([1e-3], [2e-3], pattern="given", data="a.mtx-01234567")
    (heat,) = stand(tmp_path, race, *lines).heats
    assert heat.ratio == pytest.approx(2.0) and heat.heat.case.data == "a.mtx-01234567"


def test_other_settings_are_other_standings(tmp_path):
    lines = [*raced([1e-3], [2e-3]), *raced([1e-3], [3e-3], cache="hot")]
    found = standings(made(Heat(at(0.9))), [record.read(write(tmp_path / "r.jsonl", header(), *lines))])
    assert {one.cache: round(one.heats[0].ratio) for one in found} == {"cold": 2, "hot": 3}


OURS = [one for one in RACES.values() if one.heats.__module__.startswith("suite.workloads.")]


@pytest.mark.parametrize("race", OURS, ids=str)
def test_a_race_of_ours_has_cases_kernels_and_a_workload(race):
    assert race.about.endswith(".") and race.workload in WORKLOADS
    heats = list(race.on({"a.mtx-01234567": (32, 48)}))
    assert heats and len({heat.case for heat in heats}) == len(heats)
    for heat in heats:
        assert from_id(str(heat.case)) == heat.case
        if heat.case.op not in OPS:
            pytest.skip(f"there is no op {heat.case.op} here")
        assert faults(heat.case) == []
        running = [one for one in KERNELS.values() if one.fits(heat.case)]
        assert any(race.is_own(one.name, one.dense) for one in running), str(heat.case)
        assert any(race.is_rival(one.name) for one in running), str(heat.case)


PLUGIN = """
from suite.case import case
from suite.patterns.unstructured import Unstructured
from suite.race import Heat, race

@race(workload="unstructured", own=("spmm_csr_tiled",), rivals=("spmm_csr_scipy",), mean=1e9)
def tiny():
    '''Small, and out of reach.'''
    for sparsity in (0.5, 0.9):
        yield Heat(case("spmm", Unstructured(sparsity), m=64, k=96, n=8), ratio=1e9)
"""


def sparsemark(*words):
    return subprocess.run(
        (sys.executable, "-m", "suite", *map(str, words)), capture_output=True, text=True, timeout=300
    )


def test_a_race_is_run_read_again_and_fails_nothing(tmp_path):
    plugin, file = tmp_path / "tiny.py", tmp_path / "run.jsonl"
    plugin.write_text(PLUGIN)
    words = ("race", "tiny", "--plugin", plugin)
    done = sparsemark(
        *words, "--visits", 2, "--spread", "4s", "--cap", "0.02s", "--threads", 1, "--out", file
    )
    assert done.returncode == 0, done.stderr
    found = record.read(file)
    assert not found.faults and len(found.results) == 2 * 2 * 2
    assert {one.cache for one in found.results} == {"hot"}
    assert found.run.options | {"spread": 4.0, "cap": 0.02, "visits": 2} == found.run.options
    times = {one.visit: datetime.fromisoformat(one.started) for one in reversed(found.results)}
    assert (times[2] - times[1]).total_seconds() >= 4
    assert "0 of 2 points reached" in done.stdout and "too few" in done.stdout
    assert "64 x 96, n 8, float32, hot cache, 1 thread," in done.stdout
    again = sparsemark(*words, "--read", file)
    assert again.returncode == 0 and again.stdout.strip() in done.stdout
    assert sparsemark(*words, "--out", file).returncode == 2  # it exists
    assert "none of it is in" in sparsemark("race", "csr", "--read", file).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("race", "crs"), "Did you mean 'csr'?"),
        (("race", "--read", "missing.jsonl"), "no such file"),
        (("race", "matrices"), "none of these races has a case here"),
    ],
)
def test_a_mistake_ends_in_a_sentence(words, says, monkeypatch):
    monkeypatch.delenv("SPARSEMARK_MATRICES", raising=False)
    done = sparsemark(*words)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
