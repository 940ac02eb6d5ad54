"""Kernels: every one there is, on every pattern; one file is all that adding one takes."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from suite import conformance, native
from suite.case import DTYPES, case
from suite.conformance import Trial, cases_for, examine, posed, trials
from suite.cpu.device import Cpu
from suite.formats.tiled import tiled
from suite.kernel import KERNELS, Prepared, Refused, kernel
from suite.op import discover_parts
from suite.pattern import PATTERNS
from suite.patterns.block import Block
from suite.patterns.unstructured import Unstructured
from suite.registry import discover

discover_parts()
discover(folders=("kernels",))

HERE = [one for one in KERNELS.values() if one.on == "cpu"]
TILED = Path(conformance.__file__).parent.parent / "kernels/spmm/spmm_csr_tiled.cpp"


@pytest.fixture(scope="module")
def device():
    return Cpu()


@pytest.mark.paper("sten")
@pytest.mark.parametrize("one", HERE, ids=str)
def test_a_kernel_is_right_on_every_pattern(one, device):
    verdicts = [examine(one, trial, device) for trial in cases_for(one)]
    wrong = [
        f"{one.trial}: {one.outcome}: {one.note}" for one in verdicts if one.outcome in ("wrong", "broken")
    ]
    assert not wrong, "\n".join(wrong)
    refused = sorted({one.note for one in verdicts if one.outcome == "refused"})
    if all(one.outcome == "refused" for one in verdicts):
        pytest.skip("; ".join(refused))


@pytest.mark.parametrize("one", KERNELS.values(), ids=str)
def test_a_kernel_is_named_after_its_file_and_says_what_it_is(one):
    file = Path(one.prepare.__code__.co_filename)
    assert file.stem == one.name
    assert one.about


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_pattern_has_trials(dtype):
    covered = {type(trial.case.pattern) for trial in trials("spmm", dtype)}
    assert covered >= {one for one in PATTERNS.values() if not (one.given or one.at_run_time or one.ops)}


@pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))
@pytest.mark.parametrize(
    "flags", [("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx")], ids=" ".join
)
def test_tiled_rows_are_right_for_lesser_processors(flags, device):
    """What another machine would compile; a build for AVX2 on one with AVX-512 is the same code."""
    tiles = pytest.importorskip("suite.kernels.spmm.spmm_csr_tiled")
    if device.isa and "avx2" not in device.isa:
        pytest.skip("these are flags for x86 with AVX2")
    library = native.load(TILED, *flags)
    assert library.lanes() < 16

    @kernel(op="spmm", dtypes=("float32", "bfloat16"), keep=False)
    def lesser(a, b):
        return tiles.prepare(a, b, library)

    verdicts = [examine(lesser, trial, device) for trial in cases_for(lesser)]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


@pytest.mark.parametrize("n", [1, 2, 4, 5, 8, 9, 16, 31, 63, 64, 65, 128, 200])
@pytest.mark.parametrize("depth", [1, 7, 64, 1000])
def test_tiled_rows_at_any_width_and_depth(n, depth, device, monkeypatch):
    tiles = pytest.importorskip("suite.kernels.spmm.spmm_csr_tiled")
    monkeypatch.setattr(tiles, "depth_of", lambda a, n: depth)
    one = tiles.spmm_csr_tiled
    for dtype in one.dtypes:
        verdict = examine(one, Trial(case("spmm", Unstructured(0.7), dtype, m=40, k=90, n=n)), device)
        assert verdict.outcome in ("ok", "refused"), verdict


@pytest.mark.parametrize("n", [1, 3, 5, 64, 300])
@pytest.mark.parametrize("depth", [7, 1000])
def test_a_row_that_threads_share_is_summed_up(n, depth, device, monkeypatch):
    tiles = pytest.importorskip("suite.kernels.spmm.spmm_csr_tiled")
    monkeypatch.setattr(tiles, "depth_of", lambda a, width: depth)
    monkeypatch.setattr(tiles, "LEAST", 10)
    monkeypatch.setattr(tiles, "ALONE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    held = []
    monkeypatch.setattr(tiles, "tiled", lambda *of: held.append(tiled(*of)) or held[-1])
    for dtype in tiles.spmm_csr_tiled.dtypes:
        trial = Trial(case("spmm", Unstructured(0.7), dtype, m=40, k=90, n=n), "one long row")
        assert examine(tiles.spmm_csr_tiled, trial, device).outcome == "ok"
        assert held[-1].spills > 1


# Kernels that are wrong, each in its own way.


def right(a, b):
    return (a.dense.float() @ b.float()).to(b.dtype)


def cached(a, b):
    answer = right(a, b)
    return lambda b: answer


def cached_copy(a, b):
    answer = right(a, b)
    return lambda b: answer.clone()


def cached_by_pointer(a, b):
    kept = {}
    return lambda b: kept.setdefault(b.data_ptr(), right(a, b)).clone()


def reading_what_prepare_saw(a, b):
    seen = b
    return lambda b: right(a, seen)


def leaving(a, b):
    raise SystemExit(0)


def unwritten(a, b):
    out = right(a, b)

    def run(b):
        out[:1] = right(a, b)[:1]
        return out

    return run


def meddling(a, b):
    def run(b):
        answer = right(a, b)
        b.zero_()
        return answer

    return run


def meddling_with_weights(a, b):
    def run(b):
        answer = right(a, b)
        if a.nonzeros:
            a.values[0] += 1
        return answer

    return run


def boasting(a, b):
    return Prepared(lambda b: right(a, b), executed=2 * a.nonzeros * b.shape[1] - 1)


def weightless(a, b):
    return Prepared(lambda b: right(a, b), values=a.values.nbytes // 2, metadata=0, holds=(a.values,))


def hiding(a, b):
    return Prepared(
        lambda b: right(a, b), values=a.values.nbytes, metadata=a.columns.nbytes, holds=(a.values,)
    )


def raising(a, b):
    raise KeyError("lost")


def returning(a, b):
    return 42


WRONGS = {
    cached: ("wrong", "should be"),
    cached_copy: ("wrong", "should be"),
    cached_by_pointer: ("wrong", "should be"),
    reading_what_prepare_saw: ("wrong", "should be"),
    leaving: ("broken", "SystemExit: 0"),
    unwritten: ("wrong", "is nan"),
    meddling: ("wrong", "changes its operand b"),
    meddling_with_weights: ("wrong", "changes its operand a"),
    boasting: ("wrong", "FLOPs executed; the nonzeros alone are"),
    weightless: ("wrong", "bytes of values and metadata; the nonzeros alone are"),
    hiding: ("wrong", "name each buffer in holds"),
    raising: ("broken", "KeyError: 'lost'"),
    returning: ("broken", "return run, or Prepared"),
}


@pytest.fixture
def trial():
    made = Trial(case("spmm", Unstructured(0.5), m=17, k=33, n=5))
    posed.cache_clear()
    yield made
    posed.cache_clear()  # one of them spoils its operands


def meddling_and_raising(a, b):
    a.values[0] += 1
    raise KeyError("lost")


@pytest.mark.parametrize("vandal", [meddling_with_weights, meddling_and_raising])
def test_a_vandal_leaves_the_operands_to_the_next_as_they_were(vandal, trial, device):
    before = posed(trial).operands[0].values.clone()
    assert examine(kernel(op="spmm", keep=False)(vandal), trial, device).outcome != "ok"
    assert torch.equal(posed(trial).operands[0].values, before)


def test_a_refusal_by_the_operand_itself_is_no_failure(trial, device):
    def choosy(a, b):
        raise Refused("too many nonzeros")

    verdict = examine(kernel(op="spmm", keep=False)(choosy), trial, device)
    assert (verdict.outcome, verdict.note) == ("refused", "too many nonzeros")


def test_square_blocks_are_refused_where_they_would_fill(device):
    oblong = case("spmm", Block(1, 16, 0.9), m=2**12, k=2**11, n=8)
    assert any("12% full" in one for one in KERNELS["spmm_bsr_torch"].refusals(oblong, device))
    assert not KERNELS["spmm_bsr_scipy"].refusals(oblong, device)


def test_compiling_waits_for_the_first_call(monkeypatch):
    of, called = posed(Trial(case("spmm", Unstructured(0.5), m=17, k=33, n=5))), []
    monkeypatch.setattr(torch, "compile", lambda layer, **_: lambda x: called.append(x) or x)
    compiled = KERNELS["spmm_dense_compiled"].prepare(*of.operands)
    assert compiled.hidden and not called
    compiled.run(of.operands[1])
    assert called
    numbas = pytest.importorskip("suite.kernels.spmm.spmm_csr_numba")
    called.clear()
    monkeypatch.setattr(numbas, "jitted", lambda vector: lambda *_: called.append(vector))
    if numbas.ABSENT:
        pytest.skip(numbas.ABSENT)
    made = numbas.spmm_csr_numba.prepare(*of.operands)
    assert not called
    made.run(of.operands[1])
    assert called == [False]


@pytest.mark.parametrize("prepare", WRONGS, ids=lambda prepare: prepare.__name__)
def test_a_wrong_kernel_is_found_out(prepare, trial, device):
    verdict = examine(kernel(op="spmm", keep=False)(prepare), trial, device)
    outcome, says = WRONGS[prepare]
    assert (verdict.outcome, says in verdict.note) == (outcome, True), verdict


def test_a_bare_run_is_enough(trial, device):
    one = kernel(op="spmm", keep=False)(lambda a, b: lambda b: right(a, b))
    assert examine(one, trial, device).outcome == "ok"


@pytest.mark.paper("sten")
def test_a_layout_of_ones_own_needs_no_more_than_its_kernel(device):
    """Rows and columns as a list of pairs: converted, multiplied, and right wherever any kernel must be."""

    @kernel(op="spmm", dtypes=("float32",), keep=False)
    def pairs(a, b):
        rows = torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths)
        held = torch.sparse_coo_tensor(torch.stack((rows, a.columns.long())), a.values, a.shape)
        return Prepared(lambda b: held @ b, holds=(held,))

    verdicts = [examine(pairs, trial, device) for trial in cases_for(pairs)]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


def test_a_refusal_is_not_a_failure(trial, device):
    one = kernel(op="spmm", keep=False, divides={"k": 32}, refuse=lambda case, device: ["never mind"])(right)
    verdict = examine(one, trial, device)
    assert verdict.outcome == "refused"
    assert verdict.note == "needs k divisible by 32, got 33; never mind"


def test_live_operands_come_in_the_order_that_was_asked_for(trial, device):
    seen = []

    def strided(a, b):
        seen.append(b.stride())

        def run(b):
            seen.append(b.stride())
            return right(a, b)

        return run

    for order in ("rows", "columns"):
        examine(kernel(op="spmm", keep=False, live_order=order)(strided), trial, device)
    assert seen == [(5, 1)] * 4 + [(1, 33)] * 4


def test_a_kernel_of_some_patterns_gets_no_others():
    one = kernel(op="spmm", keep=False, patterns=(Unstructured,))(right)
    assert {type(trial.case.pattern) for trial in cases_for(one)} == {Unstructured}


def test_a_kernel_that_compiles_for_each_shape_gets_one_trial_a_dtype():
    one = replace(KERNELS["spmm_dense_mm"], extents=("full",))
    assert [trial.case.dtype for trial in islice(cases_for(one), 9)] == list(one.dtypes)


@pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))
def test_executed_counts_the_padding_of_narrow_panels():
    of = posed(Trial(case("spmm", Unstructured(0.5), m=17, k=33, n=5)))
    made = KERNELS["spmm_csr_tiled"].prepare(*of.operands)
    assert isinstance(made.executed, int) and made.executed >= 2 * of.operands[0].nonzeros * 5
    assert torch.equal(made.run(of.operands[1]), made.holds[-1])
