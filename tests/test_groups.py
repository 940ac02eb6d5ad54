"""Groups: formats that lose nothing, orders that are bijections, and kernels right at every width."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import native
from suite.case import case
from suite.conformance import Trial, cases_for, examine
from suite.cpu.device import Cpu
from suite.formats.groups import (
    count_masks,
    count_stretches,
    count_strip_groups,
    even,
    masks,
    stretches,
    strips,
    unmasks,
    unstretches,
    unstrips,
)
from suite.formats.rearranged import alike, inverse, stacked, with_columns, with_rows
from suite.kernel import kernel
from suite.kernels.spmm import spmm_group_dots as dots
from suite.kernels.spmm import spmm_group_masks as fours
from suite.kernels.spmm import spmm_group_rows as rows
from suite.op import discover_parts, make_operands
from suite.patterns.banded import Banded
from suite.patterns.block import Block
from suite.patterns.planted import Planted
from suite.patterns.unstructured import Unstructured
from suite.sparse import Sparse, from_positions

pytestmark = pytest.mark.paper("sparsebytenn")

discover_parts()

SIZES = st.integers(1, 40)
WIDTHS = [8, 9, 15, 16, 17, 31, 33, 48, 49, 64, 80, 81, 97, 113, 200, 256]

needs_compiler = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))


@pytest.fixture(scope="module")
def device():
    return Cpu()


@st.composite
def matrices(draw):
    """Any mask, with rows that are alike; values of every sign, -0.0 among them."""
    m, k, seed = draw(SIZES), draw(SIZES), draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    mask = rng.random((m, k)) < draw(st.sampled_from((0.0, 0.1, 0.5, 1.0)))
    mask = mask[rng.integers(0, draw(st.integers(1, m)), m)]
    values = torch.from_numpy(rng.standard_normal(mask.sum())).to(
        draw(st.sampled_from((torch.float32, torch.bfloat16)))
    )
    values[::5] = -0.0
    return from_mask(mask, values)


def from_mask(mask: np.ndarray, values: torch.Tensor) -> Sparse:
    at, columns = mask.nonzero()
    starts = np.searchsorted(at, np.arange(len(mask) + 1))
    return from_positions(starts, columns, values, mask.shape, Unstructured(0.5))


def mask_of(a: Sparse) -> np.ndarray:
    mask = np.zeros(a.shape, bool)
    mask[np.repeat(np.arange(a.shape[0]), a.row_lengths.numpy()), a.columns.numpy()] = True
    return mask


def made(pattern, m, k) -> Sparse:
    return make_operands(case("spmm", pattern, m=m, k=k, n=1))[0]


def same(one: Sparse, other: Sparse) -> bool:
    """Bit by bit: -0.0 is not 0.0."""
    return (
        one.shape == other.shape
        and torch.equal(one.starts, other.starts)
        and torch.equal(one.columns, other.columns)
        and one.values.dtype == other.values.dtype
        and one.values.double().numpy().tobytes() == other.values.double().numpy().tobytes()
    )


# Formats.


@settings(deadline=None)
@given(matrices(), st.integers(1, 9), st.integers(1, 50), st.integers(0, 2**16))
def test_strips_lose_nothing_in_any_order(a, height, depth, seed):
    order = np.random.default_rng(seed).permutation(a.shape[0])
    held = strips(a, height, depth, order)
    assert same(unstrips(held, a.pattern), a)
    assert held.value_bytes == len(held.columns) * height * a.dtype.itemsize
    index = 4 * (held.tiles * held.strips + 1 + held.strips * height)
    assert held.metadata_bytes == 2 * len(held.columns) + index


@settings(deadline=None)
@given(matrices(), st.integers(1, 20))
def test_stretches_lose_nothing(a, width):
    held = stretches(a, width)
    assert same(unstretches(held, a.pattern), a)
    assert len(held.columns) == count_stretches(a, width)
    assert held.value_bytes == len(held.columns) * width * a.dtype.itemsize
    assert held.metadata_bytes == 2 * len(held.columns) + 4 * (a.shape[0] + 1)


@settings(deadline=None)
@given(matrices(), st.integers(1, 50))
def test_masks_lose_nothing_and_fill_nothing_in(a, depth):
    held = masks(a, depth)
    assert same(unmasks(held, a.pattern), a)
    assert len(held.columns) == held.counts.long().sum()
    assert held.value_bytes == a.nonzeros * a.dtype.itemsize
    segments = held.tiles * held.strips
    assert held.metadata_bytes == 2 * len(held.columns) + 30 * segments + 8 * (segments + 1)
    assert len(held.columns) == count_masks(a)


def test_columns_are_sorted_by_the_rows_they_meet():
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1]], bool)
    held = masks(from_mask(mask, torch.arange(8.0)), 4)
    assert held.columns.tolist() == [0, 1, 2, 3]
    counts = {at + 1: count for at, count in enumerate(held.counts[0].tolist()) if count}
    assert counts == {0b0001: 1, 0b1000: 1, 0b1011: 2}
    assert held.values.tolist() == [0, 5, 1, 3, 6, 2, 4, 7]


def test_large_matrices_are_grouped_by_sorting_alike(monkeypatch):
    a = made(Block(4, 1, 0.7), 60, 33)

    def arrays() -> list[torch.Tensor]:
        held = strips(a, 4, 16, np.arange(60)), stretches(a, 4), masks(a, 16)
        return [x for one in held for x in vars(one).values() if isinstance(x, torch.Tensor)]

    small = arrays()
    monkeypatch.setattr("suite.formats.groups.BITMAP", 0)
    assert all(torch.equal(one.double(), other.double()) for one, other in zip(small, arrays(), strict=True))


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_each_group_is_all_kept_or_all_dropped(size, sparsity):
    down, along = made(Block(size, 1, sparsity), 64, 48), made(Block(1, size, sparsity), 64, 48)
    assert down.nonzeros == size * count_strip_groups(down, size, np.arange(64))
    assert along.nonzeros == size * count_stretches(along, size)
    assert down.nonzeros == along.nonzeros == round((1 - sparsity) * 64 * 48 / size) * size


@pytest.mark.parametrize(
    ("size", "unit", "given"), [(512, 102, 103), (7, 100, 7), (1000, 250, 250), (10, 4, 5), (1, 1, 1)]
)
def test_a_size_is_covered_in_equal_parts(size, unit, given):
    assert even(size, unit) == given


# Orders.


@settings(deadline=None)
@given(matrices(), st.integers(1, 9))
def test_rows_with_the_same_columns_come_to_stand_together(a, height):
    sets = [tuple(row.nonzero()[0]) for row in mask_of(a)]
    leader = alike(a)
    assert all(leader[row] == sets.index(columns) for row, columns in enumerate(sets))
    order = stacked(leader, height)
    assert sorted(order) == list(range(len(sets)))
    assert np.array_equal(order[inverse(order)], np.arange(len(sets)))
    full = sum(sets.count(columns) // height for columns in set(sets)) * height
    assert all(len({sets[row] for row in order[at : at + height]}) == 1 for at in range(0, full, height))
    assert list(order[full:]) == sorted(order[full:])


def test_rows_whose_sums_collide_are_still_told_apart(monkeypatch):
    class Constant:
        def integers(self, low, high, size, dtype):
            return np.ones(size, dtype)

    a = made(Unstructured(0.5), 30, 9)
    right, mask = alike(a), mask_of(a)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Constant())
    leader = alike(a)
    assert np.array_equal(mask, mask[leader])
    assert (leader >= right).all()


def test_groups_that_were_shuffled_are_found_again():
    a = made(Planted(8, 4, 0.75), 128, 96)
    assert count_strip_groups(a, 8, np.arange(128)) * 8 > 2 * a.nonzeros
    assert count_strip_groups(a, 8, stacked(alike(a), 8)) * 8 == a.nonzeros


def test_rearranged_layers_make_the_same_network():
    """Integers, so that the sums are exact in any order."""
    rng = np.random.default_rng(0)
    first, second = made(Planted(4, 4, 0.5), 48, 32), made(Planted(4, 4, 0.5), 20, 48)
    for layer in (first, second):
        layer.values[:] = torch.from_numpy(rng.integers(-9, 10, layer.nonzeros))
    x = torch.from_numpy(rng.integers(-9, 10, (32, 7))).float()
    expected = second.dense @ (first.dense @ x).relu()
    order = stacked(alike(first), 4)
    before, after = with_rows(first, order), with_columns(second, order)
    assert torch.equal(after.dense @ (before.dense @ x).relu(), expected)
    assert not torch.equal(second.dense @ (before.dense @ x).relu(), expected)
    assert same(with_rows(before, inverse(order)), first)
    assert same(with_columns(after, inverse(order)), second)


# Kernels.


@pytest.mark.parametrize(
    ("pattern", "height", "moved"),
    [
        (Block(16, 1, 0.5), 8, False),
        (Block(8, 1, 0.5), 8, False),
        (Block(4, 1, 0.5), 4, False),
        (Block(2, 2, 0.5), 2, False),
        (Banded(0.5), 8, False),
        (Planted(8, 1, 0.5), 8, True),
    ],
    ids=str,
)
def test_the_height_suits_the_pattern(pattern, height, moved):
    a = made(pattern, 512, 512)
    chosen, order = rows.arranged(a, 8)
    assert (chosen, (order != np.arange(512)).any()) == (height, moved)
    assert rows.arranged(a, 4)[0] == min(4, height)


@pytest.mark.parametrize(
    ("pattern", "width"), [(Block(1, 16, 0.5), 16), (Block(3, 8, 0.5), 8), (Block(1, 4, 0.5), 4)], ids=str
)
def test_the_width_suits_the_pattern(pattern, width):
    assert dots.width_of(made(pattern, 512, 512)) == width


@needs_compiler
@pytest.mark.parametrize(
    ("one", "pattern", "n", "says"),
    [
        (
            rows.spmm_group_rows,
            Unstructured(0.9),
            64,
            "needs rows that share their columns: groups of two would be 53% full",
        ),
        (
            dots.spmm_group_dots,
            Unstructured(0.9),
            1,
            "needs nonzeros side by side: stretches of 4 would be 29% full",
        ),
        (dots.spmm_group_dots, Block(1, 4, 0.9), 9, "needs n of 8 at most, got 9"),
        (
            fours.spmm_group_masks,
            Unstructured(0.99),
            64,
            "needs rows that share columns: four of them would have 99% as many as nonzeros",
        ),
        (fours.spmm_group_masks, Unstructured(0.5), 7, "needs n of 8 at least, got 7"),
    ],
    ids=str,
)
def test_what_does_not_suit_is_refused_with_a_number(one, pattern, n, says, device):
    assert one.refusals(case("spmm", pattern, m=1024, k=1024, n=n), device) == [says]


@needs_compiler
def test_what_only_the_operand_shows_is_refused_too(device):
    planted = Trial(case("spmm", Planted(2, 2, 0.99), m=1024, k=1024, n=8))
    assert examine(rows.spmm_group_rows, planted, device).outcome == "ok"
    for one in (fours.spmm_group_masks, dots.spmm_group_dots):
        verdict = examine(one, planted, device)
        assert verdict.outcome == "refused" and "needs" in verdict.note


@needs_compiler
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, *WIDTHS])
@pytest.mark.parametrize("tiled", [False, True])
def test_groups_of_rows_at_any_width_and_depth(n, tiled, device, monkeypatch):
    if tiled:  # and in many chunks
        monkeypatch.setattr(rows, "depth_of", lambda a, height, width: 7)
        monkeypatch.setattr(rows, "MOST_PARTIAL", 1)
    for pattern in (Block(2, 1, 0.5), Block(4, 1, 0.5), Block(8, 1, 0.5), Planted(4, 3, 0.5)):
        for dtype in ("float32", "bfloat16"):
            one = Trial(case("spmm", pattern, dtype, m=42, k=90, n=n))
            assert examine(rows.spmm_group_rows, one, device).outcome == "ok", one


@needs_compiler
@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("tiled", [False, True])
def test_masks_at_any_width_and_depth(n, tiled, device, monkeypatch):
    if tiled:
        monkeypatch.setattr(fours, "depth_of", lambda a, columns, width: 7)
        monkeypatch.setattr(fours, "MOST_PARTIAL", 1)
    for sparsity in (0.3, 0.7, 0.95):
        for dtype in ("float32", "bfloat16"):
            one = Trial(case("spmm", Unstructured(sparsity), dtype, m=42, k=90, n=n))
            assert examine(fours.spmm_group_masks, one, device).outcome == "ok", one


@needs_compiler
@pytest.mark.parametrize(
    ("m", "k", "n", "where"),
    [
        (16, 64, 784, "in place"),
        (512, 512, 64, "in place"),  # it is a panel already
        (512, 512, 784, "packed"),  # met often
        (16, 1024, 1024, "packed"),  # its rows displace each other
    ],
)
def test_b_is_read_in_place_where_that_is_as_good(m, k, n, where):
    a, b = make_operands(case("spmm", Block(4, 1, 0.5), m=m, k=k, n=n))
    assert rows.spmm_group_rows.prepare(a, b).note["b"] == where


@needs_compiler
@pytest.mark.parametrize(
    "flags", [("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx")], ids=" ".join
)
@pytest.mark.parametrize("one", [rows.spmm_group_rows, fours.spmm_group_masks, dots.spmm_group_dots], ids=str)
def test_groups_are_right_for_lesser_processors(one, flags, device):
    """What another machine would compile; a build for AVX2 on one with AVX-512 is the same code."""
    if device.isa and "avx2" not in device.isa:
        pytest.skip("these are flags for x86 with AVX2")
    module = import_module(one.prepare.__module__)
    library = native.load(Path(module.__file__).with_suffix(".cpp"), *flags)
    assert library.lanes() < 16

    @kernel(op="spmm", dtypes=one.dtypes, refuse=one.refuse, live_order=one.live_order, keep=False)
    def lesser(a, b):
        return module.prepare(a, b, library)

    verdicts = [examine(lesser, trial, device) for trial in cases_for(lesser)]
    bad = [verdict for verdict in verdicts if verdict.outcome in ("wrong", "broken")]
    assert not bad and any(verdict.outcome == "ok" for verdict in verdicts), bad[:3]
