"""Formats: nothing is lost on the way there and back, and their bytes are counted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.case import case
from suite.formats import dense
from suite.formats.bsr import bsr, unbsr, unfit, units
from suite.formats.tiled import tiled, untiled
from suite.kernel import Refused
from suite.patterns.block import Block
from suite.patterns.unstructured import Unstructured
from suite.sparse import Sparse, from_positions

pytestmark = pytest.mark.paper("sten")

SIZES = st.integers(1, 40)
SIDES = st.integers(1, 20)


@st.composite
def matrices(draw):
    """Any mask; values of every sign, -0.0 among them."""
    m, k, seed = draw(SIZES), draw(SIZES), draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    rows, columns = (rng.random((m, k)) < draw(st.sampled_from((0.0, 0.1, 0.5, 1.0)))).nonzero()
    values = torch.from_numpy(rng.standard_normal(len(rows))).to(
        draw(st.sampled_from((torch.float32, torch.bfloat16)))
    )
    values[::5] = -0.0
    return from_positions(np.searchsorted(rows, np.arange(m + 1)), columns, values, (m, k), Unstructured(0.5))


def same(one: Sparse, other: Sparse) -> bool:
    """Bit by bit: -0.0 is not 0.0."""
    values = one.values.dtype == other.values.dtype and one.values.double().numpy().tobytes()
    return (
        one.shape == other.shape
        and torch.equal(one.starts, other.starts)
        and torch.equal(one.columns, other.columns)
        and values == other.values.double().numpy().tobytes()
    )


@settings(deadline=None)
@given(matrices(), st.integers(1, 50), st.integers(1, 9), st.integers(1, 9), st.integers(1, 50))
def test_tiles_lose_nothing(a, depth, chunks, most, longest):
    made = tiled(a, depth, chunks, most, longest)
    assert same(untiled(made, a.pattern), a)
    assert made.value_bytes == a.values.nbytes
    index = 8 * (2 * (made.chunks + 1) + made.chunks * made.tiles + 1) + 12 * len(made.spilled)
    each = 2 * a.nonzeros + 4 * len(made.segments) + 4 * len(made.target)
    assert made.metadata_bytes == index + each
    pieces = made.edges.diff()
    assert int(pieces.max()) <= most and len(made.target) == int(made.edges[-1])
    lengths = made.segments[:, 1].long()
    assert int(lengths.max()) <= longest and int(lengths.sum()) == a.nonzeros


def test_segments_come_longest_first_and_begin_before_they_end():
    a = from_positions(
        np.array([0, 1, 4, 4, 6]), np.array([0, 0, 1, 9, 2, 3]), torch.arange(6.0), (4, 10), Unstructured(0.5)
    )
    made = tiled(a, 8)
    pieces, lengths = made.segments.long().T
    begins, ends, piece = pieces >> 15, pieces >> 14 & 1, pieces & (2**14 - 1)
    assert piece.tolist() == [1, 3, 0, 2, 1]
    assert begins.tolist() == [1, 1, 1, 1, 0]
    assert ends.tolist() == [0, 1, 1, 1, 1]
    assert lengths.tolist() == [2, 2, 1, 0, 1]


def test_a_row_longer_than_a_segment_counts_goes_on_in_another():
    k = 150_000
    a = from_positions(np.array([0, k]), np.arange(k), torch.rand(k), (1, k), Unstructured(0.0))
    made = tiled(a, k)
    assert made.segments[:, 1].tolist() == [65535, 65535, k - 2 * 65535]
    assert same(untiled(made, a.pattern), a)


def test_columns_of_a_deep_tile_take_four_bytes():
    a = from_positions(np.array([0, 2]), np.array([3, 70_000]), torch.ones(2), (1, 70_001), Unstructured(0.5))
    assert tiled(a, 70_001).columns.dtype == torch.int32
    assert tiled(a, 2**16).columns.dtype == torch.uint16
    assert same(untiled(tiled(a, 70_001), a.pattern), a)


@settings(deadline=None)
@given(matrices(), SIDES, SIDES)
def test_blocks_lose_nothing(a, height, width):
    made = bsr(a, height, width)
    assert same(unbsr(made, a.pattern), a)
    assert made.value_bytes == len(made.columns) * height * width * a.dtype.itemsize
    assert made.metadata_bytes == 4 * (len(made.starts) + len(made.columns))
    assert all(size % unit == 0 for size, unit in zip(made.padded, (height, width), strict=True))


def test_a_dense_form_over_the_limit_is_refused_with_both_sizes():
    large = case("spmm", Unstructured(0.9), m=2**15, k=2**14, n=1)
    assert dense.too_large(large) == ["needs the dense form, which takes 2 GiB; the limit is 1 GiB"]
    assert not dense.too_large(case("spmm", Unstructured(0.9), "bfloat16", m=2**15, k=2**14, n=1))


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [(Unstructured(0.9), True), (Unstructured(0.9999), False), (Block(16, 16, 0.9), False)],
    ids=str,
)
def test_blocks_are_refused_by_what_they_may_fill(pattern, refused):
    reasons = unfit(case("spmm", pattern, m=2**15, k=2**14, n=1))
    assert bool(reasons) == refused
    assert all("blocks of 16x16" in one for one in reasons)


@pytest.mark.parametrize(
    ("pattern", "square", "says"),
    [
        (Block(1, 16, 0.9), False, ""),
        (Block(1, 16, 0.9), True, "blocks of 16x16 would be 12% full: block1x16@0.9 leaves 19% of them out"),
        (Block(1, 16, 0.99), True, ""),
        (Block(32, 16, 0.5), True, ""),  # half of the blocks, full
        (Block(4, 4, 0.9), True, ""),  # its own
    ],
    ids=str,
)
def test_blocks_not_the_patterns_own_are_judged_by_what_they_fill(pattern, square, says):
    one = case("spmm", pattern, m=2**12, k=2**11, n=1)
    assert "; ".join(unfit(one, square=square)) == says


@pytest.mark.parametrize("pattern", [Block(1, 16, 0.9), Block(32, 8, 0.5), Block(3, 20, 0.9)], ids=str)
def test_the_block_law_says_how_many_blocks_there_are(pattern):
    m, k = 960, 960
    a = from_positions(*pattern.positions(m, k, 0), torch.ones(pattern.count(m, k)), (m, k), pattern)
    share = len(bsr(a, 16, 16).columns) / (m * k / 256)
    assert 1 - (1 - a.nonzeros / (m * k)) ** units(pattern, 16, 16) == pytest.approx(share, abs=0.05)


def test_blocks_of_a_file_are_refused_by_what_they_do_fill():
    rows = np.arange(2**12)
    a = from_positions(
        np.arange(2**12 + 1), rows * 2**10, torch.ones(2**12), (2**12, 2**22), Unstructured(0.5)
    )
    with pytest.raises(Refused, match=r"blocks of 512x512, which take 4 GiB; the limit is 1 GiB"):
        bsr(a, 512, 512)
