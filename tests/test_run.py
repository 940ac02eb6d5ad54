"""Runs in real child processes: whatever a kernel does costs a line; whatever happens, the file is fit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import scipy.io
import scipy.sparse
from outcomes import OUTCOMES

from suite.record import read

ROGUES = Path(__file__).parent / "rogues.py"
CASE = "spmm/m=64,k=96,n=8/unstructured@0.5/float32/seed=0"


def sparsemark(*words, **more):
    return subprocess.run(
        (sys.executable, "-m", "suite", *map(str, words)), capture_output=True, text=True, timeout=300, **more
    )


@pytest.fixture(scope="module")
def rogue_run(tmp_path_factory):
    """Every rogue in two visits."""
    file = tmp_path_factory.mktemp("rogues") / "run.jsonl"
    done = sparsemark(
        "run", "--case", CASE, "--plugin", ROGUES, "--kernels", "rogue_*", "--out", file,
        "--extent", "smoke", "--visits", 2, "--limit", "4s",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return read(file)


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_rogue_gets_its_outcome(rogue_run, name):
    lines = [line for line in rogue_run.results if line.kernel == name]
    assert lines
    for line in lines:
        assert line.outcome == OUTCOMES[name], line.note
        assert line.note or line.outcome == "ok"
        assert bool(line.seconds) == (line.outcome == "ok")


def test_no_line_is_lost_or_doubled(rogue_run):
    assert not rogue_run.faults and not rogue_run.torn
    assert max(Counter(line.key for line in rogue_run.results).values()) == 1
    for name, outcome in OUTCOMES.items():
        expected = 2 if outcome == "ok" else 1  # what failed once is not tried in the second visit
        assert sum(line.kernel == name for line in rogue_run.results) == expected


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rogue_segfault", "SIGSEGV"),
        ("rogue_hang", "longer than 4 s"),
        ("rogue_wrong", "times the error float32 allows"),
        ("rogue_shape", "the answer is 8 x 64, should be 64 x 8"),
        ("rogue_cached", "other live operands"),
        ("rogue_clock", "it replaces time.perf_counter"),
        ("rogue_exit_hard", "status 0"),
        ("rogue_raises", "ZeroDivisionError"),
        ("rogue_boast", "the nonzeros alone are"),
        ("rogue_vandal_fixed", "writes into its operand a.values"),
        ("rogue_pointer_cache", "still that of the first ones"),
        ("rogue_refused", "needs quantum"),
    ],
)
def test_the_note_says_what_happened(rogue_run, name, says):
    notes = [line.note for line in rogue_run.results if line.kernel == name and line.case == CASE]
    assert says in notes[0]


def test_the_sweep_goes_on_and_a_deadly_kernel_is_not_tried_forever(tmp_path):
    file = tmp_path / "run.jsonl"
    words = (
        "run",
        "--case",
        *IDS,
        "--plugin",
        ROGUES,
        "--kernels",
        "rogue_[ns]*",
        "--out",
        file,
        "--visits",
        1,
    )
    assert sparsemark(*words).returncode == 0
    found = read(file)
    outcomes = {name: [line.outcome for line in found.results if line.kernel == name] for name in OUTCOMES}
    assert outcomes["rogue_none"] == ["ok"] * 5
    assert outcomes["rogue_nan"] == outcomes["rogue_shape"] == ["wrong"] * 5
    assert outcomes["rogue_segfault"] == ["broken"] * 3 + ["refused"] * 2


def begin(file, *more):
    """A run of some length, as a process to be killed."""
    words = (sys.executable, "-m", "suite", *RUN, "--out", str(file), *more)
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


IDS = [f"spmm/m=64,k=96,n={n}/unstructured@0.5/float32/seed=0" for n in (1, 2, 3, 4, 5)]
RUN = (
    "run",
    "--case",
    *IDS,
    "--plugin",
    str(ROGUES),
    "--kernels",
    "rogue_[ngw]*",
    "--extent",
    "smoke",
    "--visits",
    "2",
)
WHOLE = 5 * (2 + 2 + 1 + 1)  # none and garbage twice, nan and wrong once


def wait_for_lines(file, count):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if file.exists() and file.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    raise AssertionError("the run writes nothing")


@pytest.mark.parametrize("moment", [1, 7, 25])
def test_a_killed_run_resumes_to_a_complete_file(tmp_path, moment):
    file = tmp_path / "run.jsonl"
    running = begin(file)
    wait_for_lines(file, moment)
    time.sleep(random.random() * 0.2)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = read(file)
    assert not before.faults
    with file.open("ab") as torn:
        torn.write(b'{"kind":"result","device":"x","wor')  # what a kill inside a write leaves
    assert read(file).torn
    done = sparsemark(*RUN, "--out", file, "--resume")
    assert done.returncode == 0, done.stderr
    after = read(file)
    assert not after.faults and not after.torn
    assert max(Counter(line.key for line in after.results).values()) == 1  # nothing was measured twice
    assert len(after.results) == WHOLE
    assert list(before.results) == after.results[: len(before.results)]


def test_children_die_with_their_parent(tmp_path):
    psutil = pytest.importorskip("psutil")
    file = tmp_path / "run.jsonl"
    words = ("run", "--case", CASE, "--plugin", str(ROGUES), "--kernels", "rogue_hang", "--out", str(file))
    running = subprocess.Popen((sys.executable, "-m", "suite", *words), stderr=subprocess.DEVNULL)
    wait_for_lines(file, 1)
    end = time.monotonic() + 30
    while not (children := psutil.Process(running.pid).children()) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    running.kill()
    running.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert children and not alive


def test_ctrl_c_ends_cleanly(tmp_path):
    file = tmp_path / "run.jsonl"
    words = (sys.executable, "-m", "suite", *RUN, "--out", str(file))
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for_lines(file, 4)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "--resume" in said and "Traceback" not in said
    found = read(file)
    assert not found.faults and not found.torn


def test_resume_refuses_another_commit_and_another_device(tmp_path):
    file = tmp_path / "run.jsonl"
    assert sparsemark(*RUN, "--out", file, "--budget", "0.1").returncode == 0
    header, *rest = file.read_text().splitlines(keepends=True)
    for field, value, says in (
        ("commit", "feedface", "measured with commit feedface"),
        ("devices", {}, "measured with device"),
    ):
        other = tmp_path / f"{field}.jsonl"
        other.write_text(json.dumps({**json.loads(header), field: value}) + "\n" + "".join(rest))
        done = sparsemark(*RUN, "--out", other, "--resume")
        assert done.returncode == 2
        assert says in done.stderr and "Traceback" not in done.stderr


def test_a_budget_is_kept_and_leaves_something_of_everything_it_reached(tmp_path):
    file = tmp_path / "run.jsonl"
    began = time.monotonic()
    done = sparsemark("run", "unstructured", "--kernels", "spmm_dense_mm", "--out", file, "--budget", "10s")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 10 + 50  # imports and the table come on top
    found = read(file)
    visits = Counter(line.case for line in found.results if line.outcome == "ok")
    assert visits
    assert sum(visits.values()) >= 2 * len(
        visits
    )  # mostly three; a pass that was slower than the first has less


def test_threads_are_pinned_and_recorded(rogue_run):
    recorded = {line.threads for line in rogue_run.results}
    assert recorded == {rogue_run.run.options["threads"]}
    assert max(recorded) <= len(os.sched_getaffinity(0))


def test_energy_is_measured_or_says_why_not(rogue_run):
    for line in rogue_run.results:
        if line.outcome == "ok":
            assert line.joules_counter is not None or line.energy_note


def test_a_matrix_from_a_file_runs_on_every_kernel_that_does_not_refuse_it(tmp_path):
    matrix, file = tmp_path / "a matrix.mtx", tmp_path / "run.jsonl"
    scipy.io.mmwrite(matrix, scipy.sparse.random_array((300, 200), density=0.05, rng=1))
    done = sparsemark(
        "run", "unstructured", "--matrix", matrix, "--set", "n=33", "--extent", "smoke", "--visits", 1,
        "--out", file,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = read(file).results
    refused = [line for line in found if line.outcome == "refused"]
    assert {line.outcome for line in found} <= {"ok", "refused"} and all(line.note for line in refused)
    assert {"spmm_csr_scipy", "spmm_dense_mm"} <= {line.kernel for line in found if line.outcome == "ok"}
    assert {line.sparsity for line in found} == {0.95}
    assert str(tmp_path) not in file.read_text()  # no path of this machine in what may be published


@pytest.mark.skipif(
    "SPARSEMARK_MATRICES" not in os.environ, reason="SPARSEMARK_MATRICES names no folder of .mtx"
)
def test_real_matrices_run_on_every_kernel_that_does_not_refuse(tmp_path):
    file = tmp_path / "run.jsonl"
    matrices = sorted(Path(os.environ["SPARSEMARK_MATRICES"]).glob("*.mtx"))
    done = sparsemark(
        "run", "unstructured", "--matrix", *matrices, "--set", "n=64", "--visits", 1, "--extent", "smoke",
        "--out", file,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = read(file).results
    assert len({line.data for line in found}) == len(matrices)
    assert {line.outcome for line in found} <= {"ok", "refused"}
    assert max(line.peak_bytes or 0 for line in found) < 4 * 2**30


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A complete run of a few lines, as bytes."""
    file = tmp_path_factory.mktemp("small") / "run.jsonl"
    assert sparsemark(*SMALL, "--out", file).returncode == 0
    return file.read_bytes()


SMALL = (
    "run",
    "--case",
    CASE,
    "--plugin",
    str(ROGUES),
    "--kernels",
    "rogue_n*",
    "--visits",
    "2",
    "--extent",
    "smoke",
)


def test_a_file_cut_at_any_byte_is_read_without_a_fault(small_run, tmp_path):
    """Whatever a kill leaves: whole lines stay, the rest is torn, and nothing is glued to it."""
    file = tmp_path / "cut.jsonl"
    whole = len(read_bytes(file, small_run).results)
    for length in range(len(small_run)):
        found = read_bytes(file, small_run[:length])
        assert found.torn == (length > 0 and small_run[length - 1 : length] != b"\n")
        if small_run[:length].count(b"\n"):
            assert not found.faults
            assert len(found.results) <= whole


def read_bytes(file, raw):
    file.write_bytes(raw)
    return read(file)


@pytest.mark.parametrize("where", ["nothing", "inside the header", "without its last newline"])
def test_a_file_cut_in_an_awkward_place_resumes(small_run, tmp_path, where):
    file = tmp_path / "cut.jsonl"
    file.write_bytes({"nothing": b"", "inside the header": small_run[:40]}.get(where, small_run[:-1]))
    done = sparsemark(*SMALL, "--out", file, "--resume")
    assert done.returncode == 0, done.stderr
    found = read(file)
    assert not found.faults and not found.torn
    assert len(found.results) == len(read_bytes(tmp_path / "whole.jsonl", small_run).results)


def test_resume_refuses_other_options(small_run, tmp_path):
    file = tmp_path / "run.jsonl"
    file.write_bytes(small_run)
    done = sparsemark(*SMALL[:-2], "--extent", "full", "--out", file, "--resume")
    assert done.returncode == 2
    assert "--extent smoke, this is full" in done.stderr
    assert file.read_bytes() == small_run


def test_operands_that_cannot_be_made_cost_their_case_and_nothing_else(tmp_path):
    """Too large for this machine: a line each, and no strike against the kernels."""
    file = tmp_path / "run.jsonl"
    large = [f"spmm/m=3000000,k=3000000,n={n}/block1x1@0.99/float32/seed=0" for n in (1, 2, 3)]
    words = ("run", "--case", *large, CASE, "--plugin", ROGUES, "--kernels", "rogue_none", "--visits", 1)
    assert sparsemark(*words, "--out", file).returncode == 0
    outcomes = {line.case: line.outcome for line in read(file).results}
    assert outcomes == dict.fromkeys(large, "memory") | {CASE: "ok"}
