"""Limits: no bound is higher than what the machine allows, and each is made of what a line states."""

import re
from pathlib import Path

import pytest
from lines import ceilings, grid, header, line, write
from msgspec.structs import replace

from suite import record, report
from suite.device import Ceiling
from suite.op import discover_parts
from suite.reading import figures
from suite.reading.bound import home, limit, loads, sizes, source
from suite.reading.limits import leaders, limits
from suite.reading.svg import svg

discover_parts()

MADE = Ceiling({"float32": 1e12}, {"L1": 1e12, "L2": 5e11, "L3": 2e11, "memory": 1e11})
HELD = {"L1": 10**5, "L2": 10**6, "L3": 10**7}
CACHES = {
    "L1d": {"bytes": 48 << 10, "shared_by": 1},
    "L2": {"bytes": 1 << 20, "shared_by": 1},
    "L3": {"bytes": 32 << 20, "shared_by": 2},
}


def moving(moved: int, flops: int = 0, **changes):
    """A line of so many bytes and FLOPs."""
    about = {"bytes_values": moved, "bytes_metadata": 0, "bytes_live": 0, "kernel": "spmm_block_mine"}
    return line(**(about | {"flops_executed": flops, "cache": "hot"} | changes))


def test_each_thread_has_a_core_and_its_share_of_what_cores_share():
    assert sizes({"caches": CACHES}, 2) == {"L1": 96 << 10, "L2": 2 << 20, "L3": 32 << 20}
    assert sizes({"caches": CACHES}, 1) == {"L1": 48 << 10, "L2": 1 << 20, "L3": 32 << 20}
    smt = {name: one | {"shared_by": 2 * one["shared_by"]} for name, one in CACHES.items()}
    assert sizes({"caches": smt}, 2) == sizes({"caches": CACHES}, 2)
    assert sizes({}, 2) == sizes({"caches": None}, 2) == {}


def test_work_sets_the_bound_where_it_takes_longest():
    found = limit(moving(1000, 10**9), MADE, HELD)
    assert (found.seconds, found.by) == (1e-3, "FLOPs")


@pytest.mark.parametrize(
    ("moved", "by", "seconds", "level"),
    [
        (10**5, "L1", 1e-7, "L1"),
        (10**6, "L2", 9e5 / 5e11, "L2"),
        (10**7, "L3", 8.9e6 / 2e11, "L3"),
        (10**8, "memory", 8.89e7 / 1e11, "memory"),
    ],
)
def test_a_level_delivers_what_nearer_ones_cannot_hold(moved, by, seconds, level):
    found = limit(moving(moved), MADE, HELD)
    assert (found.by, found.level) == (by, level) and found.seconds == pytest.approx(seconds)


def test_a_cold_call_finds_everything_in_memory():
    found = limit(moving(1000, cache="cold"), MADE, HELD)
    assert (found.by, found.level, found.seconds) == ("memory", "memory", 1e-8)


@pytest.mark.parametrize("moved", [10**power for power in range(2, 10)])
def test_a_hot_bound_is_never_above_the_cold_one_and_grows_with_the_bytes(moved):
    hot, cold, more = (
        limit(moving(bytes, cache=cache), MADE, HELD).seconds
        for bytes, cache in ((moved, "hot"), (moved, "cold"), (2 * moved, "hot"))
    )
    assert hot <= cold and hot < more


def test_where_cache_sizes_are_not_known_everything_may_lie_in_the_nearest_level():
    found = limit(moving(10**9), MADE, {})
    assert (found.by, found.level, found.seconds) == ("L1", "", 1e-3)
    only = Ceiling({"float32": 1e12}, {"memory": 1e11})
    assert limit(moving(10**9), only, {}).by == "memory"


def test_a_machine_without_a_level_goes_on_to_the_next():
    two = {"L1": 10**5, "L2": 10**6}
    ceiling = Ceiling({"float32": 1e12}, {"L1": 1e12, "L2": 5e11, "memory": 1e11})
    assert limit(moving(10**8), ceiling, two).seconds == pytest.approx((10**8 - 1.1e6) / 1e11)
    assert home(10**6, two) == "L2" and home(10**7, two) == "memory"


def test_compressed_rows_load_a_number_of_b_for_each_multiplication():
    csr = moving(1000, 4 * 10**9, kernel="spmm_csr_mine")
    assert loads(csr) == 8 * 10**9
    found = limit(csr, MADE, HELD)
    assert (found.by, found.seconds) == ("loads", 8e-3)
    assert loads(replace(csr, dtype="bfloat16")) == 4 * 10**9
    assert loads(moving(1000, 10)) is None and loads(replace(csr, flops_executed=None)) is None
    assert loads(replace(csr, kernel="spmm_csrish")) is None


def test_rows_of_b_come_from_a_level_that_is_quick_enough():
    assert source(9e10, MADE.bandwidth) == "memory" and source(3e11, MADE.bandwidth) == "L2"
    assert source(2e12, MADE.bandwidth) == "registers"


@pytest.mark.parametrize(
    ("changes", "ceiling"),
    [
        ({"bytes_values": None}, MADE),
        ({"bytes_live": None}, MADE),
        ({"dtype": "float16"}, MADE),
        ({}, Ceiling()),
        ({}, Ceiling({"float32": 1e12}, {})),
        ({"flops_executed": None, "flops_useful": None}, MADE),
    ],
)
def test_what_is_not_stated_or_measured_gives_no_bound(changes, ceiling):
    assert limit(moving(1000, **changes), ceiling, HELD) is None


def read(folder: Path, *lines):
    return limits([record.read(write(folder / "run.jsonl", *lines))])


def test_the_table_has_a_row_for_each_kernel_with_times(tmp_path):
    frame = read(tmp_path, *grid())
    assert len(frame) == 18 * 4 + 2  # a wrong, a refused and an endless kernel have none
    assert (frame["fraction"] == frame["bound"] / frame["median"]).all()
    assert set(frame["level"]) == {"memory"}
    rows = frame[frame["kernel"] == "spmm_csr_mine"]
    assert rows["loads"].notna().all() and frame[frame["dense"]]["loads"].isna().all()


def test_energy_windows_and_older_kernels_are_no_rows(tmp_path):
    older = line(seconds=[1e-3], kernel_hash="old", started="2025-01-01T00:00:00+00:00", visit=2)
    window = line(cache="rotating", seconds=[1e-3], joules_counter=1.0)
    frame = read(tmp_path, header(), ceilings(), line(seconds=[2e-3]), older, window)
    assert list(frame["median"]) == [2e-3]


def test_leaders_are_those_that_win_most_cases(tmp_path):
    frame = read(tmp_path, *grid(crossover=0.85, failures=False))
    assert leaders(frame) == ["spmm_csr_mine", "spmm_dense_torch", "spmm_dense_packed"]
    assert leaders(frame, 1) == ["spmm_csr_mine"]


def pages(folder: Path, *lines) -> dict[str, str]:
    index = report.write([write(folder / "run.jsonl", *lines)], folder / "site")
    return {file.stem: file.read_text() for file in index.parent.glob("*.html")}


def test_the_page_shows_every_kernel_and_the_index_leads_there(tmp_path):
    made = pages(tmp_path, *grid())
    page = made["limits"]
    assert 'href="limits.html"' in made["index"] and 'href="index.html"' in page
    assert page.count("<svg") == page.count("<figcaption>") == 2 + 1  # n 1 and 64; bfloat16
    for name in ("spmm_dense_torch", "spmm_dense_packed", "spmm_csr_mine", "spmm_csr_slow"):
        assert len(re.findall(rf'<th scope="row">{name}\b', page)) >= 2
    assert "Medians of 2 shapes" in page and "2,000 GFLOP/s" in page
    assert "nan" not in re.sub(r"<[^>]*>", "", page).lower()


def test_what_is_above_its_bound_is_flagged(tmp_path):
    lines = [line(seconds=[seconds], sparsity=0.9) for seconds in (1e-9,)]
    assert '<td class="number warn">' in pages(tmp_path, header(), ceilings(), *lines)["limits"]


def test_without_a_bound_there_is_no_page(tmp_path):
    lines = [one for one in grid() if not isinstance(one, record.Ceilings)]
    made = pages(tmp_path, *lines)
    assert "limits" not in made and "limits.html" not in made["index"]


def test_work_without_columns_or_sparsity_needs_no_special_page(tmp_path):
    square = {
        "op": "spgemm",
        "sizes": {"m": 64, "k": 64},
        "case": "spgemm/m=64,k=64/unstructured@0.9/float32/seed=0",
    }
    lines = [
        replace(line(kernel="spgemm_hash", seconds=[1e-3], sparsity=sparsity), **square)
        for sparsity in (0.5, 0.9)
    ]
    lines[0] = replace(lines[0], case="spgemm/m=64,k=64/unstructured@0.5/float32/seed=0")
    unknown = replace(line(kernel="spmm_lost", pattern="given", seconds=[1e-3]), sparsity=None)
    page = pages(tmp_path, header(), ceilings(), *lines, unknown)["limits"]
    words = re.sub(r"<[^>]*>", "", page)
    assert "unstructured, m 64, k 64" in words and "spmm_lost" not in words and "nan" not in words.lower()


def test_kernels_without_a_bound_are_named(tmp_path):
    secret = line(kernel="spmm_closed", seconds=[1e-3], bytes_values=None)
    assert "spmm_closed:" in pages(tmp_path, *grid(), secret)["limits"]


def test_the_figure_emphasises_its_leaders_alone(tmp_path):
    frame = read(tmp_path, *grid(failures=False))
    drawn = figures.limits(frame, {"spmm_csr_mine": 0})
    (axes,) = drawn.axes
    assert axes.get_legend_handles_labels()[1] == ["spmm_csr_mine"]
    assert len(axes.lines) == 1 + 4  # the bound itself, and every kernel
    one, again = (svg(figures.limits(frame, {"spmm_csr_mine": 0}), "a", "says") for _ in range(2))
    assert one == again and "var(--series-1" in one and "currentColor" in one
