"""Blocks on registers and on tiles: right at any cut and in any order, and their work is counted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import conformance, native
from suite.case import case
from suite.conformance import Trial, cases_for, examine
from suite.cpu.device import Cpu
from suite.formats.bsr import block_of, bsr, fills_up, split, unfit
from suite.kernel import KERNELS, kernel
from suite.op import OPS, discover_parts
from suite.ops.spmm import allowed
from suite.patterns.banded import Banded
from suite.patterns.block import Block
from suite.patterns.butterfly import Butterfly
from suite.patterns.planted import Planted
from suite.patterns.rmat import Rmat
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.sparse import from_positions

discover_parts()
discover(folders=("kernels",))

pytestmark = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))

panels = pytest.importorskip("suite.kernels.spmm.spmm_block_panels")
amx = pytest.importorskip("suite.kernels.spmm.spmm_block_amx")
smat = pytest.importorskip("suite.kernels.spmm.spmm_smat")
smat_amx = pytest.importorskip("suite.kernels.spmm.spmm_smat_amx")

SPMM = Path(conformance.__file__).parent.parent / "kernels/spmm"
DTYPES = ("float32", "bfloat16")
LESSER = (("-mno-avx512bf16",), ("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx"))
SHAPES = (Block(8, 2, 0.5), Block(16, 16, 0.8), Block(32, 64, 0.5), Block(48, 96, 0.5), Block(64, 32, 0.9))


@pytest.fixture(scope="module")
def device():
    return Cpu()


def registers():
    return native.load(SPMM / "spmm_block_panels.cpp")


def emulated(*flags):
    return native.load(SPMM / "spmm_block_amx.cpp", "-DEMULATE_TILES", *flags)


@kernel(op="spmm", dtypes=("bfloat16",), keep=False)
def blocks_on_emulated_tiles(a, b):
    """What spmm_block_amx does, on any processor."""
    return amx.in_blocks(emulated(), a, b, amx.TILE, across=amx.TILE[1])


@kernel(op="spmm", dtypes=("bfloat16",), patterns=smat.PATTERNS, keep=False)
def smat_on_emulated_tiles(a, b):
    """What spmm_smat_amx does, on any processor."""
    return smat_amx.permuted(emulated(), a, b)


EVERY = (panels.spmm_block_panels, smat.spmm_smat, blocks_on_emulated_tiles, smat_on_emulated_tiles)


def drawn(pattern, dtype, m, k, n):
    starts, columns = pattern.positions(m, k, 0)
    values = torch.randn(len(columns), generator=torch.Generator().manual_seed(0)).to(dtype)
    b = torch.randn(k, n, generator=torch.Generator().manual_seed(1)).to(dtype)
    return from_positions(starts, columns, values, (m, k), pattern), b


@pytest.mark.parametrize("one", [blocks_on_emulated_tiles, smat_on_emulated_tiles], ids=str)
def test_tiles_are_right_on_every_pattern(one, device):
    verdicts = [examine(one, trial, device) for trial in cases_for(one)]
    assert {verdict.outcome for verdict in verdicts} == {"ok"}, [v for v in verdicts if v.outcome != "ok"][:3]


def test_tiles_of_the_processor_compile():
    assert native.load(SPMM / "spmm_block_amx.cpp", *amx.FLAGS).spmm_bfloat16


@pytest.mark.parametrize("flags", LESSER, ids=" ".join)
def test_blocks_are_right_for_lesser_processors(flags, device):
    """What another machine would compile; a build for AVX2 on one with AVX-512 is the same code."""
    if device.isa and "avx512_bf16" not in device.isa:
        pytest.skip("these are flags for x86 with AVX-512 and its bfloat16")
    library = native.load(SPMM / "spmm_block_panels.cpp", *flags)
    assert library.bfloat16s() == 1

    @kernel(op="spmm", dtypes=DTYPES, keep=False)
    def lesser(a, b):
        return panels.in_blocks(library, a, b, panels.TILE)

    verdicts = [examine(lesser, trial, device) for trial in cases_for(lesser)]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


@pytest.mark.parametrize("near", [None, 2**13, 2**10], ids="L2 {}".format)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_blocks_are_right_however_they_are_cut(near, threads, device, monkeypatch):
    """A tiny L2 makes many slabs and tiles; threads then work alone or together."""
    before = torch.get_num_threads()
    if near:
        monkeypatch.setattr(panels, "cache_bytes", lambda level: near)
        monkeypatch.setattr(panels, "SEGMENT", 4)
    try:
        torch.set_num_threads(threads)
        for pattern in (*SHAPES, Planted(16, 32, 0.8), Butterfly(32), Banded(0.9)):
            for n, one in ((n, one) for n in (1, 7, 33, 64, 200) for one in EVERY):
                for dtype in one.dtypes:
                    trial = Trial(case("spmm", pattern, dtype, m=210, k=330, n=n))
                    if one.fits(trial.case):
                        verdict = examine(one, trial, device)
                        assert verdict.outcome == "ok", verdict
    finally:
        torch.set_num_threads(before)


@pytest.mark.paper("smat")
@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 70),
    st.integers(0, 2**16),
    st.sampled_from((1, 5, 20, 99)),
    st.sampled_from((("registers", 8, 2), ("registers", 16, 16), ("tiles", 32, 32), ("tiles", 16, 64))),
    st.sampled_from(DTYPES),
)
def test_any_permutation_and_any_split_give_the_product_of_compressed_rows(m, k, n, seed, least, on, dtype):
    where, height, width = on
    if where == "tiles" and dtype != "bfloat16":
        return
    rng = np.random.default_rng(seed)
    rows, columns = (rng.random((m, k)) < rng.choice((0.05, 0.5, 1.0))).nonzero()
    values = torch.from_numpy(rng.standard_normal(len(rows))).to(getattr(torch, dtype))
    a = from_positions(np.searchsorted(rows, np.arange(m + 1)), columns, values, (m, k), Unstructured(0.5))
    b = torch.from_numpy(rng.standard_normal((k, n))).to(a.dtype)
    down, right = rng.permutation(m), rng.permutation(k)
    moved = from_positions(*ordered(a, down, right), (m, k), a.pattern)
    full, rest = split(moved, height, width, least)
    library, how = (registers(), {}) if where == "registers" else (emulated(), {"across": 32})
    made = panels.prepare(library, bsr(full, height, width), rest, b, down, right, **how)
    expected = torch.from_numpy(a.scipy(float) @ b.double().numpy())
    error = (made.run(b).double() - expected).abs()
    one = case("spmm", Unstructured(0.5), dtype, m=m, k=k, n=n)
    assert bool((error <= allowed(one, (a, b), expected)).all())


def ordered(a, down, right):
    """Starts, columns and values of a[down][:, right]; the zeros that are stored stay."""
    index = a.scipy(float)
    index.data = np.arange(1.0, a.nonzeros + 1)
    moved = index[down][:, right].tocsr()
    moved.sort_indices()
    return moved.indptr, moved.indices, a.values[torch.from_numpy(moved.data.astype(np.int64) - 1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", SHAPES, ids=str)
def test_executed_is_every_position_of_every_block(pattern, dtype):
    m, k, n = 384, 576, 48
    a, b = drawn(pattern, getattr(torch, dtype), m, k, n)
    made = panels.spmm_block_panels.prepare(a, b)
    height, width = block_of(pattern, tile=panels.TILE)
    assert (height, width) == (pattern.rows, pattern.columns)
    assert made.executed == 2 * len(bsr(a, height, width).columns) * height * width * n == 2 * a.nonzeros * n


@pytest.mark.paper("smat")
@pytest.mark.parametrize("dtype", DTYPES)
def test_smat_executes_the_planted_blocks_and_the_single_nonzeros(dtype):
    m, n, planted = 1024, 32, Planted(16, 16, 0.95)
    a, b = drawn(planted, getattr(torch, dtype), m, m, n)
    rng = np.random.default_rng(0)
    flat = np.repeat(np.arange(m), a.row_lengths.numpy()) * m + a.columns.numpy()
    flat = np.union1d(flat, rng.integers(0, m * m, 500))
    starts = np.searchsorted(flat, np.arange(m + 1) * m)
    mixed = from_positions(starts, flat % m, torch.ones(len(flat), dtype=a.dtype), (m, m), planted)
    strays = mixed.nonzeros - a.nonzeros
    made = smat.spmm_smat.prepare(mixed, b)
    kept, numbers = planted.blocks(m, m), registers().bfloat16s() if dtype == "bfloat16" else 1
    assert made.note["kept"] == str(kept)
    assert made.executed == 2 * (kept * 256 + strays * numbers) * n
    assert made.note["left"] == f"{strays / mixed.nonzeros:.0%}"


@pytest.mark.paper("smat")
def test_smat_leaves_to_compressed_rows_what_has_no_blocks():
    a, b = drawn(Rmat(0.999), torch.float32, 2000, 2000, 16)
    made = smat.spmm_smat.prepare(a, b)
    assert made.note["kept"] == "0" and made.note["left"] == "100%"
    assert made.executed == KERNELS["spmm_csr_tiled"].prepare(a, b).executed


@pytest.mark.paper("smat")
def test_smat_is_refused_by_the_block_law(device):
    half = case("spmm", Unstructured(0.5), m=2**12, k=2**11, n=8)
    said = "blocks of 16x16 would be 50% full: unstructured@0.5 leaves 0% of them out"
    assert smat.spmm_smat.refusals(half, device) == [said]
    assert not smat.spmm_smat.refusals(case("spmm", Unstructured(0.9999), m=2**12, k=2**11, n=8), device)
    assert not smat.spmm_smat.refusals(case("spmm", Planted(16, 16, 0.5), m=2**20, k=2**20, n=8), device)
    assert fills_up(half, 16, 16) == [said] == unfit(half)


@pytest.mark.parametrize(
    ("pattern", "tile", "shape"),
    [
        (Block(32, 32, 0.5), (8, 2), (32, 32)),
        (Block(32, 32, 0.5), (16, 32), (32, 32)),
        (Block(16, 16, 0.5), (16, 32), (16, 32)),
        (Block(4, 4, 0.5), (8, 2), (16, 16)),
        (Butterfly(64), (16, 32), (64, 64)),
        (Unstructured(0.5), (16, 32), (16, 32)),
        (Unstructured(0.5), (1, 1), (16, 16)),
    ],
    ids=str,
)
def test_blocks_are_made_of_whole_tiles(pattern, tile, shape):
    assert block_of(pattern, tile=tile) == shape


def test_blocks_in_any_order_are_not_more_than_the_op_knows():
    """What is claimed of a permuted matrix is held against the op, as in a run."""
    a, b = drawn(Planted(8, 8, 0.9), torch.float32, 100, 100, 17)
    made = smat.spmm_smat.prepare(a, b)
    one = case("spmm", a.pattern, m=100, k=100, n=17)
    assert made.executed >= OPS["spmm"].useful(one, (a, b))
