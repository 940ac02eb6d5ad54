"""Formats of regular rows: N:M in lanes, grouped N:M in sorted rows, constant fan-in in tables."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.case import DTYPES, case
from suite.formats.condensed import condensed, expanded
from suite.formats.grouped import grouped, ungrouped
from suite.formats.n_of_m import Cut, in_lanes, out_of_lanes
from suite.kernel import Refused
from suite.op import discover_parts, weight
from suite.patterns.fan_in import FanIn
from suite.patterns.grouped_n_of_m import GroupedNofM
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.sparse import Sparse

discover_parts()

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
