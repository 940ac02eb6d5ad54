"""Frame: what lines become as rows, and that nothing of them is lost."""

from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import NO_METER, ceilings, grid, header, line, write

from suite.reading import frame
from suite.reading.about import NOTEBOOK, command
from suite.reading.agreement import agreements
from suite.record import read as read_file

NAMES = {name for names in frame.COLUMNS.values() for name in names.split()}


def rows(*lines, **columns):
    made = frame.from_lines(lines)
    for name, value in columns.items():
        made = made[made[name] == value]
    return made


def only(*lines, **columns):
    made = rows(*lines, **columns)
    assert len(made) == 1
    return made.iloc[0]


def dense(**changes):
    return line(**({"kernel": "dense", "dense": True, "seconds": [2e-3] * 4} | changes))


def test_a_row_for_each_kernel_on_each_case(tmp_path: Path) -> None:
    made = frame.read(write(tmp_path / "run.jsonl", *grid()))
    assert set(made.columns) == NAMES
    assert len(made) == 18 * 4 + 6
    assert set(made["outcome"]) == {"ok", "refused", "wrong", "timeout"}
    assert set(made["regime"]) == {"decode", "small batch"}
    one = made.iloc[0]
    assert (one["m"], one["k"], one["n"], one["family"], one["visits"]) == (1024, 1024, 1, "unstructured", 3)
    assert one["sizes"] == "1024 × 1024, n 1"


def test_no_lines_are_a_frame_with_all_columns() -> None:
    made = frame.from_lines([])
    assert made.empty and set(made.columns) == NAMES


def test_the_best_dense_is_chosen_on_odd_samples_and_reported_on_even_ones() -> None:
    lucky = dense(kernel="lucky", seconds=[1e-3, 4e-3] * 3)
    steady = dense(kernel="steady", seconds=[2e-3] * 6)
    made = rows(lucky, steady, line(seconds=[1e-3] * 6))
    sparse = made[~made["dense"]].iloc[0]
    assert (sparse["best_dense"], sparse["best_dense_median"]) == ("lucky", 4e-3)
    assert sparse["speed_up"] == pytest.approx(4)
    assert list(made[made["best"]]["kernel"]) == ["lucky", "spmm_csr_mine"]


def test_a_kernel_that_missed_a_visit_is_not_the_best() -> None:
    lines = [dense(kernel="whole", visit=visit) for visit in (1, 2)]
    lines.append(dense(kernel="part", seconds=[1e-3] * 4))
    assert list(rows(*lines, best=True)["kernel"]) == ["whole"]


def test_masked_and_simulated_sparsity_is_shown_but_never_the_answer() -> None:
    lines = [
        line(seconds=[1e-3] * 4),
        line(kernel="faked", execution="simulated", seconds=[1e-9] * 4),
        dense(),
    ]
    assert only(*lines, kernel="faked")["best"] == False  # noqa: E712, pandas's own False
    assert list(rows(*lines, best=True, dense=False)["kernel"]) == ["spmm_csr_mine"]


def test_speed_ups_are_paired_by_visit() -> None:
    slow = {1: 1.0, 2: 3.0, 3: 2.0}
    lines = [dense(visit=v, seconds=[2e-3 * by] * 4) for v, by in slow.items()]
    lines += [line(visit=v, seconds=[1e-3 * by] * 4) for v, by in slow.items()]
    made = only(*lines, dense=False)
    assert made["speed_up"] == pytest.approx(2) == made["speed_up_low"]
    assert made["high"] > 1.5 * made["median"]


def test_one_visit_has_no_interval() -> None:
    made = only(dense(), line(seconds=[1e-3] * 4), dense=False)
    assert made["speed_up"] == 2 and made[["low", "high", "speed_up_low"]].isna().all()


def test_one_sample_is_marked() -> None:
    assert only(line(seconds=[1e-3]))["one_sample"]
    assert not only(line(seconds=[1e-3] * 2))["one_sample"]


@pytest.mark.parametrize("outcome", ["refused", "wrong", "broken", "timeout", "memory"])
def test_failures_stay_with_their_reason(outcome: str) -> None:
    made = only(line(outcome=outcome, note="because"))
    assert (made["outcome"], made["note"], made["visits"]) == (outcome, "because", 0)


def test_wrong_once_is_wrong_and_has_no_time() -> None:
    made = only(line(seconds=[1e-3] * 4), line(visit=2, outcome="wrong", note="off by one"))
    assert (made["outcome"], made["visits"]) == ("wrong", 0) and "off by one" in made["note"]


def test_a_visit_that_failed_disturbs_the_others() -> None:
    made = only(line(seconds=[1e-3] * 4), line(visit=2, outcome="timeout", note="too long"))
    assert (made["outcome"], made["visits"]) == ("ok", 1)
    assert made["note"] == "visit 2: timeout: too long" and made["disturbed"] == "some visits failed"


def test_realised_is_a_share_of_nominal() -> None:
    made = only(dense(), line(seconds=[1e-3] * 4), dense=False)
    assert made["nominal"] == pytest.approx(10, rel=1e-3)
    assert made["realised"] == pytest.approx(0.2, rel=1e-3)


def test_conversion_pays_after_its_setup_over_what_a_call_saves() -> None:
    made = only(dense(), line(seconds=[1e-3] * 4, setup_seconds=0.1), dense=False)
    assert made["break_even"] == pytest.approx(100)
    made = only(dense(), line(seconds=[5e-3] * 4), dense=False)
    assert made["break_even"] == inf and made["break_even_note"] == "no call is faster than dense"
    made = only(dense(), line(seconds=[1e-3] * 4, setup_seconds=None), dense=False)
    assert made["break_even_note"] == "the conversion was not timed"
    assert only(line(seconds=[1e-3] * 4))["break_even_note"] == "no dense line"


def test_roofline_by_cache_and_flagged_above_one(tmp_path: Path) -> None:
    fast = line(kernel="fast", seconds=[1e-9] * 4)
    hot = line(kernel="fast", cache="hot", seconds=[1e-3] * 4)
    closed = line(kernel="closed", bytes_values=None, seconds=[1e-3] * 4)
    lines = [line(seconds=[1e-3] * 4), fast, hot, closed]
    made = frame.read(write(tmp_path / "run.jsonl", header(), ceilings(), *lines)).set_index(
        ["kernel", "cache"]
    )
    moved = sum((lines[0].bytes_values or 0, lines[0].bytes_metadata or 0, lines[0].bytes_live or 0))
    assert made.loc[("fast", "cold"), "bound"] == pytest.approx(moved / 1e11)
    assert made.loc[("fast", "hot"), "bound"] < made.loc[("fast", "cold"), "bound"]
    assert [key for key, above in made["above_bound"].items() if above] == [("fast", "cold")]
    assert [key for key, share in made["roofline"].items() if share != share] == [("closed", "cold")]


def test_energy_windows_are_not_latency_lines() -> None:
    window = {"cache": "rotating", "energy_note": None, "seconds": []}
    lines = [dense(), line(seconds=[1e-3] * 4)]
    lines += [dense(**window, joules_counter=3e-3), line(**window, joules_counter=1e-3)]
    made = only(*lines, dense=False)
    assert (made["cache"], made["visits"], made["joules"]) == ("cold", 1, 1e-3)
    assert made["joules_saved"] == pytest.approx(2e-3)
    assert only(*lines[:2], dense=False)["energy_note"] == NO_METER


@pytest.mark.parametrize(
    ("disturbance", "says"),
    [
        ({"foreign": 0.3}, "other processes took 30 % of the cores"),
        ({"steal": 0.03}, "other guests took 3 % of the cores"),
        ({"clock_mhz": 1500.0}, "the clock changed by 50 %"),
        ({"throttle": "heat"}, "throttled: heat"),
        ({"seconds": [2e-3] * 4}, "the interval is"),
    ],
)
def test_what_disturbs_is_said(disturbance: dict, says: str) -> None:
    calm = [line(visit=visit, seconds=[1e-3] * 4) for visit in (1, 2)]
    assert only(*calm)["disturbed"] == ""
    assert says in only(*calm, line(**({"visit": 3, "seconds": [1e-3] * 4} | disturbance)))["disturbed"]


def test_the_command_repeats_the_line() -> None:
    made = only(line(data="ca-CondMat.mtx-1f3a9c02", pattern="given", cache="hot", seconds=[1e-3] * 2))
    case = "spmm/m=1024,k=1024,n=64/given/float32/seed=0/data=ca-CondMat.mtx-1f3a9c02"
    named = "--kernels spmm_csr_mine --matrix ca-CondMat.mtx --cache hot"
    assert made["command"] == f"sparsemark run transformer --case {case} {named}"
    assert "'a b; rm'" in only(line(kernel="a b; rm", seconds=[1e-3]))["command"]


def test_the_command_repeats_what_the_run_was_measured_with() -> None:
    run = header(options={"extent": "full", "threads": 2}, plugins=[{"file": "mine.py"}, {"name": "theirs"}])
    assert command(line(), run).endswith("--extent full --threads 2 --plugin mine.py")
    assert command(line(), header(options={"extent": "default", "threads": 2})).endswith(" --threads 2")


def test_a_notebooks_command_names_no_workload() -> None:
    made = command(line(workload=NOTEBOOK), None)
    assert made.startswith("sparsemark run --case spmm/")


def test_a_pattern_of_an_absent_plug_in_still_has_a_family() -> None:
    assert only(line(pattern="2:4", seconds=[1e-3]))["family"] == "N:M"
    assert only(line(pattern="zigzag7@0.9", seconds=[1e-3]))["family"] == "zigzag"


def test_an_older_version_of_a_kernel_is_left_out_and_counted() -> None:
    old = line(kernel_hash="old", started="2025-01-01T00:00:00+00:00", seconds=[9e-3] * 4)
    made = frame.from_lines([old, line(seconds=[1e-3] * 4)])
    assert (len(made), made.attrs["superseded"], made.iloc[0]["kernel_hash"]) == (1, 1, "abc")


def test_a_kernel_that_has_changed_since_an_older_file_may_still_be_the_best(tmp_path: Path) -> None:
    before, since = "2025-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"
    files = []
    for name, started, hash in (("before", before, "old"), ("since", since, "new")):
        about = {"visit": 1, "started": started}
        lines = [dense(**about), line(kernel="slow", **about, seconds=[1.5e-3] * 4)]
        lines.append(line(kernel="mine", kernel_hash=hash, **about, seconds=[1e-3] * 4))
        files.append(write(tmp_path / f"{name}.jsonl", header(started=started), *lines))
    made = frame.read(*files)
    assert dict(zip(made["kernel"], made["visits"], strict=True)) == {"dense": 2, "slow": 2, "mine": 1}
    assert set(made[made["best"]]["kernel"]) == {"dense", "mine"}


def test_a_faulty_line_is_not_used(tmp_path: Path) -> None:
    file = write(tmp_path / "run.jsonl", header(), line(seconds=[-1.0]), line(kernel="fine", seconds=[1.0]))
    assert list(frame.read(file)["kernel"]) == ["fine"]
    assert [fault.line for fault in read_file(file).faults] == [2]
    file = write(tmp_path / "other.jsonl", header(schema=99), line(seconds=[1.0]))
    assert frame.read(file).empty


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_less_noise_is_narrower_intervals(seed: int) -> None:
    loud, quiet = (
        frame.from_lines([one for one in grid(seed, noise=noise, failures=False) if hasattr(one, "case")])
        for noise in (0.04, 0.004)
    )
    assert quiet["half_width"].mean() < loud["half_width"].mean()


def test_two_runs_of_a_commit_agree_or_not(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{seed}.jsonl", *grid(seed, failures=False)) for seed in (1, 2)]
    other = write(tmp_path / "slow.jsonl", *grid(3, crossover=0.5, failures=False))
    loaded = [read_file(file) for file in files]
    (found,) = agreements(loaded)
    assert found.rows == 72 and found.agreeing > 65 and "1.jsonl and 2.jsonl" in str(found)
    assert found.cases == 18 and 14 < found.cases_agreeing <= 18
    assert f"for {100 * found.cases_agreeing / 18:.0f} % of the 18 cases" in str(found)
    (_, slow, _) = agreements([*loaded, read_file(other)])
    assert slow.agreeing < 60 and slow.cases_agreeing == 0
    assert agreements(loaded[:1]) == []
    once = [read_file(write(tmp_path / f"once{seed}.jsonl", *grid(seed, visits=1))) for seed in (1, 2)]
    assert "cannot be compared" in str(agreements(once)[0])
    elsewhere = write(tmp_path / "commit.jsonl", header(commit="other"), line(seconds=[1.0]))
    assert agreements([loaded[0], read_file(elsewhere)]) == []
