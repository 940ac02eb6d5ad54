"""Vendors' GPU kernels without a GPU: what they refuse, and what they tell the libraries.

Stand-ins take the libraries' places (vendors.py).
"""

import gc
import sys
from ctypes import byref, c_int, c_int64, c_void_p
from dataclasses import replace
from math import ceil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.sparse import _semi_structured_conversions, _triton_ops
from vendors import OLD, WORKSPACE, Gpu, Library, SparseLt

from suite.case import DTYPES, FLOAT8, INT8, W4A16, case
from suite.check import Wrong, check, question
from suite.conformance import cases_for, examine
from suite.cuda import cusparse, cusparselt, libraries, terms
from suite.cuda.device import architectures
from suite.formats import two_of_four
from suite.formats.bell import NONE, bell
from suite.formats.padded import padded
from suite.kernel import KERNELS, Refused
from suite.op import discover_parts, make_operands
from suite.patterns.block import Block
from suite.patterns.grouped_n_of_m import GroupedNofM
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.patterns.v_n_of_m import VNofM
from suite.registry import discover

discover_parts()
discover(folders=("kernels",))

DENSE = (
    "spmm_dense_cublas",
    "spmm_dense_cublas_tokens",
    "spmm_dense_cublas_mv",
    "spmm_dense_cublas_tf32",
    "spmm_dense_cublas_compiled",
    "spmm_dense_cublas_tf32_compiled",
    "spmm_dense_cublas_int_mm",
    "spmm_dense_cublas_scaled",
    "spmm_dense_cublas_scaled_tokens",
    "spmm_dense_cublas_scaled_compiled",
    "spmm_dense_int4pack_gpu",
)
SCALED = [name for name in DENSE if "_scaled" in name]
COMPILED = [name for name in DENSE if name.endswith("_compiled")]
CSR = ("spmm_csr_cusparse_1", "spmm_csr_cusparse_2", "spmm_csr_cusparse_3")
CUSPARSE = (*CSR, "spmm_bsr_cusparse", "spmm_bell_cusparse")
DIRECT = "spmm_nm_cusparselt_direct"
TWO_OF_FOUR = ("spmm_nm_cusparselt", "spmm_nm_cutlass", DIRECT)
TRITON = "spmm_bsr_triton_torch"
FILLED = ("spmm_filled_cublas", "spmm_filled_cublas_tokens")
VENDORS = (*DENSE, *FILLED, *CUSPARSE, *TWO_OF_FOUR, TRITON, "spmm_csr_torch_gpu")


@pytest.fixture
def library(monkeypatch):
    made = Library()
    monkeypatch.setattr(cusparse, "library", lambda: made)
    monkeypatch.setattr(cusparse, "handle", lambda device: c_void_p(1))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    return made


@pytest.fixture
def semi_structured(monkeypatch, sparse_lt):
    """torch's products of both 2:4 libraries on the host; what they were asked is kept."""
    held, asked = {}, []
    unpacked = _semi_structured_conversions.sparse_semi_structured_to_dense_cutlass

    def compress(dense):
        assert dense.shape[0] % 16 == dense.shape[1] % 16 == 0 and dense.is_contiguous()
        assert (dense.unflatten(1, (-1, 4)) != 0).sum(-1).max() <= 2
        packed = dense.new_empty(dense.numel() * 9 // 16)
        held[packed.data_ptr()] = packed, dense.clone()
        return packed

    def multiply(packed, b, bias, alpha, out_dtype, transposed, *best):
        assert (bias, alpha, out_dtype, transposed, best) == (None, None, None, True, (3, 2, 1))
        assert b.shape[0] % 16 == b.shape[1] % 8 == 0 and b.stride(0) == 1 and not b.is_contiguous()
        return (held[packed.data_ptr()][1].double() @ b.double()).to(b.dtype).t().contiguous()

    def search(packed, b, *terms):
        asked.append((tuple(b.shape), terms))
        return 3, 2, 1, 40

    def cutlass(packed, meta, b):
        assert packed.shape[0] % 32 == b.shape[0] % 64 == b.shape[1] % 8 == 0 and b.stride(0) == 1
        return (unpacked(packed, meta).double() @ b.double()).to(b.dtype)

    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cusparselt, "version", lambda: 700)
    monkeypatch.setattr(torch, "_cslt_compress", compress)
    monkeypatch.setattr(torch, "_cslt_sparse_mm", multiply)
    monkeypatch.setattr(torch._C, "_cusparselt", SimpleNamespace(mm_search=search), raising=False)
    monkeypatch.setattr(torch, "_sparse_semi_structured_mm", cutlass)
    return asked


@pytest.fixture
def sparse_lt(monkeypatch):
    made = SparseLt()
    monkeypatch.setattr(cusparselt, "library", lambda: made)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    cusparselt.handle.cache_clear()
    cusparselt.plan.cache_clear()
    yield made
    cusparselt.handle.cache_clear()
    cusparselt.plan.cache_clear()


@pytest.fixture
def scaled_mm(monkeypatch):
    """What a GPU takes of 8-bit products, in front of the host's; scales that were given are kept."""
    multiply, seen = torch._scaled_mm, []

    def rules(left, right, scale_left, scale_right, *, out_dtype, out=None, use_fast_accum=False):
        out = left.new_empty(left.shape[0], right.shape[1], dtype=out_dtype) if out is None else out
        assert left.stride() == (left.shape[1], 1) and right.stride() == (1, right.shape[0])
        assert left.shape[1] % 16 == right.shape[0] % 16 == right.shape[1] % 16 == 0
        assert out.is_contiguous() and out.dtype == out_dtype == torch.bfloat16
        assert scale_left.dtype == scale_right.dtype == torch.float32
        seen.append((float(scale_left), float(scale_right)))
        return multiply(left, right, scale_left, scale_right, out_dtype=out_dtype, out=out)

    monkeypatch.setattr(torch, "_scaled_mm", rules)
    return seen


@pytest.fixture
def int_mm(monkeypatch):
    """What a GPU takes of products of whole numbers, in front of the host's."""
    multiply = torch._int_mm

    def rules(left, right, *, out):
        assert len(left) > 16 and left.shape[1] % 8 == right.shape[1] % 8 == 0
        assert left.stride() == (left.shape[1], 1) and right.stride() == (1, right.shape[0])
        assert out.is_contiguous() and out.dtype == torch.int32
        return multiply(left, right, out=out)

    monkeypatch.setattr(torch, "_int_mm", rules)


@pytest.fixture
def int4pack(monkeypatch):
    """torch's codes of 4 bits as a GPU takes them; how they are packed is its own business."""
    held = {}

    def pack(pairs, tiles):
        (m, half), deep = pairs.shape, 16 * tiles
        assert pairs.dtype == torch.uint8 and pairs.is_contiguous() and m % 8 == 0
        assert tiles in (2, 4, 8) and 2 * half % deep == 0
        packed = torch.empty(m // 8, 2 * half // deep, 32, tiles // 2, dtype=torch.int32)
        held[packed.data_ptr()] = packed, torch.stack((pairs >> 4, pairs & 15), 2).flatten(1)
        return packed

    def multiply(tokens, packed, group, scales):
        codes = held[packed.data_ptr()][1].double() - 8
        assert tokens.dtype == scales.dtype == torch.bfloat16
        assert tokens.is_contiguous() and scales.is_contiguous()
        assert group == 32 and scales.shape == (tokens.shape[1] // group, len(codes), 2)
        scale, zero = scales.double().transpose(0, 1)[..., None].unbind(2)
        weight = codes.unflatten(1, (-1, group)) * scale + zero
        return (tokens.double() @ weight.flatten(1).T).to(tokens.dtype)

    monkeypatch.setattr(torch.ops.aten, "_convert_weight_to_int4pack", pack)
    monkeypatch.setattr(torch.ops.aten, "_weight_int4pack_mm", multiply)


@pytest.fixture
def triton(monkeypatch):
    """torch's Triton kernel on the host, and a clock by script: what was tried, and what is quickest."""
    tried, clock = [], {"time": lambda meta: 1.0}

    def addmm(given, held, b, *, beta, alpha, out, meta):
        wide = b.shape[1] // meta["SPLIT_N"]
        height, width = held.values().shape[1:]
        assert (beta, alpha) == (0, 1) and given is out and b.is_contiguous()
        assert all(side >= 16 and not side & (side - 1) for side in (wide, height, width))
        assert b.shape[1] % meta["SPLIT_N"] == 0 and set(meta) >= {
            "GROUP_SIZE_ROW",
            "num_stages",
            "num_warps",
        }
        tried.append(meta)
        out.copy_(held.to_dense().double() @ b.double())

    def bench(call, **_):
        call()
        return clock["time"](tried[-1])

    monkeypatch.setattr(_triton_ops, "bsr_dense_addmm", addmm)
    monkeypatch.setitem(sys.modules, "triton.testing", SimpleNamespace(do_bench=bench))
    monkeypatch.setattr(terms, "find_spec", lambda name: name)
    return SimpleNamespace(tried=tried, clock=clock)


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda layer, **_: layer)
    monkeypatch.setattr(terms, "find_spec", lambda name: name)


@pytest.mark.parametrize("name", VENDORS)
def test_a_kernel_tells_its_library_what_it_means(
    name,
    library,
    semi_structured,
    sparse_lt,
    scaled_mm,
    int_mm,
    int4pack,
    triton,
    eager,
    clean_flags,
    fresh,
):
    one = replace(KERNELS[name], extents=("default",))  # for the others there is one trial a dtype
    assert one.on == "cuda"
    verdicts = [examine(one, trial, Gpu()) for trial in cases_for(one)]
    bad = [f"{one.trial}: {one.note}" for one in verdicts if one.outcome in ("wrong", "broken")]
    assert not bad, "\n".join(bad[:5])
    assert any(one.outcome == "ok" for one in verdicts)


@pytest.fixture
def fresh():
    """Nothing chosen before."""
    for name, held in (("spmm_nm_cusparselt", "CHOSEN"), (TRITON, "TUNED")):
        KERNELS[name].prepare.__globals__[held].clear()


@pytest.fixture
def clean_flags(monkeypatch):
    """Flags of a made-up cuBLAS; the host's torch has them too, and other tests in this process."""
    flags = SimpleNamespace(
        allow_tf32=False,
        allow_bf16_reduced_precision_reduction=True,
        allow_fp16_reduced_precision_reduction=True,
    )
    monkeypatch.setattr(torch.backends.cuda, "matmul", flags)
    return flags


# Dense


def operands(pattern=None, dtype="float32", **sizes):
    return make_operands(
        case("spmm", pattern or Unstructured(0.5), dtype, **(sizes or {"m": 17, "k": 33, "n": 5}))
    )


@pytest.mark.parametrize("name", [one for one in DENSE if "float32" in KERNELS[one].dtypes])
def test_dense_products_round_nothing_early(name, clean_flags, eager):
    clean_flags.allow_tf32 = True
    KERNELS[name].prepare(*operands(m=4, k=5, n=1))
    assert not any(vars(clean_flags).values())


def test_a_compiled_layer_is_called_with_tf32_on(clean_flags, monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda b: seen.append(clean_flags.allow_tf32) or b)
    a, b = operands(dtype="tfloat32")
    KERNELS["spmm_dense_cublas_tf32_compiled"].prepare(a, b).run(b)
    assert seen == [True] and clean_flags.allow_tf32 is False


def test_tf32_is_on_during_the_call_alone(clean_flags, monkeypatch):
    a, b = operands(dtype="tfloat32")
    seen = []
    made = KERNELS["spmm_dense_cublas_tf32"].prepare(a, b)
    monkeypatch.setattr(torch, "mm", lambda *_, **__: seen.append(clean_flags.allow_tf32))
    made.run(b)
    assert seen == [True] and clean_flags.allow_tf32 is False
    monkeypatch.setattr(torch, "mm", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made.run(b)
    assert clean_flags.allow_tf32 is False


@pytest.mark.parametrize("name", COMPILED)
def test_compiling_leaves_graphs_to_the_instrument(name, monkeypatch, clean_flags):
    asked, one = {}, KERNELS[name]
    monkeypatch.setattr(torch, "compile", lambda layer, **how: asked.update(how) or layer)
    assert one.prepare(*one.arrange(operands(dtype=one.dtypes[0]), (1,))).hidden
    assert asked == {"dynamic": False, "mode": "max-autotune-no-cudagraphs"}


@pytest.mark.parametrize("name", FILLED)
def test_a_weight_without_zeros_is_multiplied_and_is_no_baseline(name, clean_flags):
    one = KERNELS[name]
    at = case("spmm", NofM(2, 4), "bfloat16", m=16, k=32, n=4)
    asked = question(at, make_operands(at))
    a, b = asked.of(one).operands
    masked = asked.operands[0].dense
    assert one.fits(at) and one.filled and not one.dense and a.nonzeros == 16 * 32 and a.dense.all()
    assert torch.equal(a.dense[masked != 0], masked[masked != 0]) and torch.equal(b, asked.operands[1])
    made = one.prepare(*one.arrange((a, b), (1,)))
    assert check(made.run(b), asked.filled) < 1
    with pytest.raises(Wrong):
        check(made.run(b), asked)
    assert made.executed == 2 * 16 * 32 * 4 and made.note == {"weight": "no zeros"}
    dense = KERNELS[name.replace("filled", "dense")]
    assert dense.prepare(*dense.arrange(asked.operands, (1,))).note == {"weight": "zeros in place"}


@pytest.mark.parametrize("name", SCALED)
def test_eight_bits_are_multiplied_with_the_scale_of_their_dtype(name, scaled_mm, eager):
    one = KERNELS[name]
    a, b = one.arrange(operands(NofM(2, 4), FLOAT8, m=20, k=40, n=1), (1,))
    made = one.prepare(a, b)
    expected = a.dense.double() @ b.double() / 64**2
    assert torch.allclose(made.run(b).double(), expected, rtol=2**-8, atol=1e-6)
    assert scaled_mm == [(1 / 64, 1 / 64)]


def test_whole_numbers_are_multiplied_with_the_scale_of_their_dtype(int_mm):
    one = KERNELS["spmm_dense_cublas_int_mm"]
    a, b = one.arrange(operands(NofM(2, 4), INT8, m=5, k=40, n=1), (1,))
    made = one.prepare(a, b)
    expected = (a.dense.double() @ b.double() / 32**2).to(torch.bfloat16)
    assert torch.equal(made.run(b), expected)
    assert made.note == {"sums": "int32", "weight": "zeros in place", "padded": "32x48x16"}
    assert made.executed == 2 * 32 * 48 * 16


@pytest.mark.parametrize(("k", "tiles"), [(32, 2), (96, 2), (64, 4), (192, 4), (256, 8)])
def test_codes_of_four_bits_are_packed_as_wide_as_they_divide(k, tiles, int4pack):
    one = KERNELS["spmm_dense_int4pack_gpu"]
    at = case("spmm", Block(1, 32, 0.5), W4A16, m=24, k=k, n=3)
    asked = question(at, make_operands(at))
    a, b = one.arrange(asked.operands, (1,))
    made = one.prepare(a, b)
    assert check(made.run(b), asked) < 1
    assert (made.values, made.metadata) == (24 * k // 2, 24 * k // 32 * 2 * 2)
    assert made.executed == 2 * 24 * k * 16 and made.note["algorithm"] == f"{tiles} tiles"


def test_what_its_packing_does_not_divide_is_said():
    said = refusals("spmm_dense_int4pack_gpu", OLD, m=20, k=48, n=1)
    assert said == [
        "needs sm_80, which Made Up G75 lacks",
        "needs m divisible by 8, got 20",
        "needs k divisible by 32, got 48",
    ]


# cuSPARSE


def test_the_first_algorithm_has_columns_and_the_others_rows(library):
    orders = {}
    for name in CSR:
        library.asked.clear()
        one = KERNELS[name]
        of = one.arrange(operands(), (1,))
        made = one.prepare(*of)
        orders[name] = [
            arguments[-1] for called, arguments in library.asked if called == "cusparseCreateDnMat"
        ]
        assert ("cusparseSpMM_preprocess" in library.names) == (name != "spmm_csr_cusparse_2")
        assert made.note["workspace"] == WORKSPACE
    assert orders == {CSR[0]: [1, 1], CSR[1]: [2, 2], CSR[2]: [2, 2]}


def test_a_call_asks_for_nothing_but_the_product(library):
    a, b = operands()
    made = KERNELS["spmm_csr_cusparse_2"].prepare(a, b)
    library.asked.clear()
    made.run(other := b.clone())
    assert library.names == ["cusparseSetStream", "cusparseDnMatSetValues", "cusparseSpMM"]
    assert library.asked[1][1][1] == other.data_ptr()


def test_descriptors_go_with_the_kernel(library):
    made = KERNELS["spmm_csr_cusparse_2"].prepare(*operands())
    assert not library.gone
    library.asked.clear()
    del made
    gc.collect()
    assert sorted(library.gone) == [1, 2, 3]


@pytest.mark.parametrize(("status", "error"), [(10, Refused), (4, Refused), (3, libraries.Failed)])
def test_what_the_library_does_not_support_is_refused(status, error, library):
    library.status = status
    with pytest.raises(error, match=r"cusparseCreateCsr: (operation not supported|invalid value)"):
        KERNELS["spmm_csr_cusparse_2"].prepare(*operands())


def test_wide_row_pointers_are_refused(library):
    a, _ = operands()
    object.__setattr__(a, "starts", a.starts.long())
    with pytest.raises(Refused, match="indices are 32 bits wide"):
        cusparse.csr(a)


def test_sixteen_bits_are_the_third_algorithms_alone():
    """On them the library silently takes the third for the others."""
    assert {name: "float16" in KERNELS[name].dtypes for name in CSR} == dict(
        zip(CSR, (False, False, True), strict=True)
    )


def test_blocks_of_equal_rows_are_padded_with_none():
    a, _ = operands(Block(4, 4, 0.5), m=10, k=12, n=1)
    held = bell(a, 4)
    assert held.padded == (12, 12) and held.values.shape == (12, held.columns.shape[1] * 4)
    assert held.columns.dtype == torch.int32
    none = operands(Unstructured(1.0), m=3, k=5, n=1)[0]
    assert bell(none, 4).columns.tolist() == [[NONE]]


def test_the_real_library_takes_what_we_describe():
    """Descriptors are the host's: the real library checks them without a GPU, and tells what it was told."""
    try:
        real = cusparse.library()
    except OSError as failed:
        pytest.skip(f"no cuSPARSE here: {failed}")
    a, b = operands(Block(4, 4, 0.5), "bfloat16", m=12, k=16, n=5)
    blocks = KERNELS["spmm_bsr_cusparse"].prepare.__globals__["blocks_of"](a, 4, 4, "cpu")
    for made in (cusparse.bsr(blocks), cusparse.blocked_ell(bell(a, 4))):
        rows, columns, nonzeros = (c_int64() for _ in range(3))
        assert real.cusparseSpMatGetSize(made, byref(rows), byref(columns), byref(nonzeros)) == 0
        assert (rows.value, columns.value) == (12, 16)
    numbers, pointers, kinds = (
        [c_int64() for _ in range(3)],
        [c_void_p() for _ in range(3)],
        [c_int() for _ in range(4)],
    )
    assert real.cusparseCsrGet(cusparse.csr(a), *map(byref, (*numbers, *pointers, *kinds))) == 0
    assert [one.value for one in numbers] == [12, 16, a.nonzeros]
    assert [one.value for one in pointers] == [a.starts.data_ptr(), a.columns.data_ptr(), a.values.data_ptr()]
    assert [one.value for one in kinds] == [2, 2, 0, 14]
    for order, leading in ((cusparse.ROWS, 5), (cusparse.COLUMNS, 16)):
        numbers, pointer, kinds = [c_int64() for _ in range(3)], c_void_p(), [c_int() for _ in range(2)]
        assert real.cusparseDnMatGet(cusparse.dense(b, order), *map(byref, (*numbers, pointer, *kinds))) == 0
        assert [one.value for one in (*numbers, pointer, *kinds)] == [16, 5, leading, b.data_ptr(), 14, order]


# 2:4


def legal(a):
    """By looking at every aligned four of every row."""
    mask = torch.zeros(a.shape, dtype=torch.bool)
    mask[torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths), a.columns.long()] = True
    return all(mask[:, at : at + 4].sum(1).max() <= 2 for at in range(0, a.shape[1], 4))


def taken(a):
    try:
        return two_of_four.laid_out(a, a.shape[0], 4 * ceil(a.shape[1] / 4)) is not None
    except Refused as reason:
        assert "of an aligned four" in str(reason)
        return False


@given(st.integers(1, 5), st.integers(1, 20), st.sampled_from((0.0, 0.4, 0.7, 0.9, 1.0)), st.integers(0, 99))
def test_a_matrix_is_two_of_four_where_every_four_is(m, k, sparsity, seed):
    a, _ = make_operands(case("spmm", Unstructured(sparsity), seed=seed, m=m, k=k, n=1))
    assert taken(a) == legal(a)


@given(st.integers(1, 4), st.integers(2, 12), st.integers(1, 40))
def test_a_pattern_is_two_of_four_where_it_cannot_be_otherwise(n, m, k):
    """The rule against the fullest choice each four can meet: all placements of all groups are possible."""
    if n >= m:
        return
    fullest = 0
    for first in range(0, k, 4):
        four = range(first, min(first + 4, k))
        groups = [column // m for column in four]
        fullest = max(fullest, sum(min(n, groups.count(group)) for group in set(groups)))
    assert two_of_four.most(n, m, k) == fullest
    a, _ = make_operands(case("spmm", NofM(n, m), m=3, k=k, n=1))
    assert fullest > 2 or legal(a)


LEGAL = (NofM(1, 2), NofM(1, 3), NofM(1, 4), NofM(2, 4), NofM(1, 8), NofM(2, 8), NofM(1, 5), NofM(2, 16))
ILLEGAL = (NofM(3, 4), NofM(2, 3), NofM(2, 6), NofM(4, 8), NofM(3, 16))


@pytest.mark.parametrize("name", TWO_OF_FOUR)
def test_masks_that_are_two_of_four_run_as_that(name, semi_structured, fresh):
    one = KERNELS[name]
    for pattern in (*LEGAL, VNofM(4, 2, 8), GroupedNofM(1, 4, 2)):
        at = case("spmm", pattern, "bfloat16", m=24, k=40, n=5)
        assert one.fits(at) and one.refusals(at, Gpu()) == []
    of = make_operands(case("spmm", NofM(1, 8), "bfloat16", m=24, k=40, n=5))
    made = one.prepare(*one.arrange(of, (1,)))
    rows, columns, tokens = map(int, made.note["padded"].split("x"))
    assert made.executed_pattern == "2:4" and made.executed == rows * columns * tokens
    assert rows >= 24 and columns >= 40 and tokens == 8


@pytest.mark.parametrize("name", TWO_OF_FOUR)
@pytest.mark.parametrize("pattern", [*ILLEGAL, VNofM(4, 3, 8), GroupedNofM(3, 4, 1)], ids=str)
def test_other_masks_are_refused_in_a_sentence(name, pattern, semi_structured):
    at = case("spmm", pattern, "bfloat16", m=24, k=48, n=8)
    (said,) = KERNELS[name].refusals(at, Gpu())
    assert said.startswith(f"{pattern} may keep ") and said.endswith(
        " of an aligned four; sparse tensor cores take 2"
    )


@pytest.mark.parametrize("name", TWO_OF_FOUR)
def test_a_zero_with_a_sign_is_refused_rather_than_lost(name, semi_structured):
    one = KERNELS[name]
    a, b = one.arrange(operands(NofM(2, 4), "float16", m=32, k=64, n=8), (1,))
    a.values[3] = 0.0
    one.prepare(a, b)
    a, b = one.arrange(operands(NofM(2, 4), "float16", m=32, k=64, n=8), (1,))
    a.values[3] = -0.0
    with pytest.raises(Refused, match=r"a stored -0\.0 would be lost"):
        one.prepare(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_torchs_conversion_there_and_back(dtype):
    """Of masks with fewer than two of four, too: what it fills up with is zero."""
    for pattern in LEGAL:
        a, _ = make_operands(case("spmm", pattern, str(dtype).removeprefix("torch."), m=20, k=50, n=1))
        wide = two_of_four.laid_out(a, 32, 64)
        packed, meta = _semi_structured_conversions.sparse_semi_structured_from_dense_cutlass(wide)
        assert (packed.shape, meta.shape, meta.dtype) == ((32, 32), (32, 4), torch.int16)
        back = _semi_structured_conversions.sparse_semi_structured_to_dense_cutlass(packed, meta)
        assert torch.equal(back, wide) and torch.equal(back[:20, :50], a.dense)


def test_the_library_searches_once_a_shape(semi_structured, fresh):
    one = KERNELS["spmm_nm_cusparselt"]
    of = one.arrange(operands(NofM(2, 4), "bfloat16", m=32, k=64, n=5), (1,))
    made = [one.prepare(*of) for _ in range(3)]
    assert semi_structured == [((64, 8), (None, None, None, True))]
    assert made[2].note == {"algorithm": 3, "split_k": 2, "cusparselt": 700, "padded": "32x64x8"}
    assert made[0].values == 32 * 64 and made[0].metadata == 32 * 64 // 8  # two bits for each of half


def direct(dtype="bfloat16", pattern=None, **sizes):
    """The kernel without torch, and its operands as it wants them."""
    one = KERNELS[DIRECT]
    return one, one.arrange(
        operands(pattern or NofM(2, 4), dtype, **(sizes or {"m": 32, "k": 64, "n": 5})), (1,)
    )


def test_cusparselt_is_asked_in_its_order_and_searches_once_a_shape(sparse_lt):
    one, of = direct()
    one.prepare(*of)
    kinds = ("StructuredDescriptorInit", "DenseDescriptorInit", "DenseDescriptorInit")
    described = (*kinds, "MatmulDescriptorInit", "MatmulAlgSelectionInit", "MatmulPlanInit")
    compressed = ("SpMMACompressedSize2", "SpMMACompress2")
    searched = ("MatmulGetWorkspace", "MatmulSearch", *3 * ("MatmulAlgGetAttribute",))
    end = ("MatmulGetWorkspace", "GetVersion")
    assert sparse_lt.names == ["Init", *described, *compressed, *searched, *end]
    sparse_lt.asked.clear()
    made = one.prepare(*of)
    assert sparse_lt.names == [*compressed, *end]
    assert made.note.pop("search_seconds")
    assert made.note == {"algorithm": 7, "split_k": 2, "mode": 1, "cusparselt": 800, "padded": "32x64x8"}
    assert made.values == 32 * 64 and made.metadata == 32 * 64 // 8
    assert made.holds[2].numel() == 2 * WORKSPACE  # as the search left it
    one.prepare(*direct(m=32, k=64, n=9)[1])
    assert sparse_lt.names.count("MatmulSearch") == 1


def test_a_call_of_cusparselt_is_the_product_alone_on_the_live_operand(sparse_lt):
    one, (a, b) = direct(m=32, k=64, n=8)
    made = one.prepare(a, b)
    sparse_lt.asked.clear()
    other = (b * 2).t().contiguous().t()
    assert torch.equal(made.run(other), made.run(other.clone()))
    assert sparse_lt.names == ["Matmul"] * 2 and sparse_lt.asked[0][1][4] == other.data_ptr()


def test_eight_bits_come_out_of_cusparselt_with_both_scales(sparse_lt):
    one, (a, b) = direct(FLOAT8)
    made = one.prepare(a, b)
    answer = made.run(b)
    assert answer.dtype == torch.bfloat16 and made.note["padded"] == "32x64x16"
    assert torch.allclose(answer.double(), a.dense.double() @ b.double() / 64**2, rtol=2**-8, atol=1e-6)
    assert [one[1][2]._obj.value for one in sparse_lt.asked if one[0] == "cusparseLtMatmul"] == [2.0**-12]


def test_whole_numbers_come_out_of_cusparselt_added_up_exactly(sparse_lt):
    one, (a, b) = direct(INT8)
    made = one.prepare(a, b)
    expected = (a.dense.double() @ b.double() / 32**2).to(torch.bfloat16)
    assert torch.equal(made.run(b), expected) and made.note["padded"] == "32x64x16"
    assert [one[1][2]._obj.value for one in sparse_lt.asked if one[0] == "cusparseLtMatmul"] == [2.0**-10]


@pytest.mark.parametrize(
    "function", ["Init", "StructuredDescriptorInit", "MatmulDescriptorInit", "SpMMACompress2", "MatmulSearch"]
)
def test_what_cusparselt_does_not_support_is_refused_in_its_words(function, sparse_lt):
    one, of = direct()
    sparse_lt.failing[f"cusparseLt{function}"] = 10
    said = rf"cuSPARSELt does not take it: cusparseLt{function}: operation not supported \(10\)"
    with pytest.raises(Refused, match=said):
        one.prepare(*of)
    sparse_lt.failing[f"cusparseLt{function}"] = 3
    with pytest.raises(libraries.Failed, match=rf"cusparseLt{function}: invalid value \(3\)"):
        one.prepare(*of)


def test_a_search_that_failed_is_done_again(sparse_lt):
    one, of = direct()
    sparse_lt.failing["cusparseLtMatmulSearch"] = 10
    with pytest.raises(Refused):
        one.prepare(*of)
    sparse_lt.failing.clear()
    assert one.prepare(*of).note["algorithm"] == 7


def test_the_real_cusparselt_has_what_is_asked():
    """Its functions by name; what they do takes a GPU."""
    try:
        real = cusparselt.library()
    except OSError as failed:
        pytest.skip(f"no cuSPARSELt here: {failed}")
    assert real.cusparseLtGetErrorString(10) == b"operation not supported"


def test_a_missing_cusparselt_is_said(monkeypatch):
    def absent():
        raise OSError("libcusparseLt.so.0: cannot open shared object file")

    monkeypatch.setattr(cusparselt, "library", absent)
    (said,) = refusals(DIRECT, Gpu())
    assert said == (
        "needs cuSPARSELt, which a torch for CUDA on Linux brings along: "
        "libcusparseLt.so.0: cannot open shared object file"
    )


@pytest.mark.parametrize("name", [*SCALED, DIRECT])
def test_eight_bits_need_a_chip_that_multiplies_them(name, sparse_lt):
    at = case("spmm", NofM(2, 4), FLOAT8, m=64, k=64, n=8)
    ampere = Gpu(architectures(8, 6), "Made Up G86")
    assert [
        one for one in KERNELS[name].refusals(at, ampere) if "sm_89" in one and "Made Up G86 lacks" in one
    ]
    assert not KERNELS[name].refusals(at, Gpu(architectures(8, 9)))


@pytest.mark.parametrize("name", ["spmm_dense_cublas_int_mm", DIRECT])
def test_whole_numbers_need_a_chip_that_multiplies_them(name, sparse_lt):
    at = case("spmm", NofM(2, 4), INT8, m=64, k=64, n=8)
    assert [one for one in KERNELS[name].refusals(at, OLD) if "sm_80" in one and "Made Up G75 lacks" in one]
    assert not KERNELS[name].refusals(at, Gpu(architectures(8, 0)))


def test_a_chip_without_a_cutlass_kernel_is_a_refusal_in_torchs_words(monkeypatch):
    one = KERNELS["spmm_nm_cutlass"]
    of = one.arrange(operands(NofM(2, 4), "bfloat16", m=32, k=64, n=8), (1,))

    def no_kernel(*_):
        raise RuntimeError("mad_op : Supported only on GPUs with compute capability 8.x")

    monkeypatch.setattr(torch, "_sparse_semi_structured_mm", no_kernel)
    with pytest.raises(Refused, match="torch does not take it: mad_op : Supported only"):
        one.prepare(*of)

    def broken(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "_sparse_semi_structured_mm", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        one.prepare(*of)


def test_a_chip_that_cusparselt_does_not_know_is_a_refusal(semi_structured, monkeypatch):
    one = KERNELS["spmm_nm_cusparselt"]

    def unknown(*_):
        raise RuntimeError("CUDA error: architecture mismatch when calling `cusparseLtInit(&handle)`")

    monkeypatch.setattr(torch, "_cslt_compress", unknown)
    with pytest.raises(Refused, match="torch does not take it: CUDA error: architecture mismatch"):
        one.prepare(*one.arrange(operands(NofM(2, 4), "bfloat16", m=32, k=64, n=8), (1,)))


def test_the_products_are_torchs_by_these_signatures():
    """What is called by position stands there, in every torch that is taken."""
    terms = [one.name for one in torch.ops.aten._cslt_sparse_mm.default._schema.arguments]
    assert terms[:8] == [
        *("compressed_A", "dense_B", "bias", "alpha", "out_dtype", "transpose_result", "alg_id", "split_k"),
    ]
    assert len(terms) == 9 and terms[8].startswith("split_k_")
    terms = [one.name for one in torch.ops.aten._sparse_semi_structured_mm.default._schema.arguments]
    assert terms[:3] == ["mat1", "mat1_meta", "mat2"]


# Padding


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_padding_keeps_the_order_and_copies_only_where_it_must(order):
    b = torch.arange(15.0).view(3, 5)
    b = b.t().contiguous().t() if order == "columns" else b
    wider, wide = padded(b, 4, 8, order)
    assert torch.equal(wider(b)[:3, :5], b) and wider(b).data_ptr() == wide.data_ptr()
    assert wider(b)[3:].count_nonzero() == wider(b)[:, 5:].count_nonzero() == 0
    assert wider(b).stride() == ((1, 4) if order == "columns" else (8, 1))
    same, none = padded(b, 3, 5, order)
    assert same(b) is b and not none.numel()


# Triton


def test_the_quickest_parameters_are_taken_and_said(triton, fresh):
    triton.clock["time"] = lambda meta: 1 + (meta["num_warps"] != 8) + abs(meta["num_stages"] - 3)
    one = KERNELS[TRITON]
    of = operands(Block(32, 32, 0.5), "bfloat16", m=64, k=96, n=70)
    made = one.prepare(*of)
    assert (made.note["num_warps"], made.note["num_stages"]) == (8, 3)
    assert made.note["parameters"] == "tuned" and made.note["algorithm"] == "32x32"
    count = len(triton.tried)
    one.prepare(*of)
    assert len(triton.tried) == count < 30


def test_torchs_own_parameters_stand_where_none_is_quicker(triton, fresh):
    made = KERNELS[TRITON].prepare(*operands(Block(16, 16, 0.5), "float16", m=64, k=96, n=5))
    assert made.note["parameters"] == "torch's own, none was quicker"
    assert made.executed % (2 * 16 * 16 * 16) == 0


def test_no_parameters_that_run_are_a_refusal(triton, fresh):
    triton.clock["time"] = lambda meta: 1 / 0
    with pytest.raises(Refused, match="with none of the parameters tried: ZeroDivisionError"):
        KERNELS[TRITON].prepare(*operands(Block(16, 16, 0.5), "float16", m=64, k=96, n=5))


@pytest.mark.parametrize(
    ("block", "used"), [((32, 64), "32x64"), (48, "16x16"), (256, "128x128"), (8, "16x16")]
)
def test_blocks_are_powers_of_two(block, used, triton, fresh):
    height, width = block if isinstance(block, tuple) else (block, block)
    made = KERNELS[TRITON].prepare(*operands(Block(height, width, 0.5), "float16", m=512, k=512, n=16))
    assert made.note["algorithm"] == used


# What is refused before anything is made


def refusals(name, device, pattern=None, **sizes):
    one = KERNELS[name]
    pattern = pattern or (NofM(2, 4) if name in TWO_OF_FOUR else Unstructured(0.5))
    dtype = "bfloat16" if "bfloat16" in one.dtypes else one.dtypes[0]
    at = case("spmm", pattern, dtype, **(sizes or {"m": 64, "k": 64, "n": 1}))
    assert one.fits(at)
    return one.refusals(at, device)


NEWER = {name for name in VENDORS if {"bfloat16", "tfloat32"} & set(KERNELS[name].dtypes)} - set(CSR[:2])


@pytest.mark.parametrize("name", sorted(NEWER))
def test_too_old_a_chip_is_said(name, library, semi_structured, triton):
    said = refusals(name, OLD)
    assert [one for one in said if "sm_80" in one and "which Made Up G75 lacks" in one]
    assert not [one for one in refusals(name, Gpu()) if "lacks" in one]


@pytest.mark.parametrize("name", CUSPARSE)
def test_a_missing_cusparse_is_said(name, monkeypatch):
    def absent():
        raise OSError("libcusparse.so.12: cannot open shared object file")

    monkeypatch.setattr(cusparse, "library", absent)
    (said,) = [one for one in refusals(name, Gpu()) if "cuSPARSE" in one]
    assert said == (
        "needs cuSPARSE 12, which a torch for CUDA 12 or 13 brings along: "
        "libcusparse.so.12: cannot open shared object file"
    )


def test_a_torch_without_cusparselt_is_said(monkeypatch):
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: False)
    (said,) = refusals("spmm_nm_cusparselt", Gpu())
    assert said == "needs a torch built with cuSPARSELt, which wheels for CUDA on Linux are"


@pytest.mark.parametrize("name", [TRITON, *COMPILED])
def test_a_missing_triton_is_said(name, monkeypatch):
    monkeypatch.setattr(terms, "find_spec", lambda name: None)
    assert "needs Triton, which comes with torch for CUDA on Linux: pip install triton" in refusals(
        name, Gpu()
    )


@pytest.mark.parametrize("name", [*DENSE, *TWO_OF_FOUR])
def test_too_large_a_dense_form_is_said(name, semi_structured, eager):
    assert any("needs the dense form" in one for one in refusals(name, Gpu(), m=2**16, k=2**15, n=1))


@pytest.mark.parametrize("name", ["spmm_bsr_cusparse", "spmm_bell_cusparse", TRITON])
def test_blocks_that_would_fill_up_are_said(name, library, triton):
    (said,) = refusals(name, Gpu(), Unstructured(0.9), m=2**11, k=2**11, n=8)
    assert "blocks of 16x16 would be 10% full" in said


def test_every_vendor_kernel_has_its_tests():
    """None is left out here by being forgotten."""
    names = {name for name, one in KERNELS.items() if one.on == "cuda" and one.op == "spmm"}
    told = ("cublas", "cusparse", "cusparselt", "cutlass", "int4pack", "torch")
    assert {name for name in names if set(name.split("_")) & set(told)} == set(VENDORS)


def test_dtypes_are_known():
    for name in VENDORS:
        assert set(KERNELS[name].dtypes) <= set(DTYPES)


@pytest.mark.parametrize("name", VENDORS)
def test_terms_are_known_without_a_gpu(name):
    """On any machine, with no library in its place: sentences, and no error."""
    assert all(isinstance(one, str) and one for one in refusals(name, OLD))
