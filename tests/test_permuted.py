"""Permuted: a bijection that loses nothing, never makes more blocks, and finds those that were hidden."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import native
from suite.case import case
from suite.conformance import Trial, posed
from suite.formats.bsr import bsr
from suite.formats.permuted import Order, gathered, inverse, permuted
from suite.kernel import KERNELS
from suite.op import discover_parts, weight
from suite.patterns.planted import Planted
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.sparse import Sparse, from_positions

pytestmark = [
    pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing())),
    pytest.mark.paper("smat"),
]

discover_parts()
discover(folders=("kernels",))


@st.composite
def matrices(draw):
    """Any mask."""
    m, k, seed = draw(st.integers(1, 60)), draw(st.integers(1, 60)), draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    rows, columns = (rng.random((m, k)) < draw(st.sampled_from((0.0, 0.05, 0.3, 1.0)))).nonzero()
    values = torch.from_numpy(rng.standard_normal(len(rows))).float()
    return from_positions(np.searchsorted(rows, np.arange(m + 1)), columns, values, (m, k), Unstructured(0.5))


def same(one: Sparse, other: Sparse) -> bool:
    arrays = ("starts", "columns", "values")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in arrays)


def planted(m: int, k: int, sparsity: float) -> Sparse:
    return weight(case("spmm", Planted(16, 16, sparsity), m=m, k=k, n=1))


def blocks(a: Sparse, order: Order) -> int:
    return len(bsr(permuted(a, order), 16, 16).columns)


@settings(deadline=None)
@given(matrices(), st.integers(0, 9))
def test_an_order_is_a_bijection_and_is_undone(a, seed):
    order = gathered(a, 8, 4, seed)
    for side, size in ((order.rows, a.shape[0]), (order.columns, a.shape[1])):
        assert sorted(side.tolist()) == list(range(size))
    made = permuted(a, order)
    assert torch.equal(made.dense, a.dense[torch.from_numpy(order.rows).long()][:, order.columns])
    assert same(permuted(made, inverse(order)), a)


@settings(deadline=None)
@given(matrices(), st.sampled_from([(16, 16), (8, 4), (1, 8)]))
def test_there_are_never_more_blocks_than_before(a, shape):
    order = gathered(a, *shape)
    assert order.before == len(bsr(a, *shape).columns)
    assert order.blocks == len(bsr(permuted(a, order), *shape).columns) <= order.before


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**16), st.sampled_from([0.8, 0.95]))
def test_hidden_blocks_are_found(seed, sparsity):
    a = planted(640, 480, sparsity)
    hidden = a.nonzeros / 256
    rng = np.random.default_rng(seed)
    shuffled = permuted(a, Order(*(rng.permutation(size).astype(np.int32) for size in a.shape), 0, 0))
    order = gathered(shuffled, 16, 16)
    assert order.blocks <= 1.02 * hidden
    assert blocks(shuffled, order) == order.blocks


def test_an_order_is_the_same_every_time():
    a = planted(640, 480, 0.9)
    one, other = gathered(a, 16, 16), gathered(a, 16, 16)
    assert (one.rows == other.rows).all() and (one.columns == other.columns).all()


def test_random_blocks_follow_the_block_law():
    """Of uniformly random positions, a block of 256 is empty with chance s^256."""
    m, sparsity = 1600, 0.995
    a = weight(case("spmm", Unstructured(sparsity), m=m, k=m, n=1))
    number, filled = (m / 16) ** 2, 1 - sparsity**256
    spread = (filled * (1 - filled) / number) ** 0.5
    assert len(bsr(a, 16, 16).columns) / number == pytest.approx(filled, abs=4 * spread)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_smat_executes_is_counted(dtype):
    """Whole blocks, and nonzeros that stand alone: no less than is useful, and exactly as stated."""
    of = posed(Trial(case("spmm", Planted(16, 16, 0.9), dtype, m=320, k=320, n=64)))
    a, b = of.operands
    made = KERNELS["spmm_smat"].prepare(a, b)
    kept = int(made.note["kept"])
    alone = round(float(made.note["left"].rstrip("%")) / 100 * a.nonzeros)
    assert made.note["left"] == "0%" and alone == 0
    assert made.executed == 2 * kept * 256 * 64 >= 2 * a.nonzeros * 64
