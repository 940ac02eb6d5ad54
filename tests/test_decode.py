"""Decode: right for every mask and processor; selectors spend their budget to a page; bytes are counted."""

from dataclasses import replace
from pathlib import Path

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import conformance, native
from suite.case import case
from suite.check import question
from suite.commands import load
from suite.conformance import cases_for, examine
from suite.cpu.device import Cpu
from suite.formats.padded_bitmap import PAST, TILE, padded_bitmap, unpadded_bitmap
from suite.inputs import INPUTS
from suite.kernel import kernel
from suite.measure import Effort
from suite.op import make_operands
from suite.ops import decode
from suite.ops.decode_pruned import pruned
from suite.patterns.chosen import Chosen
from suite.patterns.fan_in import FanIn
from suite.patterns.unstructured import Unstructured
from suite.selection import by_query, of_queries, pages_kept
from suite.selector import SELECTORS, entries
from suite.visit import Visit

load()

gather = pytest.importorskip("suite.kernels.decode.decode_gather")
bitmap = pytest.importorskip("suite.kernels.decode_pruned.decode_pruned_bitmap")
double = pytest.importorskip("suite.workloads.selectors.double_sparsity")
paged = pytest.importorskip("suite.workloads.selectors.pages")
shadowed = pytest.importorskip("suite.workloads.selectors.shadow")
planted = pytest.importorskip("suite.workloads.inputs_decode")

NATIVE = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))
NO_WIDE = ("-mno-avx512f",)
BUILDS = {
    "this machine": (),
    "no pairs": ("-mno-avx512bf16", "-mno-avx512vbmi2"),
    "no AVX-512": NO_WIDE,
    "no AVX": (*NO_WIDE, "-mno-avx2", "-mno-fma", "-mno-avx"),
}
ON_X86 = "avx2" in Cpu().isa
DTYPES = (torch.float32, torch.bfloat16)
NAMES = sorted(name for name, one in SELECTORS.items() if "decode" in one.ops)
SEEDS = range(3)


@pytest.fixture(scope="module", params=BUILDS)
def flags(request):
    if BUILDS[request.param] and not ON_X86:
        pytest.skip("these are flags for x86")
    return BUILDS[request.param]


@pytest.fixture(scope="module")
def library(flags):
    return native.load(gather.SOURCE, *flags)


def point(sparsity=0.75, dtype="float32", n=2, h=4, g=2, t=512, d=32, b=16, data="blend", seed=0):
    return case("decode", Chosen(sparsity), dtype, seed, data, n=n, h=h, g=g, t=t, d=d, b=b)


def asked(one):
    return question(one, make_operands(one))


def drawn(n, h, g, t, d, dtype, seed=0):
    """Keys, values and queries."""
    source = torch.Generator().manual_seed(seed)
    k, v = (torch.randn(n, g, t, d, generator=source).to(dtype) for _ in "kv")
    return k, v, torch.randn(n, h, d, generator=source).to(dtype)


def selection(kept, **beside):
    """The pages of kept[rows, pages], as many in each row."""
    columns = kept.nonzero()[:, 1].int()
    return of_queries(columns, tuple(kept.shape), point(), **beside)


def random_pages(rows, pages, count, seed=0, **beside):
    scores = torch.rand(rows, pages, generator=torch.Generator().manual_seed(seed))
    kept = torch.zeros(rows, pages, dtype=torch.bool).scatter_(1, scores.topk(count).indices, True)
    return selection(kept, **beside)


def hold(found, a, k, v, q):
    """Against float64, as the op holds it."""
    expected = decode.reference(a, k, v, q)
    assert bool(((found.double() - expected).abs() <= decode.tolerance((a, k, v, q), expected)).all())


@NATIVE
@settings(deadline=None, max_examples=15)
@given(
    heads=st.integers(1, 9),
    groups=st.integers(1, 2),
    page=st.sampled_from((1, 3, 16, 40)),
    pages=st.integers(2, 70),
    share=st.sampled_from((0.05, 0.5, 1.0)),
    units=st.sampled_from((1, 2, 3, 8, 16)),
    alike=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_pages_are_right(library, heads, groups, page, pages, share, units, alike, seed):
    """Heads of a group that look at the same pages, and heads that do not."""
    count = max(1, round(share * pages))
    for dtype in DTYPES:
        k, v, q = drawn(2, heads * groups, groups, page * pages, 16 * units, dtype, seed)
        rows = 2 * groups if alike else 2 * groups * heads
        a = random_pages(rows, pages, count, seed)
        if alike:
            a = of_queries(
                a.columns.view(rows, 1, -1).expand(-1, heads, -1).flatten(), (rows * heads, pages), point()
            )
        hold(gather.gather(library, a, k, v, q).run(q), a, k, v, q)
        full = random_pages(2 * groups * heads, pages, pages)
        hold(gather.stream(library, k, v, q).run(q), full, k, v, q)


@NATIVE
def test_a_selection_may_bring_its_own_cache_and_biases(library):
    """Fewer groups of own keys or as many as heads; padding weighs nothing, ln 2 counts twice."""
    for dtype in DTYPES:
        k, v, q = drawn(2, 6, 3, 96, 32, dtype)
        for groups in (3, 6):
            own, values, _ = drawn(2, 6, groups, 40, 32, dtype, seed=1)
            bias = torch.zeros(2, groups, 40)
            bias[:, :, ::3], bias[:, :, 1::3] = -1e30, 0.6931
            a = random_pages(12, 5, 3, k=own, v=values, bias=bias)
            made = gather.gather(library, random_pages(12, 6, 1), k, v, q)
            hold(made.run(q, a), a, k, v, q)
            assert made.values() == decode.bytes_read(a, k)
            hold(made.run(q, random_pages(12, 6, 6)), random_pages(12, 6, 6), k, v, q)


@NATIVE
def test_threads_do_not_change_the_answer(library):
    before = torch.get_num_threads()
    try:
        for dtype in DTYPES:
            k, v, q = drawn(1, 2, 1, 5000, 64, dtype)
            found = []
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                found.append(gather.stream(library, k, v, q).run(q).clone())
            assert found[0].equal(found[1]) and found[0].equal(found[2])
    finally:
        torch.set_num_threads(before)


@NATIVE
def test_scores_that_are_huge_do_not_overflow(library):
    for dtype in DTYPES:
        k, v, q = drawn(1, 2, 1, 3000, 32, dtype)
        k *= 1e9
        found = gather.stream(library, k, v, q).run(q)
        best = (k[0, 0].double() @ q[0].double().T).argmax(0)
        assert found[0].equal(v[0, 0, best])


@NATIVE
def test_equal_scores_are_the_mean(library):
    for dtype in DTYPES:
        _, v, q = drawn(1, 3, 1, 2100, 48, dtype)
        found = gather.stream(library, torch.zeros_like(v), v, q).run(q)
        mean = v.double().mean(2).expand_as(q)
        torch.testing.assert_close(found.double(), mean, rtol=torch.finfo(dtype).eps, atol=1e-7)


@NATIVE
def test_the_bitmap_is_right_however_it_is_spread(flags):
    library = native.load(bitmap.SOURCE, *flags)

    @kernel(op="decode_pruned", dtypes=("float32", "bfloat16"), keep=False)
    def lesser(a, k, v, q):
        return bitmap.prepare(library, a, k, q)

    trials = [trial for trial in cases_for(lesser) if "unstructured" in str(trial) or "fanin" in str(trial)]
    verdicts = [examine(lesser, trial, Cpu()) for trial in trials]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


@pytest.mark.parametrize("d", [24, 272])
def test_sizes_it_cannot_take_are_refused(d):
    one = case("decode", Unstructured(0.5), n=1, h=1, g=1, t=64, d=d, b=16)
    assert gather.decode_gather.refusals(one, Cpu()) == [f"needs d divisible by 16 and at most 256, got {d}"]


# The op.


def test_all_pages_are_attention_in_full():
    k, v, q = (one.double() for one in drawn(2, 6, 2, 40, 16, torch.float32))
    full = random_pages(12, 5, 5)
    expected = torch.nn.functional.scaled_dot_product_attention(q[:, :, None], k, v, enable_gqa=True)[:, :, 0]
    torch.testing.assert_close(decode.reference(full, k, v, q), expected)
    torch.testing.assert_close(decode.in_full(k, v, q), expected)


def test_the_twin_is_another_question_with_its_own_answer():
    one = asked(case("decode", Unstructured(0.5), n=2, h=4, g=2, t=64, d=16, b=8))
    torch.testing.assert_close(decode.reference(*one.twin.operands), one.twin.expected)
    assert not torch.allclose(one.twin.expected, one.expected)


def test_bytes_are_those_of_the_pages_that_a_group_looks_at():
    k, _, _ = drawn(1, 4, 2, 64, 16, torch.bfloat16)
    kept = torch.zeros(4, 8, dtype=torch.bool)
    kept[0, :2] = kept[1, 1:3] = kept[2, 4:6] = kept[3, 4:6] = True
    of_page = 8 * 2 * 16 * 2
    assert decode.bytes_read(selection(kept), k) == (3 + 2) * of_page
    assert decode.bytes_read(selection(torch.ones(4, 8, dtype=torch.bool)), k) == 2 * k.nbytes


@pytest.mark.parametrize(
    ("sizes", "says"),
    [({"t": 60}, "t=60 is not in whole pages of b=16"), ({"h": 3}, "h=3 heads cannot share g=2 alike")],
)
def test_sizes_that_do_not_exist(sizes, says):
    one = case("decode", Unstructured(0.5), **{"n": 1, "h": 2, "g": 2, "t": 64, "d": 16, "b": 16, **sizes})
    assert decode.rules(one) == [says]


@pytest.mark.parametrize("name", sorted(name for name, one in INPUTS.items() if "decode" in one.ops))
def test_an_input_is_drawn_alike_and_is_of_the_cases_sizes(name):
    one = point(data=name, h=8, g=4)
    (_, *first), (_, *second) = make_operands(one), make_operands(one)
    for mine, its in zip(first, second, strict=True):
        assert mine.equal(its) and bool(mine.isfinite().all())
    assert [tuple(each.shape) for each in first] == [(2, 4, 512, 32), (2, 4, 512, 32), (2, 8, 32)]


# Selectors.


def test_budgets_are_spent_to_the_last_page():
    for pages, sparsity in ((1, 0.9), (7, 0.5), (16, 0.9), (64, 1.0), (33, 0.0)):
        one = point(sparsity, t=pages * 16)
        found = by_query(torch.randn(2, 4, pages), one)
        count = max(1, round((1 - one.pattern.sparsity_of(8, pages)) * pages))
        assert pages_kept(one) == count
        assert bool((found.row_lengths == count).all()) and found.shape == (8, pages)
        assert all(row.diff().gt(0).all() for row in found.columns.view(8, count))


def test_scores_of_a_group_are_for_all_its_heads():
    scores = torch.randn(2, 2, 32)
    found = by_query(scores, point()).columns.view(2, 2, 2, -1)
    assert found[:, :, 0].equal(found[:, :, 1])
    assert found[:, :, 0].equal(scores.topk(8, -1).indices.sort(-1).values.int())


@pytest.mark.parametrize("page", [1, 16])
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_a_budget_is_met_exactly(name, sparsity, page):
    one = point(sparsity, b=page)
    found = asked(one).chosen(SELECTORS[name]).operands[0]
    assert found.nonzeros == 8 * pages_kept(one)
    uneven = name in ("streaming_pages", "selective_heads")
    assert uneven or bool((found.row_lengths == pages_kept(one)).all())


@pytest.mark.paper("double-sparsity")
@pytest.mark.paper("lserve")
@pytest.mark.parametrize("name", NAMES)
def test_at_no_sparsity_it_is_dense(name):
    """All tokens; of those that rebuild keys, at full rank."""
    whole = asked(point(0.0))
    _, k, v, q = whole.operands
    found = whole.chosen(SELECTORS[name]).operands[0]
    if name == "shadow":
        found = shadowed.shadow.prepare(whole.case, k, v, rank=32)(q)
    torch.testing.assert_close(decode.reference(found, k, v, q), whole.whole.expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_it_chooses_anew_and_alike(name):
    whole = asked(point())
    first = whole.chosen(SELECTORS[name])
    again = first.select(whole.operands[-1])
    assert again.columns.equal(first.operands[0].columns)
    if SELECTORS[name].control in ("luck", "habit"):
        return
    tokens = (first.operands[0].tokens, first.twin.operands[0].tokens)
    columns = (first.operands[0].columns, first.twin.operands[0].columns)
    one, other = columns if tokens[0] is None else tokens
    assert not one.equal(other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_visit_checks_times_and_judges_each_of_them(dtype):
    one = point(0.5, dtype, n=1, t=256)
    chosen = [each for each in entries().values() if each.fits(one) and each.selector and each.on == "cpu"]
    lines = list(Visit(Cpu(1), 1, effort=Effort(cap=0.001)).results("w", one, chosen))
    assert {line.selector for line in lines} == set(NAMES)
    for line in lines:
        assert line.outcome in ("ok", "refused"), (line.selector, line.note)
        if line.outcome == "ok":
            assert line.select_seconds > 0 and line.bytes_values > 0
            assert set(line.quality) == {"recall", "error", "cosine"}
            assert 0 <= line.quality["recall"] <= 1 + 1e-6


@NATIVE
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_it_conforms_with_a_kernel_of_its_op(name, dtype):
    """Odd sizes, few pages, signed zeros: the answer is that over what was chosen, whatever that is."""
    pair = entries()[f"decode_gather+{name}"]
    verdicts = [examine(pair, trial, Cpu(1)) for trial in cases_for(replace(pair, dtypes=(dtype,)))]
    assert [one for one in verdicts if one.outcome not in ("ok", "refused")] == []
    assert sum(one.outcome == "ok" for one in verdicts) > 3


def recall(name, one):
    """Of a selector on a case."""
    whole = asked(one)
    found = whole.chosen(SELECTORS[name])
    told = decode.quality(one, (found.operands, found.expected), (whole.whole.operands, whole.whole.expected))
    return told["recall"]


METHODS = {"double_sparsity": "channels", "pages": "blend", "shadow": "needles"}


@pytest.mark.paper("double-sparsity")
@pytest.mark.paper("shadowkv")
@pytest.mark.paper("lserve")
@pytest.mark.parametrize(("name", "data"), METHODS.items())
def test_recall_is_between_luck_and_knowledge(name, data):
    for seed in SEEDS:
        one = point(1 - 1 / 16, t=1024, d=64, b=1 if name == "double_sparsity" else 16, data=data, seed=seed)
        luck, found, best = (recall(each, one) for each in ("random_tokens", name, "oracle_tokens"))
        assert luck + 0.1 < found <= best + 1e-6, (luck, found, best)


@pytest.mark.paper("double-sparsity")
def test_calibration_finds_the_channels_that_carry_the_scores():
    for seed in SEEDS:
        one = point(data="channels", d=64, seed=seed)
        found = double.calibrated(one, 4)
        for group in range(2):
            assert set(found[group].tolist()) == set(planted.heavy_channels(one, group).tolist())
        assert found.equal(double.calibrated(one, 4))


@pytest.mark.paper("double-sparsity")
def test_calibrated_channels_beat_random_ones(monkeypatch):
    ones = [point(1 - 1 / 16, t=1024, d=64, b=1, data="channels", seed=seed) for seed in SEEDS]
    calibrated = [recall("double_sparsity", one) for one in ones]
    others = torch.tensor([[0, 1, 2, 3]] * 2)
    monkeypatch.setattr(double, "calibrated", lambda case, count: others)
    blind = [recall("double_sparsity", one) for one in ones]
    assert all(mine > its + 0.1 for mine, its in zip(calibrated, blind, strict=True)), (calibrated, blind)


@pytest.mark.paper("double-sparsity")
@NATIVE
def test_labels_and_kept_tokens_are_all_that_is_read():
    """n r + 2 k d numbers for each head; all channels and all tokens are dense attention."""
    one = point(1 - 1 / 16, "bfloat16", n=1, h=2, g=2, t=1024, d=64, b=1)
    a, k, v, q = make_operands(one)
    found = double.double_sparsity.prepare(one, k, v)(q)
    made = gather.gather(native.load(gather.SOURCE), a, k, v, q)
    made.run(q, found)
    assert found.read + made.values() == 2 * 2 * (1024 * 4 + 2 * 64 * 64)
    everything = point(0.0, n=1, h=2, g=2, t=256, d=64, b=1)
    a, k, v, q = make_operands(everything)
    all_of_it = double.double_sparsity.prepare(everything, k, v, count=64)(q)
    torch.testing.assert_close(
        decode.reference(all_of_it, k, v, q), decode.in_full(k, v, q.double()), rtol=1e-9, atol=1e-9
    )
    exact = double.double_sparsity.prepare(point(n=1, h=2, g=2, t=256, d=64, b=1), k, v, count=64)(q)
    best = (q[:, :, None] * k).sum(-1).topk(64, -1).indices.sort(-1).values
    assert exact.columns.view(1, 2, 64).equal(best.int())


@pytest.mark.paper("lserve")
@settings(deadline=None, max_examples=25)
@given(page=st.sampled_from((1, 4, 16)), pages=st.integers(1, 9), seed=st.integers(0, 999))
def test_a_bound_is_never_below_what_a_token_of_the_page_scores(page, pages, seed):
    k, _, q = (one.double() for one in drawn(1, 4, 2, page * pages, 16, torch.float32, seed))
    grouped = q.view(1, 2, 2, 16)
    best = (grouped @ k.mT).unflatten(-1, (pages, page)).amax(-1)
    assert bool((paged.bounded(grouped, paged.bounds(k, page)) >= best - 1e-9).all())


@pytest.mark.paper("lserve")
@NATIVE
def test_a_constant_budget_reads_as_many_tokens_of_any_context():
    read = []
    for t in (512, 1024, 4096):
        one = point(1 - 8 * 16 / t, n=1, t=t)
        _, k, v, q = make_operands(one)
        found = paged.pages.prepare(one, k, v)(q)
        read.append(decode.tokens_of(found, k))
    assert read == [4 * 8 * 16] * 3


@pytest.mark.paper("lserve")
@pytest.mark.paper("shadowkv")
@pytest.mark.parametrize("name", ["pages", "shadow"])
def test_the_pages_of_needles_are_selected(name):
    for seed in SEEDS:
        one = point(0.75, n=1, t=1024, d=64, data="needles", seed=seed)
        _, k, _, q = make_operands(one)
        best = set(
            (q[0, 0] @ k[0, 0].T).topk(planted.NEEDLES).indices.div(16, rounding_mode="floor").tolist()
        )
        found = asked(one).chosen(SELECTORS[name]).operands[0]
        kept = (
            found.tokens[0, 0, ::16] // 16 if found.tokens is not None else found.columns[: pages_kept(one)]
        )
        assert best <= set(kept.tolist())


@pytest.mark.paper("shadowkv")
def test_keys_are_rebuilt_better_at_every_rank():
    k, *_ = drawn(1, 2, 2, 256, 32, torch.float32)
    errors = []
    for rank in (1, 4, 16, 31, 32):
        low, basis = shadowed.factors(k, rank)
        errors.append(float((low @ basis - k).norm()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3


@pytest.mark.paper("shadowkv")
def test_what_stays_near_is_what_the_formula_says():
    """Keys of low rank with their basis, and a landmark a page."""
    one = point(n=2, h=4, g=2, t=512, d=32, b=16)
    _, k, v, q = make_operands(one)
    select = shadowed.shadow.prepare(one, k, v, rank=8)
    low, basis, landmarks, *_ = select.holds
    assert low.nbytes + basis.nbytes + landmarks.nbytes == 4 * 2 * 2 * (512 * 8 + 8 * 32 + 32 * 32)
    kept = pages_kept(one)
    assert select(q).read == 4 * 2 * 2 * (kept * 16 * 8 + 8 * 32 + 32 * 32)


# The pruned cache.


@pytest.mark.paper("mustafar")
def test_each_token_keeps_exactly_so_many_numbers_and_the_largest():
    one = case("decode_pruned", FanIn(0.7), n=2, h=4, g=2, t=40, d=64, data="channels")
    a, k, v, _ = make_operands(one)
    full, _, _ = decode.drawn(one)
    assert bool((a.row_lengths == 19).all()) and a.shape == (320, 64)
    assert bool(((k != 0).sum(-1) == 19).all()) and bool(((v != 0).sum(-1) == 19).all())
    assert k.equal(full * (full.abs() >= full.abs().topk(19, -1).values[..., -1:]))


@pytest.mark.paper("mustafar")
@settings(deadline=None, max_examples=25)
@given(
    m=st.integers(1, 40),
    k=st.integers(1, 200),
    share=st.sampled_from((0.0, 0.1, 0.5, 1.0)),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
    seed=st.integers(0, 999),
)
def test_bits_and_values_lose_nothing(m, k, share, dtype, seed):
    source = torch.Generator().manual_seed(seed)
    rows = torch.randn(m, k, generator=source).to(dtype)
    a = pruned(rows, (torch.rand(m, generator=source) * 2 * share * k).long().clamp(max=k), Unstructured(0.5))
    a.values[::3] = -0.0
    held = padded_bitmap(a)
    back = unpadded_bitmap(held, a.pattern)
    assert back.starts.equal(a.starts) and back.columns.equal(a.columns)
    assert back.values.double().numpy().tobytes() == a.values.double().numpy().tobytes()
    counts = torch.zeros(m, -(-k // TILE) * TILE)
    counts[:, :k] = a.dense.ne(0).float() + (a.dense.eq(0) & stored(a))
    fills = -(-counts.view(m, -1, TILE).sum(-1).long() // 8) * 8
    tiles = m * -(-k // TILE)
    assert held.value_bytes + held.metadata_bytes == 12 * tiles + int(fills.sum()) * dtype.itemsize
    assert held.values.nbytes == int(fills.sum()) * dtype.itemsize + PAST


def stored(a):
    """Positions that hold a zero."""
    there = torch.zeros(a.shape, dtype=torch.bool)
    there[torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths), a.columns.long()] = True
    return there


@pytest.mark.paper("mustafar")
@pytest.mark.parametrize(("sparsity", "published"), [(0.7, 0.45), (0.5, 0.65)])
def test_bytes_of_a_cache_are_those_of_the_tile_formula(sparsity, published):
    """Of d = 128: the nonzeros of a tile are drawn without putting back; each tile is filled up to eights."""
    one = case("decode_pruned", FanIn(sparsity), "bfloat16", n=1, h=1, g=1, t=4096, d=128)
    a, k, v, _ = make_operands(one)
    held = padded_bitmap(a)
    kept = int(a.row_lengths[0])
    chances = scipy.stats.hypergeom(128, kept, TILE)
    filled = sum(chances.pmf(count) * -(-count // 8) * 8 for count in range(TILE + 1))
    ratio = (held.value_bytes + held.metadata_bytes) / (k.nbytes + v.nbytes)
    assert ratio == pytest.approx((12 + 2 * filled) / (2 * TILE), rel=0.005)
    assert ratio == pytest.approx(published, abs=0.012)


@pytest.mark.paper("mustafar")
@pytest.mark.parametrize("sparsity", [0.5, 0.7])
def test_numbers_of_a_token_are_better_left_out_than_channels_or_blindly(sparsity):
    """At the same share of K and of V: by token, whole channels by their norm, and at random."""
    for seed in SEEDS:
        one = case(
            "decode_pruned", FanIn(sparsity), "float32", seed, n=1, h=4, g=2, t=512, d=64, data="blend"
        )
        a, k, v, q = make_operands(one)
        full = decode.drawn(one)[:2]
        exact = decode.in_full(*full, q.double())
        kept = int(a.row_lengths[0])
        source = torch.Generator().manual_seed(seed)

        def error(k, v, q=q, exact=exact):
            return float((decode.in_full(k, v, q.double()) - exact).abs().sum() / exact.abs().sum())

        def by(scores, kept=kept):
            return torch.zeros_like(scores).scatter_(-1, scores.topk(kept, -1).indices, 1.0)

        channels = [one * by(one.norm(dim=2, keepdim=True)) for one in full]
        blind = [one * by(torch.rand(one.shape, generator=source)) for one in full]
        assert error(k, v) < error(*channels) and error(k, v) < error(*blind)


def test_sources_share_a_header_that_is_hashed():
    """The kernel of the other op includes it from this op's folder."""
    folder = Path(conformance.__file__).parent.parent / "kernels/decode"
    assert (folder / "attend.h").resolve() in [one.resolve() for one in native.parts(bitmap.SOURCE)]
