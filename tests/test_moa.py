"""Mixtures of attention heads: equal to a loop over tokens for every load, nothing dropped or copied."""

from dataclasses import replace
from math import sqrt

import pytest
import torch
from test_moe import BUILDS, ON_X86, TRACES, Allocated, doubled, needs_compiler
from torch.nn.functional import scaled_dot_product_attention

from suite.case import case
from suite.check import Wrong, check, question
from suite.conformance import cases_for, examine
from suite.cpu.device import Cpu
from suite.formats import routing
from suite.held import size
from suite.kernel import KERNELS, kernel
from suite.native import load
from suite.op import OPS, discover_parts, faults, make_operands
from suite.ops import moa
from suite.patterns.routes import Crowded, Idle, Zipf
from suite.stated import ledger
from suite.workload import WORKLOADS

discover_parts()

grouped = pytest.importorskip("suite.kernels.moa.moa_grouped")
NAMES = ("dense_mm", "dense_flash", "loop_torch", "grouped_torch", "grouped")
for name in NAMES:
    pytest.importorskip(f"suite.kernels.moa.moa_{name}")

pytestmark = pytest.mark.paper("scattermoe")

traces = pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)
names = pytest.mark.parametrize("name", NAMES)
LESSER = {build: flags for build, (source, flags) in BUILDS.items() if source == "moe_grouped.cpp"}


def point(trace, n=32, e=12, d=24, g=2, f=16, dtype="float32", seed=0):
    return case("moa", trace, dtype, seed, n=n, e=e, d=d, g=g, f=f)


def prepared(name, operands, dtype="float32"):
    """A kernel on operands, where it takes them."""
    one = KERNELS[f"moa_{name}"]
    if dtype not in one.dtypes:
        pytest.skip(f"{one} takes {', '.join(one.dtypes)}")
    x, k = operands[3], operands[5]
    of = point(Zipf(0.0, 0.75), *operands[4].shape, x.shape[1], len(k), k.shape[2], dtype)
    if reasons := one.refusals(of, Cpu()):
        pytest.skip("; ".join(reasons))
    return one.prepare(*operands)


def textbook(route, wq, wo, x, logits, k, v):
    """Token by token, expert by expert, head by head."""
    (heads, _, f), top, out = k.shape, routing.most(route), torch.zeros_like(x)
    for token, (one, scores) in enumerate(zip(x, logits, strict=True)):
        chosen = [e for e in scores.argsort(descending=True)[:top].tolist() if scores[e] > -torch.inf]
        gates = scores[chosen].softmax(0)
        for gate, e in zip(gates, chosen, strict=True):
            queries = (wq[e] @ one).view(heads, f)
            said = [
                (k[head, : token + 1] @ queries[head] / sqrt(f)).softmax(0) @ v[head, : token + 1]
                for head in range(heads)
            ]
            out[token] += gate * (wo[e] @ torch.cat(said))
    return out


@pytest.fixture(scope="module")
def asked():
    """Questions whose answers are the textbook's, by trace."""
    made = {}

    def of(trace, dtype):
        if (trace, dtype) not in made:
            one = point(trace, dtype=dtype)
            operands = make_operands(one)
            made[trace, dtype] = replace(question(one, operands), expected=textbook(*doubled(operands)))
        return made[trace, dtype]

    return of


# The op.


@traces
def test_the_reference_is_the_textbooks(trace, asked):
    of = asked(trace, "float32")
    torch.testing.assert_close(OPS["moa"].reference(*of.operands), of.expected)


def test_all_experts_with_equal_gates_are_attention_of_all_their_heads():
    route, wq, wo, x, logits, k, v = doubled(make_operands(point(Zipf(0.0, 0.0), e=3)))
    q = (x @ wq.flatten(0, 1).t()).view(32, 6, 16).transpose(0, 1)
    said = scaled_dot_product_attention(q, k.repeat(3, 1, 1), v.repeat(3, 1, 1), is_causal=True)
    together = said.transpose(0, 1).reshape(32, -1) @ torch.cat(tuple(wo), 1).t() / 3
    torch.testing.assert_close(moa.answer(route, wq, wo, x, torch.zeros_like(logits), k, v), together)


@pytest.mark.parametrize("trace", [Zipf(1.0, 0.75), Crowded(0.75), Idle(0.75)], ids=str)
def test_the_ledger_counts_what_is_asked(trace):
    one = point(trace)
    operands = make_operands(one)
    told, chosen = ledger(one, operands), operands[4].topk(3).indices
    projections, pair = 4 * 24 * 2 * 16, 4 * 2 * 16
    seen = sum(token + 1 for token in range(32))
    assert told["flops_nominal"] == 12 * (32 * projections + seen * pair)
    assert told["flops_useful"] == 3 * (32 * projections + seen * pair)
    assert told["sparsity"] == 0.75
    assert OPS["moa"].least_values(one, operands) == len(chosen.unique()) * 2 * 24 * 32 * 4
    assert OPS["moa"].live_bytes(one, operands) == 32 * (24 + 24 + 12 + 2 * 32) * 4


@traces
def test_an_answer_or_anything_kept_from_before_is_wrong(trace, asked):
    of = asked(trace, "float32")
    if not of.operands[0].nonzeros:
        return
    *_, x, logits, k, v = of.operands
    fixed, new = of.twin.operands[:3], of.twin.operands[3:]
    check(moa.answer(*fixed, *new), of.twin)
    every = of.operands[0].nonzeros == 12 * 32
    for at, old in enumerate((x, logits, k, v)):
        if at == 1 and every:
            continue  # gates alone differ
        kept = [*new[:at], old, *new[at + 1 :]]
        with pytest.raises(Wrong):
            check(moa.answer(*fixed, *kept), of.twin)


# Kernels, beside what tests/test_kernels.py asks of all.


@traces
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@names
def test_every_kernel_is_the_loop_over_tokens(name, trace, dtype, asked):
    of = asked(trace, dtype)
    assert check(prepared(name, of.operands, dtype).run(*of.operands[3:]), of) <= 1


@traces
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@names
def test_no_token_is_dropped(name, trace, dtype):
    """Experts that all say 1: a token answers what its gates add up to."""
    route, wq, wo, x, logits, k, v = make_operands(point(trace, dtype=dtype))
    operands = route, wq, torch.full_like(wo, 1 / 32), x, logits, k, torch.ones_like(v)
    going = (logits.topk(routing.most(route)).values > -torch.inf).any(1, keepdim=True)
    found = prepared(name, operands, dtype).run(*operands[3:]).float()
    close = 2e-2 if dtype == "bfloat16" else 1e-5
    torch.testing.assert_close(found, going.expand(-1, 24).float(), rtol=0, atol=close)


@names
def test_what_comes_later_does_not_matter(name):
    route, wq, wo, x, logits, k, v = make_operands(point(Zipf(1.0, 0.75)))
    run = prepared(name, (route, wq, wo, x, logits, k, v)).run
    before = run(x, logits, k, v).clone()
    later = [one.clone() for one in (x, logits, k, v)]
    for one in later[:2]:
        one[20:] = one[20:].flip(1)
    for one in later[2:]:
        one[:, 20:] *= -3
    after = run(*later)
    torch.testing.assert_close(after[:20], before[:20])
    assert (after[20:] - before[20:]).abs().amin(1).gt(0).all()


@needs_compiler
@traces
def test_no_choice_has_a_copy_of_its_token(trace):
    """Neither made in a call nor held beside the weights, however long tokens are."""
    operands = make_operands(point(trace, n=96, e=16, d=1024, g=1, f=32, dtype="bfloat16"))
    route, wq, wo, x, *_ = operands
    copied = max(route.nonzeros, 3 * 96) * 1024
    made = prepared("grouped", operands, "bfloat16")
    with Allocated() as ours:
        made.run(*operands[3:])
    assert not ours.most or not route.nonzeros
    sums = x.numel() * 4
    assert size(made.holds) - wq.nbytes - wo.nbytes - sums - x.nbytes < copied * x.element_size()
    theirs = prepared("grouped_torch", operands, "bfloat16")
    with Allocated() as copies:
        theirs.run(*operands[3:])
    assert copies.most >= route.nonzeros * 1024


@needs_compiler
def test_no_row_is_padded_and_keys_are_seen_up_to_a_panels_last_query():
    """Of 64 queries a panel, wherever choices go."""
    for trace in (Zipf(0.0, 0.75), Crowded(0.75), Zipf(99.0, 0.75)):
        operands = make_operands(point(trace, n=256, e=8, d=64, g=2, f=32, dtype="bfloat16"))
        made = prepared("grouped", operands, "bfloat16")
        made.run(*operands[3:])
        panel = made.note["panel"]
        seen = sum(panel * last for last in range(panel, 256 + 1, panel))
        assert made.executed() == 2 * (256 * 4 * 64 * 64 + 4 * 64 * seen)


@needs_compiler
@pytest.mark.parametrize("build", LESSER)
def test_products_are_right_on_other_processors(build):
    if not ON_X86:
        pytest.skip("these are flags for x86")
    library = load(grouped.SOURCE, *LESSER[build])

    @kernel(op="moa", dtypes=("float32", "bfloat16"), divides=grouped.DIVIDES, keep=False)
    def lesser(route, wq, wo, x, logits, k, v):
        return grouped.prepare(library, route, wq, wo, x, k)

    device = Cpu()
    verdicts = [examine(lesser, trial, device) for trial in list(cases_for(lesser))[::5]]
    assert {one.outcome for one in verdicts} == {"ok", "refused"}, verdicts


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_threads_do_not_change_the_answer(dtype):
    operands = make_operands(point(Zipf(1.5, 0.75), n=304, e=8, d=200, g=3, f=32, dtype=dtype))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(prepared("grouped", operands, dtype).run(*operands[3:]).clone())
    finally:
        torch.set_num_threads(before)
    assert found[0].equal(found[1]) and found[0].equal(found[2])


# The workload.


@pytest.mark.parametrize(
    ("extent", "least", "most"), [("smoke", 1, 1), ("default", 2, 2), ("full", 100, 200)]
)
def test_its_cases_exist_and_are_whole_blocks(extent, least, most):
    pytest.importorskip("suite.workloads.moa")
    cases = list(WORKLOADS["moa"].cases(extent))
    assert least <= len(set(cases)) == len(cases) <= most
    for one in cases:
        assert not faults(one)
        assert not [size for size, unit in grouped.DIVIDES.items() if one[size] % unit]
