"""Selectors: each spends its budget to a block, all blocks kept is dense, and quality is what it says."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.case import case
from suite.check import check, question
from suite.claims import claims
from suite.commands import load
from suite.conformance import cases_for, examine
from suite.cpu.device import Cpu
from suite.inputs import INPUTS
from suite.kernel import KERNELS, prepared
from suite.measure import Effort
from suite.op import faults, make_operands
from suite.ops import attention
from suite.patterns.chosen import Chosen
from suite.patterns.unstructured import Unstructured
from suite.selection import before, by_head, by_layer, by_row, from_map, of_heads, of_layer, of_rows, room
from suite.selector import SELECTORS, entries, ready, selector
from suite.visit import Visit

load()

BOTH = ("attention", "attention_causal")
BLIND = ("random_blocks", "window", "fixed_shapes")  # what they keep is settled before a call
ATTEND = [(name, op) for name, one in sorted(SELECTORS.items()) for op in BOTH if op in one.ops]


def point(op="attention", sparsity=0.75, dtype="float32", h=4, g=2, n=512, d=32, b=32, data="heads", seed=0):
    return case(op, Chosen(sparsity), dtype, seed, data, h=h, g=g, n=n, d=d, b=b)


def asked(one):
    return question(one, make_operands(one))


def kept(found, one):
    """As a map of truths."""
    across = one["n"] // one["b"]
    return found.rows_dense(0, found.shape[0]).bool().view(one["h"], across, -1)


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
@pytest.mark.parametrize(("name", "op"), ATTEND)
def test_a_budget_is_met_to_one_block(name, op, sparsity):
    one = point(op, sparsity)
    found = asked(one).chosen(SELECTORS[name]).operands[0]
    assert abs(found.nonzeros - of_layer(one)) <= 1
    assert bool((found.row_lengths >= 1).all()), "a query sees nothing at all"


@pytest.mark.paper("seerattention", "spargeattn", "xattention", "pbs-attn", "psa")
@pytest.mark.paper("proxyattn", "adaspa", "anchorattention", "sparse-vdit", "lserve")
@pytest.mark.parametrize(("name", "op"), ATTEND)
def test_at_no_sparsity_it_is_dense_attention(name, op):
    whole = asked(point(op, 0.0))
    torch.testing.assert_close(whole.chosen(SELECTORS[name]).expected, whole.whole.expected)


@pytest.mark.parametrize(("name", "op"), ATTEND)
def test_it_chooses_anew_and_alike(name, op):
    """The same operands give the same choice; others are looked at, unless it looks at none."""
    whole = asked(point(op))
    first = whole.chosen(SELECTORS[name])
    again = first.select(*whole.operands[1:])
    assert again.columns.equal(first.operands[0].columns)
    if name not in BLIND:
        assert not first.twin.operands[0].columns.equal(first.operands[0].columns)


@pytest.mark.parametrize(("op", "dtype"), [("attention", "float32"), ("attention_causal", "bfloat16")])
def test_a_visit_checks_times_and_judges_each_of_them(op, dtype):
    """At 64 tokens a block and few of them; pairs of a kernel and a selector that run by default."""
    one = point(op, 0.5, dtype, n=256, d=32, b=32)
    pairs = [kernel for kernel in entries().values() if kernel.fits(one) and kernel.selector]
    chosen = [kernel for kernel in pairs if "default" in kernel.extents]
    lines = list(Visit(Cpu(1), 1, effort=Effort(cap=0.001)).results("w", one, chosen))
    assert {line.selector for line in lines} == {name for name, each in ATTEND if each == op}
    for line in lines:
        assert line.outcome in ("ok", "refused"), (line.selector, line.note)
        if line.outcome == "ok":
            assert line.entry == f"{line.kernel}+{line.selector}"
            assert line.select_seconds > 0
            assert set(line.quality) == {"recall", "error", "cosine"}
            assert 0 <= line.quality["recall"] <= 1 + 1e-6
            assert line.flops_executed >= line.flops_useful


@pytest.mark.paper("sparse-frontier")
@pytest.mark.parametrize("name", ["xattention", "sparge", "stripes", "pyramid"])
def test_what_choosing_takes_is_counted_as_work(name):
    """FLOPs of a pair are those of attending over what was chosen, and those of choosing it."""
    one = point()
    asked = question(one, make_operands(one)).chosen(SELECTORS[name])
    kernel = entries()[f"attention_block+{name}"]
    if reasons := kernel.refusals(one, Cpu(1)):
        pytest.skip("; ".join(reasons))
    alone = kernel.prepare(*asked.operands)
    both = claims(ready(kernel, one, asked.operands))
    assert asked.operands[0].flops > 0
    assert both.executed == alone.executed + asked.operands[0].flops


@pytest.mark.parametrize("op", BOTH)
def test_knowing_everything_beats_luck_and_all_is_all(op):
    whole = asked(point(op))
    found = {}
    for name in ("oracle", "random_blocks"):
        one = whole.chosen(SELECTORS[name])
        measured = attention.quality(
            one.case, (one.operands, one.expected), (whole.operands, whole.whole.expected)
        )
        found[name] = measured["recall"]
    assert found["oracle"] > found["random_blocks"] + 0.1
    full = asked(point(op, 0.0))
    all_of_it = full.chosen(SELECTORS["window"])
    said = attention.quality(
        full.case, (all_of_it.operands, all_of_it.expected), (full.operands, full.whole.expected)
    )
    assert said["recall"] == pytest.approx(1)
    assert said["error"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "op"), ATTEND)
def test_it_conforms_with_a_kernel_of_its_op(name, op, dtype):
    """Odd sizes, few blocks, signed zeros: the answer is that over what was chosen, whatever that is."""
    pair = next(
        one
        for one in entries().values()
        if one.selector is SELECTORS[name] and one.fits(point(op, dtype=dtype))
    )
    verdicts = [examine(pair, trial, Cpu(1)) for trial in cases_for(replace(pair, dtypes=(dtype,)))]
    assert [one for one in verdicts if one.outcome not in ("ok", "refused")] == []
    assert sum(one.outcome == "ok" for one in verdicts) > 3


@pytest.mark.parametrize("spend", [by_row, by_head, by_layer])
@settings(max_examples=25, deadline=None)
@given(
    op=st.sampled_from(BOTH),
    sparsity=st.sampled_from([0.0, 0.1, 0.5, 0.83, 0.99, 1.0]),
    heads=st.integers(1, 5),
    across=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_budgets_are_spent_to_the_last_block(spend, op, sparsity, heads, across, seed):
    one = point(op, sparsity, h=heads, g=1, n=across * 16, b=16)
    source = torch.Generator().manual_seed(seed)
    scores = torch.randn(heads, across, across, generator=source)
    scores[torch.rand(scores.shape, generator=source) < 0.3] = 0.0  # ties
    found = spend(scores, one)
    truths = kept(found, one)
    assert found.nonzeros == of_layer(one) == int(of_rows(one).sum()) == sum(of_heads(one))
    assert bool(truths.any(-1).all())
    assert bool((of_rows(one) <= room(one)).all())
    if op == "attention_causal":
        assert not bool(truths.triu(1).any())
        assert bool(truths.diagonal(dim1=1, dim2=2).all())
    if spend is by_row:
        assert truths.sum(-1).equal(of_rows(one))
    if spend is by_head:
        assert truths.sum((1, 2)).tolist() == of_heads(one)


def test_of_a_row_the_best_blocks_stay():
    one = point(h=1, g=1, n=128, b=16, sparsity=0.5)
    scores = torch.rand(1, 8, 8)
    assert kept(by_row(scores, one), one).equal(scores >= scores.topk(4).values[..., -1:])


def test_what_better_blocks_hold():
    weights = torch.tensor([[[0.5, 0.2, 0.3]]])
    torch.testing.assert_close(before(weights), -torch.tensor([[[0.0, 0.8, 0.5]]]))


TAKING = [one for one in KERNELS.values() if one.chooses and one.on == "cpu" and one.op in (*BOTH, "decode")]


@pytest.mark.parametrize("kernel", TAKING, ids=str)
def test_a_choice_holds_for_its_own_call(kernel):
    """The next one without a choice is of the mask it was prepared on: no key, bias or page is left over."""
    sizes = {"n": 2, "t": 256} if kernel.op == "decode" else {"n": 256}
    one = case(kernel.op, Unstructured(0.5), "bfloat16", h=4, g=2, d=32, b=32, **sizes)
    if reasons := kernel.refusals(one, Cpu(1)):
        pytest.skip("; ".join(reasons))
    asked = question(one, make_operands(one))
    made, live = prepared(kernel, asked.operands), asked.operands[-1 if kernel.op == "decode" else 1 :]
    rows, across = asked.operands[0].shape
    tokens = (2, 4, 512) if kernel.op == "decode" else (4, 256)
    keys, bias = torch.randn(*tokens, 32).bfloat16(), torch.rand(tokens)
    blocks = torch.arange(across).eq(0).expand(4, rows // 4, -1)
    found = from_map(blocks, one.pattern, k=keys, v=keys, bias=bias)
    check(made.run(*live), asked)
    other = made.run(*live, found).clone()
    check(made.run(*live), asked)
    assert not other.equal(made.run(*live)) and other.equal(made.run(*live, found))
    plain = made.run(*live, replace(found, bias=None)).clone()
    assert plain.equal(prepared(kernel, asked.operands).run(*live, replace(found, bias=None)))


def test_kernels_fit_a_chosen_case_with_a_selector_alone():
    one = point("attention", dtype="bfloat16")
    fitting = [kernel for kernel in entries().values() if kernel.fits(one)]
    assert all(kernel.dense or kernel.selector for kernel in fitting)
    assert {"attention_block+window", "attention_sdpa"} <= {kernel.name for kernel in fitting}


def test_a_selector_has_a_hash_of_its_own():
    named = entries()
    assert named["attention_block+window"].hash != named["attention_block+pooled"].hash
    assert named["attention_block+window"].hash != named["attention_block"].hash
    with pytest.raises(ValueError, match="two selectors"):
        selector(ops=BOTH)(SELECTORS["window"].prepare)


@pytest.mark.parametrize("name", sorted(INPUTS))
@pytest.mark.parametrize("op", BOTH)
def test_an_input_is_drawn_alike_and_is_of_the_cases_sizes(name, op):
    one = point(op, data=name, g=4)
    if op not in INPUTS[name].ops:
        pytest.skip(f"{name} is of another op")
    (_, *first), (_, *second) = make_operands(one), make_operands(one)
    for mine, its, heads in zip(first, second, (4, 4, 4), strict=True):
        assert mine.equal(its)
        assert mine.shape == (heads, 512, 32)
        assert bool(mine.isfinite().all())


def test_weights_are_those_of_the_softmax():
    one = point("attention_causal", n=64, b=16, d=16)
    _, q, k, _ = make_operands(one)
    scores = q[1] @ k[0].T / 4
    scores = scores.masked_fill(torch.ones(64, 64).triu(1).bool(), -torch.inf)
    expected = scores.softmax(-1).view(4, 16, 64).mean(1)
    torch.testing.assert_close(attention.weights(attention.without_mask(one))[1], expected)


def test_an_op_without_a_choice_has_no_chosen_case():
    one = case("spmm", Chosen(0.5), m=8, k=8, n=1)
    assert faults(one) == ["spmm has nothing that is chosen at run time"]
