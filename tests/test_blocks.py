"""Blocks: right on lesser processors, and on tiles of the processor where those are emulated."""

from pathlib import Path

import pytest
import torch

from suite import conformance, native
from suite.case import case
from suite.conformance import Trial, cases_for, examine
from suite.cpu.device import Cpu
from suite.kernel import kernel
from suite.op import discover_parts
from suite.patterns.block import Block
from suite.patterns.planted import Planted
from suite.registry import discover

pytestmark = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))

discover_parts()
discover(folders=("kernels",))

KERNELS = Path(conformance.__file__).parent.parent / "kernels/spmm"
LESSER = [("-mno-avx512bf16",), ("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx")]


@pytest.fixture(scope="module")
def device():
    return Cpu()


def only_right(one, trials, device):
    verdicts = [examine(one, trial, device) for trial in trials]
    outcomes = {verdict.outcome for verdict in verdicts}
    assert "ok" in outcomes and outcomes <= {"ok", "refused"}, [
        verdict for verdict in verdicts if verdict.outcome not in ("ok", "refused")
    ][:3]


def wide(dtype):
    """Beyond any tile, and ragged."""
    for pattern, m, k, n in (
        (Block(32, 32, 0.5), 160, 224, 200),
        (Block(16, 32, 0.8), 90, 170, 65),
        (Planted(16, 16, 0.7), 170, 130, 130),
    ):
        yield Trial(case("spmm", pattern, dtype, m=m, k=k, n=n))


@pytest.mark.parametrize("flags", LESSER, ids=" ".join)
def test_blocks_are_right_for_lesser_processors(flags, device):
    panels = pytest.importorskip("suite.kernels.spmm.spmm_block_panels")
    if device.isa and "avx512_bf16" not in device.isa:
        pytest.skip("these are flags for x86 with all of AVX-512")
    library = native.load(KERNELS / "spmm_block_panels.cpp", *flags)
    assert library.bfloat16s() == 1

    @kernel(op="spmm", dtypes=("float32", "bfloat16"), refuse=panels.refuse, keep=False)
    def lesser(a, b):
        return panels.in_blocks(library, a, b, panels.TILE)

    for dtype in lesser.dtypes:
        trials = [trial for trial in cases_for(lesser) if trial.case.dtype == dtype]
        only_right(lesser, (*trials, *wide(dtype)), device)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("flags", [(), ("-mno-avx512f",)], ids=" ".join)
@pytest.mark.parametrize("permuted", [False, True], ids=["as they are", "permuted"])
def test_tiles_of_the_processor_are_right_where_those_are_emulated(permuted, flags, threads, device):
    tiles = pytest.importorskip("suite.kernels.spmm.spmm_block_amx")
    smat = pytest.importorskip("suite.kernels.spmm.spmm_smat_amx")
    if flags and "avx512f" not in device.isa:
        pytest.skip("these are flags for x86 with AVX-512")
    library = native.load(KERNELS / "spmm_block_amx.cpp", "-DEMULATE_TILES", *flags)

    def as_they_are(a, b):
        return tiles.in_blocks(library, a, b, tiles.TILE, across=tiles.TILE[1])

    def gathered(a, b):
        return smat.permuted(library, a, b)

    terms = {"refuse": smat.refuse, "patterns": smat.PATTERNS} if permuted else {"refuse": tiles.refuse}
    emulated = kernel(op="spmm", dtypes=("bfloat16",), keep=False, **terms)(
        gathered if permuted else as_they_are
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        trials = (*cases_for(emulated), *(one for one in wide("bfloat16") if emulated.fits(one.case)))
        only_right(emulated, trials, device)
    finally:
        torch.set_num_threads(before)


def test_the_source_for_tiles_of_the_processor_compiles(device):
    tiles = pytest.importorskip("suite.kernels.spmm.spmm_block_amx")
    if "avx2" not in device.isa:
        pytest.skip("an assembler for x86 is needed")
    assert native.load(KERNELS / "spmm_block_amx.cpp", *tiles.FLAGS).spmm_bfloat16
