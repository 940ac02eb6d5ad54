"""Patterns: exact counts, legal positions, the same for the same seed, and never a dense mask."""

import re
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.op import discover_parts
from suite.pattern import PATTERNS, Pattern, _grammar, parse, rounded
from suite.patterns.banded import Banded
from suite.patterns.block import Block
from suite.patterns.butterfly import Butterfly
from suite.patterns.chosen import Chosen
from suite.patterns.documents import Documents
from suite.patterns.fan_in import FanIn
from suite.patterns.given import Given
from suite.patterns.grouped_n_of_m import GroupedNofM
from suite.patterns.hot import Hot
from suite.patterns.monarch import Monarch
from suite.patterns.n_of_m import NofM
from suite.patterns.patch import Patch
from suite.patterns.planted import Planted
from suite.patterns.positions import choose, pick
from suite.patterns.prefix import Prefix
from suite.patterns.rmat import Rmat
from suite.patterns.routers import ExpertChoice, Hashed, Prototypes, Relu, TopP
from suite.patterns.routes import Bursts, Crowded, Dirichlet, Idle, Zipf
from suite.patterns.stencil import Stencil
from suite.patterns.unstructured import Unstructured
from suite.patterns.v_n_of_m import VNofM
from suite.registry import Unusable

discover_parts()

sides = st.integers(1, 90)
seeds = st.integers(0, 2**40)
sparsities = st.one_of(st.sampled_from((0.0, 0.5, 0.9, 1.0)), st.floats(0, 1, allow_subnormal=False))
blocks = st.integers(1, 20)
n_of_m = st.integers(2, 40).flatmap(lambda m: st.builds(NofM, st.integers(1, m - 1), st.just(m)))
v_n_of_m = st.integers(1, 40).flatmap(
    lambda m: st.builds(VNofM, st.integers(1, 40), st.integers(1, min(4, m)), st.just(m))
)
grouped = st.integers(2, 8).flatmap(
    lambda m: st.builds(GroupedNofM, st.integers(1, m - 1), st.just(m), st.integers(1, 5))
)
KINDS = {
    Unstructured: st.builds(Unstructured, sparsities),
    FanIn: st.builds(FanIn, sparsities),
    Banded: st.builds(Banded, sparsities),
    Rmat: st.builds(Rmat, sparsities),
    Hot: st.builds(Hot, sparsities),
    Chosen: st.builds(Chosen, sparsities),
    NofM: n_of_m,
    VNofM: v_n_of_m,
    GroupedNofM: grouped,
    Block: st.builds(Block, blocks, blocks, sparsities),
    Planted: st.builds(Planted, blocks, blocks, sparsities),
    Patch: st.builds(Patch, blocks, st.sampled_from((4, 8, 20)), sparsities),
    Butterfly: st.builds(Butterfly, blocks),
    Monarch: st.builds(Monarch, st.integers(2, 6), st.integers(2, 6)),
    Stencil: st.builds(Stencil, st.sampled_from((5, 7, 9, 27))),
    Prefix: st.builds(Prefix, blocks, blocks, blocks),
    Documents: st.builds(Documents, blocks, st.integers(0, 20)),
    Zipf: st.builds(Zipf, st.floats(0, 9, allow_subnormal=False), sparsities),
    Dirichlet: st.builds(Dirichlet, st.floats(0.01, 9), sparsities),
    Crowded: st.builds(Crowded, sparsities),
    Idle: st.builds(Idle, sparsities),
    Bursts: st.builds(Bursts, blocks, sparsities),
    Relu: st.builds(Relu, sparsities),
    TopP: st.builds(TopP, st.floats(0, 0.5, allow_subnormal=False)),
    ExpertChoice: st.builds(ExpertChoice, sparsities),
    Prototypes: st.builds(Prototypes, st.sampled_from((0.0, 0.5, 0.75, 0.875, 1.0))),
    Hashed: st.builds(Hashed, sparsities),
}
patterns = st.one_of(*KINDS.values())

FIXED = (Banded, Butterfly, Monarch, Stencil, Prefix, Documents)  # nothing in them is random


def fitting(pattern: Pattern, m: int, k: int) -> tuple[int, int]:
    """Rows and columns that the pattern can have, near to these."""
    if isinstance(pattern, GroupedNofM):
        return m, k * pattern.m
    if isinstance(pattern, Monarch):
        k = max(1, k // 10) * pattern.blocks * pattern.groups
        return k + max(1, m // 10) * pattern.groups, k
    if isinstance(pattern, TopP | Prototypes):
        m = 8 * -(-m // 8)
    return (m, m) if isinstance(pattern, Stencil) else (m, k)


def mask(pattern: Pattern, m: int, k: int, seed: int = 0) -> np.ndarray:
    """Brute force: a dense mask, after the checks every pattern must pass."""
    starts, columns = pattern.positions(m, k, seed)
    assert (starts.dtype, columns.dtype) == (np.int64, np.int32)
    assert len(starts) == m + 1 and starts[0] == 0 and starts[-1] == len(columns) == pattern.count(m, k)
    made = np.zeros((m, k), bool)
    for row, (first, last) in enumerate(pairwise(starts)):
        assert first <= last
        of_row = columns[first:last]
        assert (np.diff(of_row) > 0).all()
        assert not len(of_row) or (of_row[0] >= 0 and of_row[-1] < k)
        made[row, of_row] = True
    return made


def test_every_pattern_is_tried_here() -> None:
    assert {cls for cls in PATTERNS.values() if cls.__module__.startswith("suite.")} == {*KINDS, Given}


@given(patterns, sides, sides, seeds)
@settings(max_examples=400, deadline=None)
def test_counts_are_exact_and_rows_are_in_order(pattern: Pattern, m: int, k: int, seed: int) -> None:
    m, k = fitting(pattern, m, k)
    assert pattern.faults(m, k) == []
    found = mask(pattern, m, k, seed)
    assert found.sum() == pattern.count(m, k)
    assert pattern.sparsity_of(m, k) == pytest.approx(1 - found.mean())
    assert (mask(pattern, m, k, seed) == found).all()


@pytest.mark.parametrize("cls", [cls for cls in KINDS if cls not in FIXED])
def test_another_seed_is_another_mask(cls: type) -> None:
    parameters = {NofM: (2, 4), VNofM: (16, 2, 8), GroupedNofM: (2, 4, 8)}
    parameters |= {Block: (4, 8, 0.5), Planted: (4, 8, 0.5), Patch: (4, 8, 0.5)}
    parameters |= {Zipf: (1.0, 0.5), Dirichlet: (0.5, 0.5), Bursts: (4, 0.5)}
    pattern = cls(*parameters.get(cls, (0.5,)))
    assert len({mask(pattern, 64, 64, seed).tobytes() for seed in range(8)}) == 8


@given(patterns)
@settings(max_examples=400)
def test_a_pattern_prints_and_parses_back(pattern: Pattern) -> None:
    assert parse(str(pattern)) == pattern
    assert str(parse(str(pattern))) == str(pattern)
    assert re.fullmatch(r"[^/,=\s]+", str(pattern)), "it is part of a case's id"
    assert sum(bool(_grammar(cls).fullmatch(str(pattern))) for cls in PATTERNS.values()) == 1


def test_large_numbers_are_spelled_out() -> None:
    assert str(NofM(1, 1234567)) == "1:1234567"
    assert parse("1:1234567") == NofM(1, 1234567)


@pytest.mark.parametrize(
    "text", ["", "2:4:8:16", "unstructured", "unstructured@", "unstructured@-1", "block16@0.5"]
)
def test_no_such_pattern(text: str) -> None:
    with pytest.raises(Unusable, match="Patterns are spelled: "):
        parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("unstructured@1.5", "sparsity 1.5 is not between 0 and 1"),
        ("fanin@2", "sparsity 2 is not between 0 and 1"),
        ("banded@2", "sparsity 2 is not between 0 and 1"),
        ("rmat@2", "sparsity 2 is not between 0 and 1"),
        ("4:4", "4:4 keeps 4 of 4; N:M needs 0 < N < M"),
        ("0:4", "0:4 keeps 0 of 4; N:M needs 0 < N < M"),
        ("0:2:8", "0:2:8 shares columns among 0 rows; V is at least 1"),
        ("64:5:8", "64:5:8 keeps 5 of 4 columns; V:N:M needs 0 < N <= 4"),
        ("block0x4@0.5", "block0x4@0.5 has blocks of 0 x 4; sides are at least 1"),
        ("planted4x0@0.5", "planted4x0@0.5 has blocks of 4 x 0; sides are at least 1"),
        ("butterfly0", "butterfly0 has blocks of 0 x 0; the side is at least 1"),
        ("patch16x6@0.5", "patch16x6@0.5 has tiles of 6 columns; 2:4 needs a multiple of 4"),
        ("patch16x8@2", "a share of 2 is not between 0 and 1"),
        ("monarch1x8", "monarch1x8 has 1 blocks and 8 groups; there are at least 2 of each"),
        ("monarch8x8", "monarch8x8 deals outputs to 8 groups, got 0"),
        ("stencil6", "stencil6 is not known; there are stencils of 5, 7, 9 and 27 points"),
        ("given", "the pattern `given` is a file's own; name the file with --matrix FILE"),
    ],
)
def test_faults_say_what_is_wrong(text: str, says: str) -> None:
    assert parse(text).faults(64, 64) == [says]


def test_a_stencil_is_square() -> None:
    assert Stencil(5).faults(64, 63) == [
        "stencil5 couples a grid's points with one another: m = k, not 64 and 63"
    ]


def test_given_has_no_positions_of_its_own() -> None:
    for ask in (
        lambda: Given().count(4, 4),
        lambda: Given().positions(4, 4, 0),
        lambda: Given().sparsity_of(4, 4),
    ):
        with pytest.raises(Unusable, match="name the file with --matrix FILE"):
            ask()


@given(n_of_m, sides, sides, seeds)
@settings(deadline=None)
def test_every_group_keeps_n_of_m(pattern: NofM, m: int, k: int, seed: int) -> None:
    found = mask(pattern, m, k, seed)
    for first in range(0, k, pattern.m):
        group = found[:, first : first + pattern.m]
        assert (group.sum(1) == min(pattern.n, group.shape[1])).all()


@given(grouped, sides, st.integers(1, 9), seeds)
@settings(deadline=None)
def test_every_placement_is_used_equally_often(pattern: GroupedNofM, m: int, groups: int, seed: int) -> None:
    """By G rows in a whole chunk, in a shorter one by equally many, give or take one."""
    found = mask(pattern, m, groups * pattern.m, seed).reshape(m, groups, pattern.m)
    assert (found.sum(2) == pattern.n).all()
    used = found @ (1 << np.arange(pattern.m))
    for first in range(0, m, pattern.rows):
        for chunk in used[first : first + pattern.rows].T:
            _, times = np.unique(chunk, return_counts=True)
            whole = len(chunk) == pattern.rows
            assert set(times) == {pattern.g} if whole else times.max() - times.min() <= 1


@given(v_n_of_m, sides, sides, seeds)
@settings(deadline=None)
def test_v_rows_share_four_columns(pattern: VNofM, m: int, k: int, seed: int) -> None:
    found = mask(pattern, m, k, seed)
    for left in range(0, k, pattern.m):
        group = found[:, left : left + pattern.m]
        assert (group.sum(1) == min(pattern.n, group.shape[1])).all()
        for top in range(0, m, pattern.v):
            assert group[top : top + pattern.v].any(0).sum() <= 4


def test_all_four_columns_of_a_band_are_used() -> None:
    found = mask(VNofM(64, 2, 16), 64, 64)
    assert (found.reshape(64, 4, 16).any(0).sum(1) == 4).all()


@given(KINDS[Block], sides, sides, seeds)
@settings(deadline=None)
def test_blocks_are_whole(pattern: Block, m: int, k: int, seed: int) -> None:
    found = mask(pattern, m, k, seed)
    kept = 0
    for top in range(0, m, pattern.rows):
        for left in range(0, k, pattern.columns):
            of_block = found[top : top + pattern.rows, left : left + pattern.columns]
            assert of_block.all() or not of_block.any()
            kept += bool(of_block.any())
    every = -(-m // pattern.rows) * -(-k // pattern.columns)
    assert kept == pattern.blocks(m, k) == rounded(pattern.sparsity, every)


@given(KINDS[Planted], sides, sides, seeds)
@settings(deadline=None)
def test_planted_blocks_can_be_dug_up(pattern: Planted, m: int, k: int, seed: int) -> None:
    rows, columns = pattern.orders(m, k, seed)
    ordered = np.empty((m, k), bool)
    ordered[np.ix_(rows, columns)] = mask(pattern, m, k, seed)
    assert (ordered == mask(pattern.ordered, m, k, seed)).all()
    assert pattern.blocks(m, k) == pattern.ordered.blocks(m, k)


def test_planted_blocks_are_well_hidden() -> None:
    pattern = Planted(16, 16, 0.9)
    found = mask(pattern, 512, 512).reshape(32, 16, 32, 16).any((1, 3))
    assert pattern.blocks(512, 512) == rounded(0.9, 32 * 32)
    assert found.sum() > 5 * pattern.blocks(512, 512)


@given(KINDS[FanIn], sides, sides, seeds)
@settings(deadline=None)
def test_fan_in_is_constant(pattern: FanIn, m: int, k: int, seed: int) -> None:
    assert set(mask(pattern, m, k, seed).sum(1)) == {rounded(pattern.sparsity, k)}


@given(KINDS[Banded], sides, sides)
@settings(deadline=None)
def test_a_band_has_no_holes_and_follows_the_diagonal(pattern: Banded, m: int, k: int) -> None:
    found = mask(pattern, m, k)
    lengths = found.sum(1)
    assert lengths.max() - lengths.min() <= 1
    for row in np.flatnonzero(lengths):
        at = np.flatnonzero(found[row])
        assert at[-1] - at[0] + 1 == lengths[row]
        off = (at[0] + at[-1] + 1) / 2 - (row + 0.5) * k / m
        assert abs(off) <= 1 or at[0] == 0 or at[-1] == k - 1


@pytest.mark.parametrize("blocks", [1, 2, 8, 32])
def test_a_butterfly_connects_every_block(blocks: int) -> None:
    pattern = Butterfly(4)
    side = 4 * blocks
    found = mask(pattern, side, side)
    hops = blocks.bit_length() - 1
    assert pattern.sparsity_of(side, side) == pytest.approx(1 - (1 + hops) / blocks)
    near = found.reshape(blocks, 4, blocks, 4).any((1, 3)).astype(int)
    assert (near == near.T).all()
    reached = np.linalg.matrix_power(near, max(1, hops)) > 0
    assert reached.all()
    if hops > 1:
        assert not (np.linalg.matrix_power(near, hops - 1) > 0).all()


@given(KINDS[Butterfly], sides, sides)
@settings(deadline=None)
def test_a_butterfly_of_any_shape_leaves_no_row_or_column_empty(pattern: Butterfly, m: int, k: int) -> None:
    found = mask(pattern, m, k)
    assert found.any(0).all() and found.any(1).all()
    assert (mask(pattern, k, m) == found.T).all()


@pytest.mark.parametrize(("points", "dimensions"), [(5, 2), (9, 2), (7, 3), (27, 3)])
@pytest.mark.parametrize("m", [1, 2, 7, 8, 9, 27, 50, 64, 100])
def test_a_stencil_couples_neighbours_on_a_grid(points: int, dimensions: int, m: int) -> None:
    found = mask(Stencil(points), m, m)
    side = next(side for side in range(1, m + 1) if side**dimensions >= m)
    at = np.stack(np.unravel_index(np.arange(m), (side,) * dimensions), axis=1)
    apart = np.abs(at[:, None] - at[None])
    near = apart.max(2) <= 1 if points in (9, 27) else apart.sum(2) <= 1
    assert (found == near).all()


def test_a_power_law_is_one() -> None:
    heavy = np.sort(mask(Rmat(0.99), 1000, 700).sum(1))[::-1]
    even = np.sort(mask(Unstructured(0.99), 1000, 700).sum(1))[::-1]
    assert heavy[:100].sum() > 2.5 * even[:100].sum()


def test_both_ways_to_draw_a_power_law_agree() -> None:
    """Tossing for each position gives the rows the lengths that drawing gives them."""
    from suite.patterns import rmat

    m, k, count = 96, 200, 1500
    drawn, tossed = np.zeros(m), np.zeros(m)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        drawn += np.bincount(rmat.draw(count, m, k, rng) // k, minlength=m)
        tossed += np.bincount(rmat.toss(count, m, k, rmat.draws_needed(count, m, k), rng) // k, minlength=m)
    assert drawn.sum() == tossed.sum()
    assert np.abs(drawn - tossed).max() < 6 * np.sqrt(2 * drawn.max())


@given(st.integers(1, 3000), st.data(), seeds)
@settings(deadline=None)
def test_choosing_is_exact(among: int, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(0, among))
    chosen = choose(among, count, np.random.default_rng(seed))
    assert len(chosen) == count and (np.diff(chosen) > 0).all()
    assert not count or (chosen[0] >= 0 and chosen[-1] < among)


@given(st.integers(0, 30), st.integers(1, 200), st.data(), seeds)
@settings(deadline=None)
def test_picking_is_exact(groups: int, of: int, data: st.DataObject, seed: int) -> None:
    keep = data.draw(st.integers(0, of))
    picked = pick(groups, keep, of, np.random.default_rng(seed))
    assert picked.shape == (groups, keep) and (np.diff(picked, axis=1) > 0).all()
    assert not picked.size or (picked.min() >= 0 and picked.max() < of)


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (8, 70), (30, 70)])  # a table, few of many, by rank
def test_picking_favours_nothing(keep: int, of: int) -> None:
    times = np.bincount(pick(20000, keep, of, np.random.default_rng(0)).reshape(-1), minlength=of)
    expected = 20000 * keep / of
    assert np.abs(times - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize(
    "pattern",
    [
        Unstructured(0.999999),
        FanIn(0.999999),
        Banded(0.999999),
        Rmat(0.999999),
        Block(16, 16, 0.999999),
        Planted(16, 16, 0.999999),
        Stencil(5),
    ],
    ids=str,
)
def test_a_million_rows_need_no_dense_matrix(pattern: Pattern) -> None:
    side = 10**6
    tracemalloc.start()
    starts, columns = pattern.positions(side, side, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(columns) == starts[-1] == pattern.count(side, side)
    assert peak < 500e6  # a bit for each position would be 125e9
