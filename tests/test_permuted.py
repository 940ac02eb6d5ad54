"""Permuted: an order loses nothing, hidden blocks are found again, and there are never more than before."""

import os
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import native, sources
from suite.formats.bsr import bsr, split
from suite.formats.permuted import Order, gathered, groups, inverse, permuted
from suite.op import discover_parts
from suite.pattern import Pattern
from suite.patterns.banded import Banded
from suite.patterns.planted import Planted
from suite.patterns.rmat import Rmat
from suite.patterns.stencil import Stencil
from suite.patterns.unstructured import Unstructured
from suite.sparse import Sparse, from_positions

discover_parts()

pytestmark = [
    pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing())),
    pytest.mark.paper("smat"),
]

SIDES = st.integers(1, 20)
MATRICES = os.environ.get("SPARSEMARK_MATRICES", "")


@st.composite
def matrices(draw):
    """Any mask, with rows that are alike among them; values of every sign, -0.0 too."""
    m, k, seed = draw(st.integers(1, 70)), draw(st.integers(1, 70)), draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    mask = rng.random((m, k)) < draw(st.sampled_from((0.0, 0.1, 0.5, 1.0)))
    rows, columns = mask[rng.integers(0, m, m)].nonzero()
    values = torch.from_numpy(rng.standard_normal(len(rows))).to(
        draw(st.sampled_from((torch.float32, torch.bfloat16)))
    )
    values[::5] = -0.0
    return from_positions(np.searchsorted(rows, np.arange(m + 1)), columns, values, (m, k), Unstructured(0.5))


def drawn(pattern: Pattern, m: int, k: int, seed: int = 0) -> Sparse:
    starts, columns = pattern.positions(m, k, seed)
    return from_positions(starts, columns, torch.randn(len(columns)), (m, k), pattern)


def any_order(m: int, k: int, seed: int) -> Order:
    rng = np.random.default_rng(seed)
    return Order(rng.permutation(m).astype(np.int32), rng.permutation(k).astype(np.int32), 0, 0)


def same(one: Sparse, other: Sparse) -> bool:
    """Bit by bit: -0.0 is not 0.0."""
    return (
        one.shape == other.shape
        and torch.equal(one.starts, other.starts)
        and torch.equal(one.columns, other.columns)
        and one.values.double().numpy().tobytes() == other.values.double().numpy().tobytes()
    )


@settings(deadline=None)
@given(matrices(), st.integers(0, 99))
def test_any_order_moves_rows_and_columns_and_its_inverse_moves_them_back(a, seed):
    order = any_order(*a.shape, seed)
    made = permuted(a, order)
    assert torch.equal(made.dense, a.dense[order.rows][:, order.columns])
    assert same(permuted(made, inverse(order)), a)


@settings(deadline=None)
@given(matrices(), SIDES, SIDES, st.integers(0, 99))
def test_an_order_is_a_bijection_and_never_makes_more_blocks(a, height, width, seed):
    order = gathered(a, height, width, seed)
    m, k = a.shape
    assert np.array_equal(np.sort(order.rows), np.arange(m))
    assert np.array_equal(np.sort(order.columns), np.arange(k))
    assert order.before == len(bsr(a, height, width).columns)
    assert order.blocks == len(bsr(permuted(a, order), height, width).columns)
    assert order.blocks <= order.before


@settings(deadline=None)
@given(matrices(), SIDES, SIDES, st.integers(1, 30))
def test_split_keeps_every_nonzero_once_and_whole_blocks_together(a, height, width, least):
    full, rest = split(a, height, width, least)
    assert full.nonzeros + rest.nonzeros == a.nonzeros
    mask = np.zeros(a.shape, int)
    for part in (full, rest):
        rows = np.repeat(np.arange(a.shape[0]), part.row_lengths.numpy())
        mask[rows, part.columns.numpy()] += 1
    assert mask.max(initial=0) <= 1
    assert torch.equal(full.dense + rest.dense, a.dense)
    counts = [
        (np.unique(blocks_of(part, height, width), return_counts=True)[1]).tolist() for part in (full, rest)
    ]
    assert min(counts[0], default=least) >= least > max(counts[1], default=0)


def blocks_of(a: Sparse, height: int, width: int) -> np.ndarray:
    rows = np.repeat(np.arange(a.shape[0]), a.row_lengths.numpy())
    return rows // height * a.shape[1] + a.columns.numpy() // width


@pytest.mark.parametrize(
    ("planted", "m", "k", "height", "width"),
    [
        (Planted(16, 16, 0.9), 1000, 1000, 16, 16),
        (Planted(16, 16, 0.97), 1003, 2021, 16, 16),  # blocks at the edges hold less
        (Planted(32, 32, 0.9), 2048, 1024, 16, 16),
        (Planted(24, 8, 0.95), 2400, 800, 8, 8),
        (Planted(16, 32, 0.99), 2**14, 2**13, 16, 32),
        (Planted(16, 16, 0.99984), 10**5, 10**5, 16, 16),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_blocks_are_found_again(planted, m, k, height, width, seed):
    a = drawn(planted, m, k, seed)
    order = gathered(a, height, width)
    hidden = planted.blocks(m, k) * (planted.rows // height) * (planted.columns // width)
    assert order.blocks <= 1.02 * hidden
    assert order.before > 2 * hidden


def test_planted_blocks_are_found_among_strays():
    """One nonzero in ten stands anywhere: it makes a block of its own, and the others must not suffer."""
    m, planted = 4096, Planted(16, 16, 0.99)
    a, rng = drawn(planted, m, m), np.random.default_rng(0)
    rows = np.repeat(np.arange(m), a.row_lengths.numpy())
    kept = rng.random(a.nonzeros) > 0.1
    strays = rng.integers(0, m * m, a.nonzeros // 10)
    flat = np.unique(np.concatenate(((rows * m + a.columns.numpy())[kept], strays)))
    mixed = from_positions(
        np.searchsorted(flat, np.arange(m + 1) * m), flat % m, torch.ones(len(flat)), (m, m), planted
    )
    full, _ = split(permuted(mixed, gathered(mixed, 16, 16)), 16, 16, 128)
    assert full.nonzeros > 0.9 * kept.sum()
    assert len(bsr(full, 16, 16).columns) <= 1.02 * planted.blocks(m, m)


@pytest.mark.parametrize("pattern", [Banded(0.98), Stencil(9), Rmat(0.99), Unstructured(0.99)], ids=str)
def test_an_order_depends_on_the_seed_and_not_on_the_threads(pattern):
    a = drawn(pattern, 3000, 3000)
    threads = torch.get_num_threads()
    orders = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            orders.append(gathered(a, 16, 16))
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(orders[0].rows, orders[1].rows)
    assert np.array_equal(orders[0].columns, orders[1].columns)


@pytest.mark.parametrize("pattern", [Banded(0.99), Stencil(9), Rmat(0.999)], ids=str)
def test_a_shuffled_matrix_gathers_in_fewer_blocks(pattern):
    """The control: an order at random is far worse than what is found from there."""
    a = permuted(drawn(pattern, 4096, 4096), any_order(4096, 4096, 1))
    order = gathered(a, 16, 16)
    assert order.blocks < 0.8 * order.before


@pytest.mark.parametrize("density", [0.0005, 0.002, 0.01])
def test_the_share_of_blocks_in_a_random_matrix_is_that_of_the_law(density):
    m, side = 2048, 16
    a = drawn(Unstructured(1 - density), m, m)
    blocks = (m // side) ** 2
    share = 1 - (1 - density) ** (side * side)
    error = sqrt(share * (1 - share) / blocks)
    assert len(bsr(a, side, side).columns) / blocks == pytest.approx(share, abs=4 * error)


def test_groups_name_places_in_an_order():
    assert groups(np.array([2, 0, 1], np.int32), 2).tolist() == [0, 1, 0]


def test_nothing_is_asked_of_an_empty_matrix():
    a = replace(drawn(Unstructured(1.0), 5, 7), shape=(5, 7))
    order = gathered(a, 16, 16)
    assert (order.blocks, order.before) == (0, 0)
    assert same(permuted(a, order), a)


@pytest.mark.skipif(not MATRICES, reason="SPARSEMARK_MATRICES names no folder of Matrix Market files")
@pytest.mark.parametrize(
    "file", sorted(Path(MATRICES).glob("*.mtx")) if MATRICES else (), ids=lambda x: x.stem
)
@pytest.mark.parametrize("shape", [(16, 16), (8, 8), (16, 32)], ids=str)
def test_real_matrices_never_get_worse(file, shape):
    a = sources.load(sources.add(str(file)), torch.float32, 0)
    order = gathered(a, *shape)
    assert order.blocks == len(bsr(permuted(a, order), *shape).columns) <= order.before
