"""Attention over kept blocks in C++: right for every mask and set of instructions, its work counted."""

from ctypes import c_float
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import conformance, native
from suite.case import case
from suite.conformance import cases_for, examine
from suite.cpu.device import Cpu
from suite.kernel import kernel
from suite.op import discover_parts
from suite.ops.attention import answer
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.sparse import from_positions

discover_parts()
discover(folders=("kernels",))

pytestmark = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))

block = pytest.importorskip("suite.kernels.attention.attention_block")
amx = pytest.importorskip("suite.kernels.attention.attention_block_amx")

HERE = Path(conformance.__file__).parent.parent / "kernels/attention"
NO_PAIRS, NO_WIDE = ("-mno-avx512bf16",), ("-mno-avx512f",)
PLAIN = (*NO_WIDE, "-mno-avx2", "-mno-fma", "-mno-avx")
EMULATED = ("-DEMULATE_TILES",)
BUILDS = {
    "this machine": ("attention_block.cpp", ()),
    "no pairs": ("attention_block.cpp", NO_PAIRS),
    "no AVX-512": ("attention_block.cpp", NO_WIDE),
    "no AVX": ("attention_block.cpp", PLAIN),
    "tiles": ("attention_block_amx.cpp", EMULATED),
    "tiles, no AVX-512": ("attention_block_amx.cpp", (*EMULATED, *NO_WIDE)),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Of the sum of |weight value|: roundings of the weights and of the answer, and those of float32 before.
ALLOWED = {torch.float32: 4e-6, torch.bfloat16: 2.01 * 2**-8}
ON_X86 = "avx2" in Cpu().isa


@pytest.fixture(scope="module", params=BUILDS)
def build(request):
    """A library, its dtypes, and the smallest block that it takes."""
    source, flags = BUILDS[request.param]
    if not ON_X86 and any(flag.startswith("-m") for flag in flags):
        pytest.skip("these are flags for x86")
    library = native.load(HERE / source, *flags)
    return (library, ("bfloat16",), amx.LEAST) if "amx" in source else (library, tuple(DTYPES), 16)


def masked(kept):
    """The mask of kept[head, query block, key block]."""
    heads, across, _ = kept.shape
    rows, columns = kept.reshape(-1, across).nonzero()
    starts = np.searchsorted(rows, np.arange(heads * across + 1))
    return from_positions(starts, columns, torch.ones(len(rows)), (heads * across, across), Unstructured(0.5))


def operands(kept, groups, d, size, dtype, seed=0):
    heads, across, _ = kept.shape
    drawn = torch.Generator().manual_seed(seed)
    shapes = ((heads, across * size, d), *[(groups, across * size, d)] * 2)
    return masked(kept), *(torch.randn(shape, generator=drawn).to(dtype) for shape in shapes)


def attend(library, a, q, k, v, causal=False):
    made = block.prepare(library, a, q, k, causal)
    return made.run(q, k, v).clone()


def hold(found, a, q, k, v, causal=False):
    """Against float64, with an error that roundings explain."""
    q, k, v = q.double(), k.double(), v.double()
    expected, size = answer(a, q, k, v, causal), answer(a, q, k, v.abs(), causal)
    assert bool(((found.double() - expected).abs() <= ALLOWED[found.dtype] * size).all())


def lower(kept):
    """What a causal mask keeps of it, and its diagonal."""
    return np.tril(kept) | np.eye(kept.shape[-1], dtype=bool)


@settings(deadline=None, max_examples=25)
@given(
    size=st.sampled_from((16, 32, 64, 128)),
    across=st.integers(1, 5),
    shared=st.integers(1, 3),
    groups=st.integers(1, 2),
    units=st.sampled_from((1, 2, 3, 4, 5, 8, 16)),
    density=st.sampled_from((0.0, 0.1, 0.5, 1.0)),
    causal=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_mask_is_right(build, size, across, shared, groups, units, density, causal, seed):
    library, dtypes, least = build
    kept = np.random.default_rng(seed).random((groups * shared, across, across)) < density
    for dtype in dtypes if size >= least else ():
        given = operands(lower(kept) if causal else kept, groups, 16 * units, size, DTYPES[dtype], seed)
        hold(attend(library, *given, causal), *given, causal)


def rows_of(choose):
    kept = np.zeros((2, 6, 6), bool)
    choose(kept)
    return kept


def ragged(kept):
    for row in range(6):
        kept[:, row, : row + 1] = True


def some_empty(kept):
    kept[0, ::2] = kept[1, 3] = True


def one_full(kept):
    kept[1, 4] = True


def one_block(kept):
    kept[1, 5, 2] = True


@pytest.mark.parametrize("choose", [ragged, some_empty, one_full, one_block], ids=lambda f: f.__name__)
def test_lists_of_any_length(build, choose):
    library, dtypes, least = build
    kept = rows_of(choose)
    for dtype in dtypes:
        given = operands(kept, 1, 48, least, DTYPES[dtype])
        found = attend(library, *given)
        hold(found, *given)
        unseen = ~torch.from_numpy(kept.any(-1)).repeat_interleave(least, 1)
        assert not found[unseen].any()


def test_a_query_under_a_causal_mask_never_meets_a_later_key(build):
    """The last key outweighs all others, and then its value is huge: the last query alone sees either."""
    library, dtypes, least = build
    for dtype in dtypes:
        a, q, k, v = operands(lower(np.ones((1, 2, 2), bool)), 1, 32, 4 * least, DTYPES[dtype])
        q, k[:, -1] = q.abs(), 1e4
        before = attend(library, a, q, k, v, causal=True)
        v[:, -1] = 1e30
        after = attend(library, a, q, k, v, causal=True)
        assert before[:, :-1].equal(after[:, :-1]) and bool((after[:, -1] > 1e29).all())


def test_scores_that_are_huge_do_not_overflow(build):
    """A query of 1e9 meets one key of each block; the negative of it meets all others."""
    library, dtypes, least = build
    for dtype in dtypes:
        a, q, k, v = operands(np.ones((1, 3, 3), bool), 1, least, least, DTYPES[dtype])
        k[0] = (1e9 * torch.eye(least)).repeat(3, 1).to(k.dtype)
        for sign in (1, -1):
            q[0] = sign * k[0]
            found = attend(library, a, q, k, v)
            assert bool(found.isfinite().all())
            hold(found, a, q, k, v)


def test_equal_scores_are_the_mean(build):
    library, dtypes, least = build
    for dtype in dtypes:
        a, q, k, v = operands(np.ones((1, 4, 4), bool), 1, 32, least, DTYPES[dtype])
        v = torch.arange(v.numel()).remainder(7).reshape(v.shape).to(v.dtype)
        mean = v.float().mean(1, keepdim=True).expand_as(q)
        found = attend(library, a, torch.zeros_like(q), k, v)
        torch.testing.assert_close(found, mean.to(q.dtype), rtol=torch.finfo(q.dtype).eps, atol=0)


def test_threads_do_not_change_the_answer(build):
    library, dtypes, _ = build
    before = torch.get_num_threads()
    kept = np.random.default_rng(0).random((4, 9, 9)) < 0.4
    try:
        for dtype in dtypes:
            given, found = operands(kept, 2, 64, 32, DTYPES[dtype]), []
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                found.append(attend(library, *given))
            assert found[0].equal(found[1]) and found[0].equal(found[2])
    finally:
        torch.set_num_threads(before)


def test_work_is_that_of_the_kept_blocks(build):
    """All of each block; of a diagonal one, the keys up to the last query of each panel."""
    library, dtypes, least = build
    kept = np.random.default_rng(0).random((2, 8, 8)) < 0.5
    for dtype in dtypes:
        for size in (least, 128):
            a, q, k, _ = operands(kept, 1, 64, size, DTYPES[dtype])
            assert block.prepare(library, a, q, k, False).executed == 4 * 64 * size**2 * kept.sum()
            a, q, k, _ = operands(lower(kept), 1, 64, size, DTYPES[dtype])
            made = block.prepare(library, a, q, k, True)
            panel, off = made.note["panel"], int(np.tril(kept, -1).sum())
            on = sum(panel * (first + panel) for first in range(0, size, panel))
            assert made.executed == 4 * 64 * (size**2 * off + 2 * 8 * on)


def test_tiles_multiply_the_numbers_that_fill_them_up():
    library = native.load(HERE / "attention_block_amx.cpp", *EMULATED)
    a, q, k, _ = operands(np.ones((1, 2, 2), bool), 1, 48, 32, torch.bfloat16)
    assert block.prepare(library, a, q, k, False).executed == 2 * (64 + 48) * 64**2


def test_tiles_of_the_processor_compile():
    if not ON_X86:
        pytest.skip("AMX is x86's")
    assert native.load(amx.SOURCE, *amx.FLAGS).attention_bfloat16


@pytest.mark.parametrize("causal", [False, True])
def test_tiles_are_right_in_every_trial(causal):
    library = native.load(HERE / "attention_block_amx.cpp", *EMULATED)

    @kernel(op="attention" + "_causal" * causal, dtypes=("bfloat16",), refuse=amx.refuse, keep=False)
    def emulated(a, q, k, v):
        return block.prepare(library, a, q, k, causal)

    device = Cpu()
    verdicts = [examine(emulated, trial, device) for trial in cases_for(emulated) if trial.case["b"] >= 32]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


POWERS = """
#include "%s"

extern "C" void powers(const float* from, std::int64_t count, float scale, float* to) {
  for (std::int64_t at = 0; at < count; at += WIDE) {
    Vector<WIDE> x[1] = {load<WIDE>(from + at)};
    power_of_two<WIDE>(x, scale);
    store<WIDE>(x[0], to + at);
  }
}
"""


@pytest.mark.parametrize("flags", [(), NO_WIDE, PLAIN], ids=" ".join)
def test_powers_of_two_are_right_to_2e_7(flags, tmp_path):
    if flags and not ON_X86:
        pytest.skip("these are flags for x86")
    source = tmp_path / "powers.cpp"
    source.write_text(POWERS % (HERE / "attention_panels.h"))
    library = native.load(source, *flags)
    x = torch.cat((-torch.linspace(0, 126, 2**20), -torch.logspace(-30, 2, 2**16)))
    edges = torch.tensor([0.0, -0.0, -127, -1e30, -torch.inf, -3e38, -150, -1000])
    x = torch.cat((x, edges, edges))
    found = torch.empty_like(x)
    native.bind(library.powers, x, len(x), c_float(1), found)()
    exact = torch.exp2(x.double())
    inside = x >= -126
    assert float((found.double() / exact - 1)[inside].abs().max()) < 2e-7
    assert not found[x <= -127].any() and bool((found[x == 0] == 1).all())


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"b": 48, "n": 96}, "needs b to be one of 16, 32, 64, 128, got 48"),
        ({"d": 24}, "needs d divisible by 16 and at most 256, got 24"),
        ({"d": 272}, "needs d divisible by 16 and at most 256, got 272"),
    ],
)
def test_sizes_it_cannot_take_are_refused(sizes, says):
    one = case("attention", Unstructured(0.5), **{"h": 1, "g": 1, "n": 64, "d": 16, "b": 16, **sizes})
    assert block.attention_block.refusals(one, Cpu()) == [says]


def test_tiles_refuse_blocks_that_half_fill_them():
    one = case("attention", Unstructured(0.5), h=1, g=1, n=64, d=16, b=16)
    assert amx.refuse(one, Cpu()) == ["needs blocks of b=32 and more, got 16"]
