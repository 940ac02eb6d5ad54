"""Regular rows: N:M in lanes, grouped N:M in sorted rows, constant fan-in in tables, and their products."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import native
from suite.case import DTYPES, case
from suite.conformance import Trial, examine
from suite.cpu.device import Cpu
from suite.formats.condensed import condensed, expanded
from suite.formats.grouped import grouped, ungrouped
from suite.formats.n_of_m import Cut, in_lanes, out_of_lanes
from suite.kernel import KERNELS, Refused
from suite.op import discover_parts, weight
from suite.patterns.fan_in import FanIn
from suite.patterns.grouped_n_of_m import GroupedNofM
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.patterns.v_n_of_m import VNofM
from suite.registry import discover
from suite.sparse import Sparse

discover_parts()
discover(folders=("kernels",))

SIDES = st.integers(1, 70)
SEEDS = st.integers(0, 2**16)
TYPES = st.sampled_from(["float32", "bfloat16"])
OF = st.integers(2, 16).flatmap(lambda m: st.tuples(st.integers(1, m - 1), st.just(m)))


def drawn(pattern, dtype, m, k, seed) -> Sparse:
    made = weight(case("spmm", pattern, dtype, seed=seed, m=m, k=k, n=1))
    made.values[::5] = -0.0
    return made


def same(one: Sparse, other: Sparse) -> bool:
    """Bit by bit: -0.0 is not 0.0."""
    bits = torch.int16 if one.dtype.itemsize == 2 else torch.int32
    return (
        one.shape == other.shape
        and torch.equal(one.starts, other.starts)
        and torch.equal(one.columns, other.columns)
        and torch.equal(one.values.view(bits), other.values.view(bits))
    )


@pytest.mark.paper("sten")
@settings(deadline=None)
@given(
    OF,
    TYPES,
    SIDES,
    SIDES,
    SEEDS,
    st.sampled_from([8, 16]),
    st.sampled_from([1, 2]),
    st.sampled_from([16, 32]),
)
def test_lanes_lose_nothing(of, dtype, m, k, seed, lanes, together, word):
    a = drawn(NofM(*of), dtype, m, k, seed)
    cut = Cut(*of, lanes=lanes, window=max(of[1], 16), together=together, word=word)
    held = in_lanes(a, cut)
    assert same(out_of_lanes(held, a.pattern), a)
    slots = -(-m // lanes) * cut.steps(k) * lanes * together
    assert held.value_bytes == slots * cut.windows * cut.rounds * DTYPES[dtype].itemsize
    assert held.metadata_bytes == slots * cut.words * word // 8


@pytest.mark.paper("sten")
@settings(deadline=None)
@given(
    st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 6), (2, 8)]),
    st.integers(1, 4), TYPES, SIDES, st.integers(1, 8), SEEDS,
)  # fmt: skip
def test_sorted_rows_lose_nothing_and_need_one_number_for_n_values(of, g, dtype, m, groups, seed):
    pattern = GroupedNofM(*of, g)
    a = drawn(pattern, dtype, m, groups * of[1], seed)
    held = grouped(a, *of, pattern.rows)
    assert same(ungrouped(held, pattern), a)
    assert held.value_bytes == a.values.nbytes
    assert held.metadata_bytes == m * groups * (1 if pattern.rows <= 256 else 2)


@pytest.mark.paper("srigl")
@settings(deadline=None)
@given(st.floats(0, 1), TYPES, SIDES, SIDES, SEEDS, st.sampled_from([1, 8, 16]))
def test_tables_of_constant_fan_in_lose_nothing(sparsity, dtype, m, k, seed, band):
    a = drawn(FanIn(sparsity), dtype, m, k, seed)
    held = condensed(a, band)
    assert same(expanded(held, a.pattern), a)
    slots = -(-m // band) * band * (a.nonzeros // m)
    assert held.value_bytes == slots * DTYPES[dtype].itemsize
    assert held.metadata_bytes == 2 * slots


@pytest.mark.paper("srigl")
@settings(deadline=None)
@given(st.floats(0, 1), SIDES, SIDES, SEEDS)
def test_every_row_has_the_same_fan_in(sparsity, m, k, seed):
    assert len(set(drawn(FanIn(sparsity), "float32", m, k, seed).row_lengths.tolist())) == 1


def test_irregular_rows_are_refused():
    a = drawn(Unstructured(0.5), "float32", 16, 16, 0)
    with pytest.raises(Refused, match="does not keep 2 of every 4"):
        in_lanes(a, Cut(2, 4, lanes=16, window=16))
    with pytest.raises(Refused, match="all must have as many"):
        condensed(a)
    plain = drawn(NofM(2, 4), "float32", 12, 16, 0)
    with pytest.raises(Refused, match="evenly"):
        grouped(plain, 2, 4, 12)


NATIVE = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))
LESSER = [(), ("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx")]
OF_KERNEL = [
    ("spmm_nm_permuted", NofM(2, 4)),
    ("spmm_nm_permuted", NofM(1, 20)),  # a window of two registers, or of four
    ("spmm_nm_permuted", NofM(5, 7)),  # one that groups do not fill
    ("spmm_nm_permuted", VNofM(16, 2, 10)),
    ("spmm_nm_permuted", GroupedNofM(2, 4, 3)),
    ("spmm_nm_panels", NofM(2, 4)),
    ("spmm_nm_panels", NofM(5, 7)),
    ("spmm_nm_panels", NofM(1, 32)),
    ("spmm_grouped_nm", GroupedNofM(2, 4, 3)),
    ("spmm_grouped_nm", GroupedNofM(4, 6, 1)),
    ("spmm_grouped_nm", GroupedNofM(2, 3, 100)),  # rows of a chunk take two bytes
    ("spmm_fan_in", FanIn(0.5)),
]


@pytest.fixture(scope="module")
def device():
    return Cpu()


def only_right(one, trials, device):
    verdicts = [examine(one, trial, device) for trial in trials]
    assert {verdict.outcome for verdict in verdicts} == {"ok"}, verdicts


@NATIVE
@pytest.mark.paper("sten", "srigl")
@pytest.mark.parametrize(
    ("name", "pattern", "flags"),
    [(*one, flags) for one in OF_KERNEL for flags in LESSER]
    + [("spmm_nm_permuted", NofM(1, 20), ("-mno-avx512bf16",))],
    ids=str,
)
def test_regular_rows_are_right_for_lesser_processors(name, pattern, flags, device):
    """What another machine would compile; a build for AVX2 on one with AVX-512 is the same code."""
    if flags and device.isa and "avx2" not in device.isa:
        pytest.skip("these are flags for x86 with AVX2")
    one = KERNELS[name]
    module = import_module(one.prepare.__module__)
    lesser = replace(one, prepare=lambda a, b: module.prepare(a, b, *flags))
    only_right(
        lesser,
        [
            Trial(case("spmm", pattern, dtype, m=m, k=k, n=n), twist)
            for dtype in one.dtypes
            for m, k, n in ((61, 420, 3), (400, 60, 145), (1, 120, 1))
            for twist in ("", "signed zeros")
            if not pattern.faults(m, k)
        ],
        device,
    )


@NATIVE
@pytest.mark.parametrize(("name", "pattern"), OF_KERNEL[::5], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_regular_rows_at_any_width(name, pattern, threads, device):
    one, before = KERNELS[name], torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sizes = [(m, n) for m in (40, 700) for n in (1, 2, 4, 7, 8, 9, 16, 33, 64, 65, 128, 200)]
        only_right(one, [Trial(case("spmm", pattern, m=m, k=840, n=n)) for m, n in sizes], device)
    finally:
        torch.set_num_threads(before)


@NATIVE
@pytest.mark.paper("srigl")
def test_more_columns_than_two_bytes_count(device):
    only_right(
        KERNELS["spmm_fan_in"],
        [Trial(case("spmm", FanIn(0.999), m=20, k=70_000, n=n)) for n in (1, 9)],
        device,
    )


@NATIVE
@pytest.mark.paper("sten", "srigl")
@pytest.mark.parametrize("name", dict(OF_KERNEL))
def test_kernels_of_regular_rows_refuse_others(name, device):
    one = KERNELS[name]
    foreign = case("spmm", Unstructured(0.5), m=12, k=12, n=3)
    assert not one.fits(foreign)
    pattern = dict(OF_KERNEL)[name]
    a, b = weight(foreign), torch.ones(12, 3)
    with pytest.raises(Refused):
        one.prepare(Sparse(a.starts, a.columns, a.values, a.shape, pattern), b)


@pytest.mark.paper("sten")
def test_patterns_that_would_be_long_code_are_refused(device):
    for name, pattern, says in (
        ("spmm_nm_permuted", NofM(2, 64), "picks from 32 numbers at most; 2:64 has groups of 64"),
        ("spmm_nm_panels", NofM(2, 64), "is unrolled for groups of 32 at most; 2:64 has 64"),
        (
            "spmm_grouped_nm",
            GroupedNofM(4, 12, 1),
            "is unrolled for 128 placements at most, and 4:12:g1 has more",
        ),
        (
            "spmm_grouped_nm",
            GroupedNofM(1, 2, 2**16),
            "counts rows of a chunk to 65536; 1:2:g65536 has 131072",
        ),
    ):
        assert says in KERNELS[name].refusals(case("spmm", pattern, m=64, k=192, n=8), device)
