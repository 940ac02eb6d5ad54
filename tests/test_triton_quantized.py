"""Weights of few bits for GPUs without one: right in the interpreter, compiled as they should be."""

import re

import pytest
import torch
from vendors import Gpu

from suite.case import QUANTIZED, case
from suite.formats.quantized import quantized, quantized_whole, unpacked
from suite.kernel import KERNELS
from suite.op import discover_parts, make_operands, weight
from suite.patterns.block import Block
from suite.patterns.unstructured import Unstructured
from suite.quantized import GROUP, reach
from suite.registry import discover

pytest.importorskip("triton", reason="needs triton: pip install triton")
from compiling import SHARED, TARGETS, compiler, resources
from interpreter import begun, ended
from interpreter_quantized import ASKED, CONTROL, EVERY_W4, W2, W4

discover_parts()
discover(folders=("kernels",))

from suite.kernels.spmm import codes_triton  # noqa: E402

pytestmark = pytest.mark.paper("gqsa")

HALF = Block(1, GROUP, 0.5)
COMPILED = [*((W4, target) for target in TARGETS), (W2, 90), (EVERY_W4, 90)]
REGISTERS = 64  # of a thread, of which 1024 then run at a time on a multiprocessor


@pytest.fixture(scope="module")
def said():
    """Of each kernel, by what was asked: what is wrong."""
    found = {name: {} for name in ASKED}
    for name, asked, wrong in ended(begun("interpreter_quantized.py")):
        found[name][asked] = wrong
    return found


@pytest.mark.parametrize("name", ASKED)
def test_it_is_right_in_the_interpreter(name, said):
    controls = [note for asked, note in said[name].items() if asked.startswith(CONTROL)]
    assert len(controls) == 2 and all("should be" in note for note in controls)
    right = {asked: note for asked, note in said[name].items() if not asked.startswith(CONTROL)}
    assert len(right) == len(ASKED[name]) and not any(right.values()), right


# Compiling


@pytest.fixture
def compiled(monkeypatch):
    return compiler(monkeypatch)


def asked(name, n):
    return case("spmm", HALF, KERNELS[name].dtypes[0], m=256, k=1024, n=n)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "architecture"), COMPILED)
def test_a_vector_is_multiplied_where_its_codes_arrive(name, architecture, compiled, tmp_path):
    """Lanes exchange nothing before the end, and load sixteen bytes of `b` at a time."""
    (one,) = compiled(KERNELS[name], asked(name, 1), architecture)
    registers, stack = resources(one.asm["cubin"], tmp_path)
    assert registers <= REGISTERS and stack == 0
    loop = one.asm["ptx"].split("shfl.sync")[0]
    assert "st.shared" not in loop and "bar.sync" not in loop
    assert re.search(r"ld\.global\.v4\.b32", loop)
    assert not re.search(r"cvt\.rn\.f32\.[su]32", loop)  # codes are floats where they stand


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "architecture"), COMPILED)
def test_several_columns_go_to_tensor_cores(name, architecture, compiled, tmp_path):
    one, *_ = compiled(KERNELS[name], asked(name, 16), architecture)
    registers, stack = resources(one.asm["cubin"], tmp_path)
    assert one.metadata.shared <= SHARED[architecture] and stack == 0, registers
    assert ("wgmma.mma_async" if architecture == 90 else "mma.sync") in one.asm["ptx"]
    assert re.search(r"cp\.async\.cg\.shared\.global .*0x10", one.asm["ptx"])


def test_every_way_gives_each_lane_one_place():
    for way in codes_triton.VECTOR:
        height, lanes, turns, _ = way.tile
        assert height * lanes == 32 * way.warps and codes_triton.PIECES % turns == 0
        assert lanes * turns % codes_triton.PIECES == 0
    for way in codes_triton.TILES:
        assert codes_triton.WORD % way.tile[1] == 0  # a step has the groups of one word


# What it costs, and refuses


@pytest.mark.parametrize("bits", QUANTIZED.values())
def test_pieces_are_the_codes_in_order(bits):
    held = quantized_whole(weight(case("spmm", HALF, f"w{bits}a16", m=20, k=100, n=1)), bits)
    turns = torch.arange(8) * bits
    codes = codes_triton.pieces_of(held)[:, :, None].long() >> turns & (2 * reach(bits) - 1)
    numbers = (codes.flatten(1) - reach(bits)) * held.scales[:, None]
    assert torch.equal(numbers.bfloat16(), unpacked(held))


@pytest.mark.parametrize(("k", "index"), [(2048, 1), (9000, 2)])
@pytest.mark.parametrize("dtype", QUANTIZED)
def test_a_vector_costs_codes_scales_and_a_number_a_group(dtype, k, index):
    bits = QUANTIZED[dtype]
    a, b = make_operands(case("spmm", HALF, dtype, m=50, k=k, n=1))
    made, held = KERNELS[f"spmm_quantized_triton_w{bits}"].prepare(a, b), quantized(a, bits)
    runs, groups = made.holds[0], len(held.codes)
    assert made.values == held.value_bytes == groups * GROUP * bits // 8
    assert made.metadata == groups * (2 + index) + runs.metadata_bytes
    height, lanes, turns, _ = made.note["way"].tile
    spans = [-(-length // (lanes * turns // 4)) for length in runs.lengths.tolist()]
    steps = sum(max(spans[at : at + height]) for at in range(0, len(spans), height))
    assert made.executed == 2 * steps * height * lanes * turns * 8
    assert (made.note["split"] > 0) == (k > 4096)
    every = KERNELS[f"spmm_dense_quantized_triton_w{bits}"].prepare(a, b)
    assert every.values == 50 * -(-k // GROUP) * GROUP * bits // 8
    assert every.metadata == 2 * 50 * -(-k // GROUP) + every.holds[0].metadata_bytes


@pytest.mark.parametrize("n", [2, 16, 70])
@pytest.mark.parametrize("dtype", QUANTIZED)
def test_several_columns_cost_whole_tiles_and_two_numbers_a_word(dtype, n):
    bits, (m, k) = QUANTIZED[dtype], (150, 2100)
    a, b = make_operands(case("spmm", HALF, dtype, m=m, k=k, n=n))
    tokens, groups = {2: 16, 16: 16, 70: 128}[n], -(-k // GROUP)
    for sparse, one in ((True, "spmm_quantized"), (False, "spmm_dense_quantized")):
        made = KERNELS[f"{one}_triton_w{bits}"].prepare(a, b)
        held = (quantized if sparse else quantized_whole)(a, bits)
        rows, step, _ = made.note["way"].tile
        assert made.executed == 2 * GROUP * -(-m // rows) * rows * -(-groups // step) * step * tokens
        assert made.values == held.value_bytes
        words = m * -(-groups // 64) * 2 * (4 + 4)
        assert made.metadata == 2 * len(held.codes) + (words if sparse else 0)


def test_what_is_refused_is_said():
    one, every = KERNELS[W4], KERNELS[EVERY_W4]
    many = case("spmm", HALF, "w4a16", m=512, k=512, n=257)
    assert one.refusals(many, Gpu()) == every.refusals(many, Gpu()) == ["takes at most 256 columns, got 257"]
    hollow = case("spmm", Unstructured(0.9), "w4a16", m=512, k=512, n=1)
    assert one.refusals(hollow, Gpu()) == ["needs nonzeros side by side: groups of 32 would be 10% full"]
    assert not every.refusals(hollow, Gpu())
