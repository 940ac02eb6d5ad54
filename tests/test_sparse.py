"""Sparse: compressed rows lose nothing, and their statistics are those of the dense matrix."""

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.case import case
from suite.op import OPS, discover_parts, make_operands
from suite.pattern import Pattern
from suite.patterns.banded import Banded
from suite.patterns.block import Block
from suite.patterns.n_of_m import NofM
from suite.patterns.rmat import Rmat
from suite.patterns.unstructured import Unstructured
from suite.sparse import BLOCKS, Sparse, count_blocks, from_positions, structure

discover_parts()

sides = st.integers(1, 150)
patterns = st.one_of(
    *(st.builds(cls, st.floats(0, 1)) for cls in (Unstructured, Banded, Rmat)),
    st.builds(Block, st.integers(1, 20), st.integers(1, 20), st.floats(0, 1)),
    st.just(NofM(2, 4)),
)


def drawn(pattern: Pattern, m: int, k: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Sparse:
    starts, columns = pattern.positions(m, k, seed)
    values = torch.randn(len(columns), generator=torch.Generator().manual_seed(seed)).to(dtype)
    return from_positions(starts, columns, values, (m, k), pattern)


@given(patterns, sides, sides)
@settings(deadline=None)
def test_compressed_rows_lose_nothing(pattern: Pattern, m: int, k: int) -> None:
    a = drawn(pattern, m, k)
    assert a.starts.dtype == a.columns.dtype == torch.int32
    assert a.nonzeros == pattern.count(m, k) and a.sparsity == pytest.approx(pattern.sparsity_of(m, k))
    assert a.dense.shape == a.shape == (m, k)
    assert int((a.dense != 0).sum()) == int((a.values != 0).sum())
    assert (a.scipy().toarray() == a.dense.numpy()).all()
    again = scipy.sparse.csr_array(a.dense.numpy())
    assert (again.indptr == a.starts.numpy()).all() and (again.indices == a.columns.numpy()).all()
    assert (again.data == a.values.numpy()).all()


@given(patterns, sides, sides, st.data())
@settings(deadline=None)
def test_some_rows_are_those_of_the_whole(pattern: Pattern, m: int, k: int, data: st.DataObject) -> None:
    a = drawn(pattern, m, k)
    first = data.draw(st.integers(0, m))
    last = data.draw(st.integers(first, m))
    assert (a.rows_dense(first, last, torch.float64) == a.dense[first:last].double()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wanted", [np.float32, np.float64, float, np.dtype("float64")])
def test_scipy_takes_every_dtype_that_it_has(dtype: torch.dtype, wanted: type) -> None:
    a = drawn(Unstructured(0.5), 20, 30, dtype)
    made = a.scipy(wanted)
    assert made.dtype == np.dtype(wanted)
    assert (made.toarray() == a.dense.double().numpy()).all()


def test_a_stored_zero_counts() -> None:
    a = from_positions(np.array([0, 2, 2]), np.array([0, 3]), torch.zeros(2), (2, 4), Unstructured(0.75))
    assert a.nonzeros == 2 and a.sparsity == 0.75 and structure(a)["empty_rows"] == 0.5


def brute_force(a: Sparse) -> dict[str, float | None]:
    """The same statistics, from the dense mask."""
    mask = torch.zeros(a.shape, dtype=torch.bool)
    mask[torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths), a.columns.long()] = True
    found = mask.numpy()
    m, k = found.shape
    lengths = found.sum(1)
    mean = lengths.mean()
    rows, columns = np.nonzero(found)
    made: dict[str, float | None] = {
        "row_cv": lengths.std() / mean if mean else None,
        "row_max_over_mean": lengths.max() / mean if mean else None,
        "empty_rows": float((lengths == 0).mean()),
        "row_entropy": -sum(one * np.log(one) for one in lengths / lengths.sum() if one) / np.log(m)
        if mean and m > 1
        else None,
        "row_beyond_mean": sum(one - mean for one in lengths if one > mean) / lengths.sum() if mean else None,
        "bandwidth": max((abs(j - i * k / m) for i, j in zip(rows, columns, strict=True)), default=0) / k
        if mean
        else None,
    }
    for size in BLOCKS:
        hit = sum(
            found[top : top + size, left : left + size].any()
            for top in range(0, m, size)
            for left in range(0, k, size)
        )
        made[f"fill_{size}"] = found.sum() / (hit * size**2) if hit else None
    return made


@given(patterns, sides, sides)
@settings(deadline=None)
def test_structure_is_what_brute_force_finds(pattern: Pattern, m: int, k: int) -> None:
    a = drawn(pattern, m, k)
    assert structure(a) == pytest.approx(brute_force(a))


def test_blocks_are_counted_alike_with_and_without_a_bitmap() -> None:
    starts, columns = Unstructured(0.999).positions(300, 400, 0)
    rows = np.repeat(np.arange(300), np.diff(starts))
    far = 2**31 // 16  # so many blocks across that a bitmap would not do
    wide = columns.astype(np.int64) // 16 * 16 * (far // 25)
    assert count_blocks(rows, columns, 16, 400) == count_blocks(rows, wide, 16, far * 16)


def test_a_million_rows_are_described_without_a_dense_matrix() -> None:
    a = drawn(Banded(0.999999), 10**6, 10**6)
    found = structure(a)
    assert a.nonzeros == 10**6 and found["row_cv"] == 0 and found["empty_rows"] == 0
    assert found["fill_16"] == pytest.approx(1 / 16, rel=0.1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("pattern", [Unstructured(0.999), Unstructured(0.5)], ids=str)
def test_the_reference_takes_every_dtype_and_density(dtype: str, pattern: Pattern) -> None:
    made = case("spmm", pattern, dtype, m=70, k=50, n=3)
    a, b = make_operands(made)
    expected = OPS["spmm"].reference(a, b)
    assert expected.dtype == torch.float64
    assert torch.allclose(expected, a.dense.double() @ b.double(), rtol=1e-12, atol=1e-12)
