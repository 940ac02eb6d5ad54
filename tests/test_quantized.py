"""Weights of few bits: what they stand for is exact, what they take is the formula's, and kernels agree."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import masks

from suite import conformance, native
from suite.case import QUANTIZED, W2A16, W4A16, case
from suite.conformance import Trial, cases_for, examine
from suite.cpu.device import Cpu
from suite.cuda.terms import too_old
from suite.formats.bsr import whole
from suite.formats.quantized import quantized, quantized_whole, unpacked, unquantized
from suite.kernel import KERNELS, Refused, kernel
from suite.op import OPS, discover_parts, make_operands, weight
from suite.op import faults as case_faults
from suite.patterns.block import Block
from suite.patterns.unstructured import Unstructured
from suite.quantized import GROUP, as_stored, reach
from suite.registry import discover
from suite.sparse import from_positions

pytestmark = pytest.mark.paper("gqsa")

discover_parts()
discover()

SOURCE = Path(conformance.__file__).parent.parent / "kernels/spmm/codes.cpp"
NATIVE = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))


@pytest.fixture(scope="module")
def device():
    return Cpu()


@st.composite
def matrices(draw):
    """(case, matrix): rows of nothing and of everything, numbers of any size, zeros of both signs."""
    mask, rng = draw(masks(40, 150))
    (m, k), (rows, columns) = mask.shape, mask.nonzero()
    values = torch.from_numpy(rng.standard_normal(len(rows)) * 10.0 ** draw(st.integers(-20, 20))).float()
    values[::7], values[1::7] = -0.0, 0.0
    asked = case("spmm", Unstructured(0.5), draw(st.sampled_from(list(QUANTIZED))), m=m, k=k, n=1)
    starts = np.searchsorted(rows, np.arange(m + 1))
    return asked, from_positions(starts, columns, values, (m, k), asked.pattern)


@settings(deadline=None, max_examples=60)
@given(matrices())
def test_a_stored_weight_is_near_what_was_meant_and_is_a_nonzero_where_that_is(drawn):
    asked, a = drawn
    bits, made = QUANTIZED[asked.dtype], as_stored(asked, a)
    assert made.dtype == torch.bfloat16 and torch.equal(made.columns, a.columns)
    assert torch.equal(made.values == 0, a.values == 0)
    groups = torch.nn.functional.pad(a.dense, (0, -a.shape[1] % GROUP)).view(-1, GROUP)
    stored = torch.nn.functional.pad(made.dense, (0, -a.shape[1] % GROUP)).view(-1, GROUP).float()
    step = torch.maximum(-groups.amin(1) / reach(bits), groups.amax(1) / (reach(bits) - 1))[:, None]
    step *= 1 + 2**-4  # rounded up to five bits
    off = (groups - stored).abs()
    assert ((off <= step / 2) | ((groups.abs() < step / 2) & (off <= step))).all()


@settings(deadline=None, max_examples=60)
@given(matrices())
def test_groups_lose_nothing_and_take_what_the_formula_says(drawn):
    asked, a = drawn
    bits, a = QUANTIZED[asked.dtype], as_stored(asked, a)
    m, across = a.shape[0], -(-a.shape[1] // GROUP)
    rows = torch.repeat_interleave(torch.arange(m), a.row_lengths)
    kept = len(set(zip(rows.tolist(), (a.columns // GROUP).tolist(), strict=True)))
    held, every = quantized(a, bits), quantized_whole(a, bits)
    for one, groups in ((held, kept), (every, m * across)):
        assert torch.equal(unquantized(one, a.pattern).dense, a.dense)
        assert one.value_bytes == groups * GROUP * bits // 8
        words = 8 * m * whole(across, 64) // 64 + 8 * (m + 1)
        assert one.metadata_bytes == 2 * groups + (words if one is held else 0)


@pytest.mark.parametrize("bits", QUANTIZED.values())
def test_numbers_that_no_scale_makes_whole_are_refused(bits):
    """And so are as many levels as there are no codes for."""
    levels = torch.arange(1.0, reach(bits) + 2)
    for values in (torch.tensor([1.0, 0.37]), levels):
        a = from_positions(
            np.array([0, len(values)]), np.arange(len(values)), values.bfloat16(), (1, 32), Unstructured(0.5)
        )
        with pytest.raises(Refused, match=f"1 groups of 32 values are not codes of {bits} bits"):
            quantized(a, bits)


def test_all_codes_stand_for_what_they_say():
    for bits in QUANTIZED.values():
        numbers = torch.arange(-reach(bits), reach(bits)).repeat(GROUP // (2 * reach(bits))).float() * 0.375
        a = from_positions(
            np.array([0, GROUP]), np.arange(GROUP), numbers.bfloat16(), (1, GROUP), Unstructured(0)
        )
        assert torch.equal(unpacked(quantized(a, bits))[0].float(), numbers)


def test_half_of_all_groups_at_four_bits_take_two_bits_a_weight_and_what_describes_them():
    half = case("spmm", Block(1, GROUP, 0.5), W4A16, m=512, k=4096, n=1)
    every = case("spmm", Block(1, GROUP, 0.0), W2A16, m=512, k=4096, n=1)
    four, two = quantized(weight(half), 4), quantized_whole(weight(every), 2)
    assert 8 * four.value_bytes == 8 * two.value_bytes == 2 * 512 * 4096
    assert OPS["spmm"].least_values(half, make_operands(half)) == four.value_bytes
    assert OPS["spmm"].least_values(every, make_operands(every)) == two.value_bytes
    # Of half as many scales half the bits; and two words and a beginning for each row.
    assert four.metadata_bytes == two.metadata_bytes // 2 + 512 * 2 * 8 + 513 * 8


def test_a_group_is_kept_or_left_out_whole():
    kept = weight(case("spmm", Block(1, GROUP, 0.5), W4A16, m=64, k=256, n=1)).dense.view(-1, GROUP) != 0
    assert torch.equal(kept.any(1), kept.all(1)) and kept.any(1).sum() == 64 * 8 // 2


def test_what_codes_stand_for_is_what_kernels_of_bfloat16_multiply():
    asked = case("spmm", Block(1, GROUP, 0.5), W4A16, m=64, k=256, n=1)
    assert KERNELS["spmm_dense_linear"].fits(asked) and KERNELS["spmm_quantized_w4"].fits(asked)
    assert not KERNELS["spmm_quantized_w2"].fits(asked) and not KERNELS["spmm_dense_mkl_packed"].fits(asked)
    assert not KERNELS["spmm_bitmap"].fits(asked)  # it would store 16 bits of 4


def test_there_are_no_quantized_weights_of_other_ops():
    asked = case("spmm_t", Block(1, GROUP, 0.5), W4A16, m=64, k=256, n=1)
    assert case_faults(asked) == ["spmm_t has no scales, which w4a16 needs"]


@NATIVE
def test_groups_that_would_be_hollow_are_refused(device):
    one = KERNELS["spmm_quantized_w4"]
    asked = case("spmm", Unstructured(0.9), W4A16, m=512, k=512, n=1)
    assert one.refusals(asked, device) == ["needs nonzeros side by side: groups of 32 would be 10% full"]


@NATIVE
def test_rows_of_more_groups_than_can_be_numbered_are_refused(device):
    for name in ("spmm_quantized_w4", "spmm_dense_quantized_w2"):
        one = KERNELS[name]
        asked = case("spmm", Block(1, GROUP, 0.5), one.dtypes[0], m=1, k=2**21 + 32, n=1)
        assert one.refusals(asked, device) == ["takes at most 2097152 numbers in a row, got k=2097184"]


def test_a_matrix_whose_groups_turn_out_to_be_hollow_is_refused():
    """Of one that comes from a file, nothing is known before."""
    asked = case("spmm", Unstructured(0.97), W4A16, m=512, k=512, n=1)
    with pytest.raises(Refused, match=r"groups of 32 would be [45]% full"):
        quantized(weight(asked), 4)


@pytest.mark.parametrize("values", [[1e-45], [1e-39, 1.0], [-3e-40, 1e-40], [1e37, -1e37]])
@pytest.mark.parametrize("dtype", QUANTIZED)
def test_the_smallest_and_the_largest_numbers_have_codes(dtype, values):
    count = len(values)
    asked = case("spmm", Unstructured(0.0), dtype, m=1, k=count, n=1)
    meant = torch.tensor(values)
    made = as_stored(
        asked, from_positions(np.array([0, count]), np.arange(count), meant, (1, count), asked.pattern)
    )
    assert made.values.isfinite().all() and torch.equal(made.values.sign().float(), meant.sign())
    assert made.values.abs().max() <= max(torch.finfo(torch.bfloat16).tiny, 1.1 * max(map(abs, values)))
    quantized(made, QUANTIZED[dtype])


def test_a_dense_kernel_of_bfloat16_wants_for_codes_what_it_wants_for_those(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    one = KERNELS["spmm_dense_onednn_packed"]
    for dtype in ("bfloat16", W4A16):
        asked = case("spmm", Block(1, GROUP, 0.5), dtype, m=64, k=64, n=1)
        assert any("bfloat16" in why for why in one.refusals(asked, Cpu()))
    chip = SimpleNamespace(isa=frozenset({"sm_75"}), name="Made Up")
    assert too_old(asked, chip) == ["needs sm_80 for bfloat16, which Made Up lacks"]


LESSER = (("-mno-avx512bf16",), ("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx"))


@NATIVE
@pytest.mark.parametrize("flags", LESSER, ids=" ".join)
def test_groups_are_right_for_lesser_processors(flags, device):
    kernels = pytest.importorskip("suite.kernels.spmm.codes")
    if device.isa and "avx512_vbmi2" not in device.isa:
        pytest.skip("these are flags for x86 with all of AVX-512")
    library = native.load(SOURCE, *flags)

    @kernel(op="spmm", dtypes=(W4A16,), keep=False, live_order="columns")
    def lesser(a, b):
        return kernels.prepare(quantized(a, 4), b, library)

    verdicts = [examine(lesser, trial, device) for trial in cases_for(lesser)]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


@NATIVE
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", QUANTIZED)
def test_groups_at_any_number_of_columns(dtype, threads, device):
    """Each number of columns up to eight is code of its own; rows of many words of bits, and ragged ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 20):
            for k, sparsity in ((4096 + 64, 0.5), (4133, 0.9), (90, 0.0)):
                asked = case("spmm", Block(1, GROUP, sparsity), dtype, m=50, k=k, n=n)
                for name in (f"spmm_quantized_{dtype[:2]}", f"spmm_dense_quantized_{dtype[:2]}"):
                    verdict = examine(KERNELS[name], Trial(asked), device)
                    assert verdict.outcome == "ok", verdict
    finally:
        torch.set_num_threads(before)
