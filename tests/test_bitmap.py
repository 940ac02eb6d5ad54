"""Bitmap: nothing is lost, the bytes are those of the formula, and every way of spreading gives the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import masks

from suite import conformance, native
from suite.case import case
from suite.conformance import Trial, cases_for, examine
from suite.cpu.device import Cpu
from suite.formats.bitmap import PAST, bitmap, too_large, unbitmap
from suite.kernel import kernel
from suite.op import discover_parts
from suite.patterns.unstructured import Unstructured
from suite.sparse import Sparse, from_positions

pytestmark = pytest.mark.paper("endor")

discover_parts()

KERNELS = Path(conformance.__file__).parent.parent / "kernels/spmm"
TILES = st.sampled_from(((32, 2), (16, 2), (1, 8), (1, 64), (4, 64), (8, 1), (16, 32)))
NATIVE = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))


@pytest.fixture(scope="module")
def device():
    return Cpu()


@st.composite
def matrices(draw):
    """Any mask, rows of nothing and of everything among them; values of every sign, zeros of both too."""
    mask, rng = draw(masks(70, 70))
    rows, columns = mask.nonzero()
    dtype = draw(st.sampled_from((torch.float32, torch.bfloat16, torch.float16, torch.float64)))
    values = torch.from_numpy(rng.standard_normal(len(rows))).to(dtype)
    values[::5], values[1::5] = -0.0, 0.0
    starts = np.searchsorted(rows, np.arange(len(mask) + 1))
    return from_positions(starts, columns, values, mask.shape, Unstructured(0.5))


def same(one: Sparse, other: Sparse) -> bool:
    """Bit by bit: -0.0 is not 0.0."""
    return (
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(one.starts, other.starts)
        and torch.equal(one.columns, other.columns)
        and one.values.double().numpy().tobytes() == other.values.double().numpy().tobytes()
    )


@settings(deadline=None)
@given(matrices(), TILES)
def test_bits_and_values_lose_nothing_and_take_what_the_formula_says(a, tile):
    (m, k), (height, width) = a.shape, tile
    made = bitmap(a, height, width)
    assert same(unbitmap(made, a.pattern), a)
    strips, across = -(-m // height), -(-k // width)
    assert made.bits.nbytes * 8 == strips * height * across * width
    assert made.starts.nbytes == 8 * (strips + 1)
    assert made.value_bytes == a.nonzeros * a.dtype.itemsize
    assert made.values.nbytes == made.value_bytes + PAST
    assert made.value_bytes + made.metadata_bytes == sum(
        one.nbytes for one in (made.bits, made.values, made.starts)
    )


def test_a_matrix_of_many_chunks_is_laid_out_like_one_of_few(monkeypatch):
    rng = np.random.default_rng(0)
    rows, columns = (rng.random((100, 50)) < 0.5).nonzero()
    values = torch.from_numpy(rng.standard_normal(len(rows)))
    a = from_positions(np.searchsorted(rows, np.arange(101)), columns, values, (100, 50), Unstructured(0.5))
    whole = bitmap(a, 4, 8)
    monkeypatch.setattr("suite.formats.bitmap.CHUNK", 600)
    parts = bitmap(a, 4, 8)
    for one, other in ((whole.bits, parts.bits), (whole.values, parts.values), (whole.starts, parts.starts)):
        assert torch.equal(one, other)


@settings(deadline=None)
@given(st.integers(0, 64 * 64))
def test_a_bitmap_of_16_bit_values_is_less_than_16_bit_compressed_rows_exactly_above_a_sixteenth(nonzeros):
    """Row pointers, and the starts of strips, are not counted."""
    m = k = 64
    at = np.random.default_rng(nonzeros).permutation(m * k)[:nonzeros]
    at.sort()
    values = torch.ones(nonzeros, dtype=torch.bfloat16)
    a = from_positions(np.searchsorted(at // k, np.arange(m + 1)), at % k, values, (m, k), Unstructured(0.5))
    made = bitmap(a, 32, 2)
    rows = a.values.nbytes + 2 * a.nonzeros
    assert (made.value_bytes + made.bits.nbytes < rows) == (nonzeros / (m * k) > 1 / 16)
    assert made.value_bytes + made.bits.nbytes == 2 * nonzeros + m * k // 8


def test_bits_over_the_limit_are_refused_with_both_sizes():
    large = case("spmm", Unstructured(0.9999), m=2**18, k=2**17, n=1)
    assert too_large(large) == ["needs a bit for each position, which takes 4 GiB; the limit is 1 GiB"]
    assert not too_large(case("spmm", Unstructured(0.9), m=2**16, k=2**16, n=1))


LESSER = (("-mno-avx512bf16",), ("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx"))


@NATIVE
@pytest.mark.parametrize("flags", LESSER, ids=" ".join)
def test_a_bitmap_is_right_for_lesser_processors(flags, device):
    """What another machine would compile; a build for AVX2 on one with AVX-512 is the same code."""
    bitmaps = pytest.importorskip("suite.kernels.spmm.spmm_bitmap")
    if device.isa and "avx512_vbmi2" not in device.isa:
        pytest.skip("these are flags for x86 with all of AVX-512")
    library = native.load(KERNELS / "spmm_bitmap.cpp", *flags)
    assert library.lanes(2) < 32

    @kernel(op="spmm", dtypes=("float32", "bfloat16"), keep=False)
    def lesser(a, b):
        return bitmaps.prepare(a, b, library)

    verdicts = [examine(lesser, trial, device) for trial in cases_for(lesser)]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


@NATIVE
@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 11, 12, 13, 24, 25, 64])
def test_a_bitmap_at_any_width(n, device):
    """Each width of a panel is code of its own."""
    one = pytest.importorskip("suite.kernels.spmm.spmm_bitmap").spmm_bitmap
    for dtype in one.dtypes:
        for k in (1, 90, 91):
            verdict = examine(one, Trial(case("spmm", Unstructured(0.7), dtype, m=40, k=k, n=n)), device)
            assert verdict.outcome == "ok", verdict


@NATIVE
@pytest.mark.parametrize("flags", [(), ("-mno-avx512f",)], ids=" ".join)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_bitmap_in_tiles_of_the_processor_is_right_where_those_are_emulated(flags, threads, device):
    tiles = pytest.importorskip("suite.kernels.spmm.spmm_bitmap_amx")
    if flags and "avx512f" not in device.isa:
        pytest.skip("these are flags for x86 with AVX-512")
    library = native.load(KERNELS / "spmm_bitmap_amx.cpp", "-DEMULATE_TILES", *flags)

    @kernel(op="spmm", dtypes=("bfloat16",), keep=False, live_order="columns")
    def emulated(a, b):
        return tiles.prepare(a, b, library)

    wide = (
        Trial(case("spmm", Unstructured(0.7), "bfloat16", m=90, k=70, n=n)) for n in (15, 17, 32, 33, 48, 64)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        verdicts = [examine(emulated, trial, device) for trial in (*cases_for(emulated), *wide)]
    finally:
        torch.set_num_threads(before)
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


@NATIVE
def test_the_source_for_tiles_of_the_processor_compiles(device):
    tiles = pytest.importorskip("suite.kernels.spmm.spmm_bitmap_amx")
    if "avx2" not in device.isa:
        pytest.skip("an assembler for x86 is needed")
    assert native.load(KERNELS / "spmm_bitmap_amx.cpp", *tiles.FLAGS).spmm_bfloat16
