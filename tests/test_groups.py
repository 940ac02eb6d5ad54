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
from suite.formats.groups import count_stretches, count_strip_groups, stretches, strips, unstretches, unstrips
from suite.formats.rearranged import alike, inverse, stacked, with_columns, with_rows
from suite.kernel import kernel
from suite.kernels.spmm import spmm_group_dots as dots
from suite.kernels.spmm import spmm_group_rows as rows
from suite.op import discover_parts, make_operands
from suite.patterns.banded import Banded
from suite.patterns.block import Block
from suite.patterns.planted import Planted
from suite.patterns.unstructured import Unstructured
from suite.sparse import Sparse, from_positions

discover_parts()

SIZES = st.integers(1, 40)

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
    rows, columns = mask.nonzero()
    values = torch.from_numpy(rng.standard_normal(len(rows))).to(
        draw(st.sampled_from((torch.float32, torch.bfloat16)))
    )
    values[::5] = -0.0
    starts = np.searchsorted(rows, np.arange(m + 1))
    return from_positions(starts, columns, values, (m, k), Unstructured(0.5))


def made(pattern, m, k, dtype="float32") -> Sparse:
    return make_operands(case("spmm", pattern, dtype, m=m, k=k, n=1))[0]


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


def test_large_matrices_are_grouped_by_sorting_alike(monkeypatch):
    a = made(Block(4, 1, 0.7), 60, 33)
    few = strips(a, 4, 16, np.arange(60)), stretches(a, 4)
    monkeypatch.setattr("suite.formats.groups.BITMAP", 0)
    for one, other in zip(few, (strips(a, 4, 16, np.arange(60)), stretches(a, 4)), strict=True):
        assert torch.equal(one.columns.int(), other.columns.int()) and torch.equal(one.starts, other.starts)
        assert torch.equal(one.values, other.values)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_each_group_is_all_kept_or_all_dropped(size, sparsity):
    down, along = made(Block(size, 1, sparsity), 64, 48), made(Block(1, size, sparsity), 64, 48)
    assert down.nonzeros == size * count_strip_groups(down, size, np.arange(64))
    assert along.nonzeros == size * count_stretches(along, size)
    assert down.nonzeros == along.nonzeros == round((1 - sparsity) * 64 * 48 / size) * size


# Orders.


@settings(deadline=None)
@given(matrices(), st.integers(1, 9))
def test_rows_with_the_same_columns_come_to_stand_together(a, height):
    sets = [tuple(row.nonzero()[0]) for row in pattern_of(a)]
    leader = alike(a)
    assert all(leader[row] == sets.index(columns) for row, columns in enumerate(sets))
    order = stacked(leader, height)
    assert sorted(order) == list(range(len(sets)))
    assert np.array_equal(order[inverse(order)], np.arange(len(sets)))
    full = sum(sets.count(columns) // height for columns in set(sets))
    strip = [
        {sets[row] for row in order[first : first + height]} for first in range(0, full * height, height)
    ]
    assert all(len(columns) == 1 for columns in strip)
    assert list(order[full * height :]) == sorted(order[full * height :])


def pattern_of(a: Sparse) -> np.ndarray:
    mask = np.zeros(a.shape, bool)
    mask[np.repeat(np.arange(a.shape[0]), a.row_lengths.numpy()), a.columns.numpy()] = True
    return mask


def test_rows_whose_sums_collide_are_still_told_apart(monkeypatch):
    class Constant:
        def integers(self, low, high, size, dtype):
            return np.ones(size, dtype)

    a = made(Unstructured(0.5), 30, 9)
    right = alike(a)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Constant())
    left = alike(a)
    rows = pattern_of(a)
    assert all((rows[row] == rows[leader]).all() for row, leader in enumerate(left))
    assert (left >= right).all()


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


@needs_compiler
@pytest.mark.parametrize(
    ("pattern", "algorithm"),
    [
        (Block(16, 1, 0.5), "8x1"),
        (Block(8, 1, 0.5), "8x1"),
        (Block(4, 1, 0.5), "4x1"),
        (Block(2, 2, 0.5), "2x1"),
        (Planted(8, 1, 0.5), "rearranged 8x1"),
        (Banded(0.5), "8x1"),
    ],
    ids=str,
)
def test_the_height_suits_the_pattern(pattern, algorithm):
    height, order = rows.arranged(made(pattern, 512, 512), 8)
    moved = "" if (order == np.arange(512)).all() else "rearranged "
    assert f"{moved}{height}x1" == algorithm
    assert rows.arranged(made(pattern, 512, 512), 4)[0] <= 4


@pytest.mark.parametrize(
    ("pattern", "width"), [(Block(1, 16, 0.5), 16), (Block(3, 8, 0.5), 8), (Block(1, 4, 0.5), 4)]
)
def test_the_width_suits_the_pattern(pattern, width):
    assert dots.width_of(made(pattern, 512, 512)) == width


@needs_compiler
def test_groups_that_would_be_mostly_zeros_are_refused(device):
    down, along = rows.spmm_group_rows, dots.spmm_group_dots
    loose = case("spmm", Unstructured(0.9), m=1024, k=1024, n=1)
    assert down.refusals(loose, device) == [
        "needs rows that share their columns: groups of two would be 53% full"
    ]
    assert along.refusals(loose, device) == ["needs nonzeros side by side: stretches of 4 would be 29% full"]
    assert along.refusals(case("spmm", Block(1, 4, 0.9), m=1024, k=1024, n=9), device) == [
        "needs n of 8 at most, got 9"
    ]
    for one in (down, along):
        hidden = examine(one, Trial(case("spmm", Planted(2, 2, 0.9), m=1024, k=1024, n=1)), device)
        assert (hidden.outcome, "full" in hidden.note) == (
            ("ok", False) if one is down else ("refused", True)
        )


@needs_compiler
@pytest.mark.parametrize(
    "n", [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 33, 48, 49, 64, 80, 81, 96, 97, 113, 200, 256]
)
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
@pytest.mark.parametrize(
    ("m", "k", "n", "where"),
    [
        (64, 64, 784, "in place"),
        (512, 512, 784, "packed"),
        (64, 1024, 1024, "packed"),
        (512, 512, 64, "in place"),
    ],
)
def test_b_is_read_in_place_where_that_is_as_good(m, k, n, where):
    a, b = make_operands(case("spmm", Block(4, 1, 0.5), m=m, k=k, n=n))
    assert rows.spmm_group_rows.prepare(a, b).note["b"] == where


@needs_compiler
@pytest.mark.parametrize(
    "flags", [("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx")], ids=" ".join
)
@pytest.mark.parametrize("one", [rows.spmm_group_rows, dots.spmm_group_dots], ids=str)
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
