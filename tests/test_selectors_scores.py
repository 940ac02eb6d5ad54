"""Selectors that score blocks: what each one's score is, what finding it costs, and what it is worth."""

from dataclasses import replace
from math import exp, inf, sqrt

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from suite import native
from suite.case import case
from suite.check import check, question
from suite.commands import load
from suite.inputs import INPUTS
from suite.op import OPS, generator, make_operands
from suite.ops import attention
from suite.patterns.chosen import Chosen
from suite.selection import by_row, of_layer, permitted
from suite.selector import SELECTORS, entries

load()

from suite.kernels.attention import attention_block_filtered as second  # noqa: E402
from suite.workloads.selectors import proxy, seer, sparge, vertical_slash, xattention  # noqa: E402

BOTH = ("attention", "attention_causal")
SEEDS = range(3)
FILTERED = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))


def point(op="attention", sparsity=0.75, h=4, g=2, n=512, d=32, b=32, data="heads", seed=0):
    return case(op, Chosen(sparsity), "float32", seed, data, h=h, g=g, n=n, d=d, b=b)


def kept(found, one):
    """As a map of truths, [heads, query blocks, key blocks]."""
    across = one["n"] // one["b"]
    return found.rows_dense(0, found.shape[0]).bool().view(one["h"], across, across)


def chosen(name, one):
    """What a selector finds in a case's operands."""
    _, q, k, v = make_operands(one)
    return SELECTORS[name].prepare(one)(q, k, v)


def recall(found, one):
    weights = attention.weights(attention.without_mask(one))
    return float((weights * attention.covered(found, one)).sum(-1).mean())


def counted(run):
    """FLOPs of the matrix products in a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def dense_map(q, k, b, causal):
    """Each block's share of attention's weight, from all of it: [h, n / b, n / b]."""
    heads, n, d = q.shape
    scores = q @ k.repeat_interleave(heads // len(k), 0).mT / sqrt(d)
    if causal:
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
    return scores.softmax(-1).view(heads, n // b, b, n // b, b).sum((2, 4)) / b


def crossed(one, vertical=None, slash=None):
    """Q and K of one head whose products are 30 on a line and 0 elsewhere; the blocks with 16 pairs of it.

    d is n, so that each key has a direction of its own.
    """
    n, b = one["n"], one["b"]
    line = torch.zeros(n, n)
    if vertical is not None:
        line[:, vertical] = 1
    if slash is not None:
        line += torch.ones(n, n).tril(-slash).triu(-slash)
    if one.op == "attention_causal":
        line = line.tril()
    blocks = line.view(n // b, b, n // b, b).sum((1, 3))
    scaled = 30 * sqrt(n)
    return (scaled * line)[None], torch.eye(n)[None], blocks


LINES = [{"vertical": 70}, {"vertical": 41}, {"slash": 47}, {"slash": 48}, {"slash": 80}, {"slash": 113}]


# XAttention


@pytest.mark.paper("xattention")
@pytest.mark.parametrize(("op", "sparsity"), [("attention", 0.6), ("attention_causal", 0.4)])
@pytest.mark.parametrize("line", LINES, ids=str)
def test_antidiagonals_meet_every_line(op, sparsity, line):
    """Every block with two tiles of it is kept."""
    one = point(op, sparsity, h=1, g=1, n=256, d=256)
    q, k, blocks = crossed(one, **line)
    found = kept(SELECTORS["xattention"].prepare(one)(q, k, k), one)[0]
    wanted = blocks >= 2 * xattention.STRIDE
    assert wanted.sum() >= 3
    assert bool(found[wanted].all())


@pytest.mark.paper("xattention")
def test_in_step_an_even_stride_misses_an_even_slash():
    q, k, blocks = crossed(point(n=256, d=256, h=1, g=1), slash=48)
    stride, n = xattention.STRIDE, 256
    in_step = torch.arange(n).view(-1, stride).flip(-1).flatten()
    assert float(xattention.antidiagonals(q[:, in_step], k, stride).sum()) == 0
    turned = xattention.antidiagonals(q[:, xattention.backwards(n, stride)], k, stride)
    sums = turned.view(8, 4, 8, 4).sum((1, 3))
    assert bool((sums > 0).equal(blocks > 0))


@pytest.mark.paper("xattention")
def test_antidiagonals_at_stride_1_are_all_scores():
    _, q, k, _ = make_operands(point(n=128))
    q = q[:, xattention.backwards(128, 1)]
    torch.testing.assert_close(xattention.antidiagonals(q, k, 1), q @ k.repeat_interleave(2, 0).mT)


@pytest.mark.paper("xattention")
@pytest.mark.parametrize("stride", [2, 4, 8, 16])
def test_antidiagonals_are_what_they_are_called(stride):
    q, k, _ = (part.double() for part in attention.drawn(point(n=64)))
    scores = (q @ k.repeat_interleave(2, 0).mT).unfold(1, stride, stride).unfold(2, stride, stride)
    sums = xattention.antidiagonals(q[:, xattention.backwards(64, stride)], k, stride)
    inside = torch.arange(stride)
    for row in range(64 // stride):
        level = stride - 1 - row % 2
        cells = (inside[:, None] + inside) % stride == level
        torch.testing.assert_close(sums[:, row], (scores[:, row] * cells).sum((-1, -2)))


@pytest.mark.paper("xattention")
@pytest.mark.parametrize("op", BOTH)
@pytest.mark.parametrize("name", ["xattention", "sparge", "seer", "proxy", "vertical_slash"])
def test_what_scoring_takes_is_what_it_says(op, name):
    one = point(op, h=8, g=2)
    if op not in SELECTORS[name].ops:
        pytest.skip(f"{name} is of causal attention alone")
    _, q, k, v = make_operands(one)
    select = SELECTORS[name].prepare(one)
    flops = select(q, k, v).flops
    pooling = {"sparge": 5 * (8 + 2) * 512 * 32, "seer": (8 + 3 * 2) * 512 * 32}.get(name, 0)
    assert counted(lambda: select(q, k, v)) + pooling == flops
    full = 2 * 8 * 512 * 512 * 32
    if name == "xattention":
        assert flops * xattention.STRIDE == full


@pytest.mark.paper("xattention")
@pytest.mark.parametrize("op", BOTH)
def test_on_lines_antidiagonals_find_more_than_means(op):
    found = {name: [] for name in ("xattention", "pooled", "random_blocks")}
    for seed in SEEDS:
        one = point(op, 0.75, n=1024, d=64, data="lines", seed=seed)
        for name, each in found.items():
            each.append(recall(chosen(name, one), one))
    assert min(found["xattention"]) > max(found["random_blocks"])
    assert sum(found["xattention"]) > sum(found["pooled"])


# SpargeAttn


@pytest.mark.paper("spargeattn")
def test_a_block_whose_tokens_differ_is_kept_by_all():
    """Its mean is like none of them: two kinds of tokens that cancel out."""
    one = point(h=1, g=1, n=256, d=32, sparsity=0.5)
    source = torch.Generator().manual_seed(0)
    k = torch.randn(1, 8, 1, 32, generator=source).expand(-1, -1, 32, -1).clone()
    k[:, 5, ::2] *= -1
    q = torch.randn(1, 8, 1, 32, generator=source).expand(-1, -1, 32, -1)
    found = kept(SELECTORS["sparge"].prepare(one)(q.reshape(1, 256, 32), k.view(1, 256, 32), k), one)
    assert bool(found[0, :, 5].all())
    assert not bool(found[0].all(0)[[0, 1, 2, 3, 4, 6, 7]].all())


@pytest.mark.paper("spargeattn")
def test_alike_is_the_mean_cosine():
    x = torch.randn(2, 128, 16, generator=torch.Generator().manual_seed(0))
    x[0, :32] += 0.6
    unit = torch.nn.functional.normalize(x, dim=-1).view(2, 4, 32, 16)
    cosine = (unit @ unit.mT).mean((-1, -2))
    means, sure = sparge.means(x, 32)
    torch.testing.assert_close(means, x.view(2, 4, 32, 16).mean(2))
    assert sure.equal(cosine >= sparge.ALIKE)
    assert sure.any() and not sure.all()


def lost(name, one):
    """The error of attention over what a selector keeps."""
    operands = make_operands(one)
    found = SELECTORS[name].prepare(one)(*operands[1:])
    (whole, *live), causal = attention.ATTENTION.whole(one, operands), False
    full = attention.reference(causal)(whole, *live)
    answer = attention.reference(causal)(found, *live)
    return float((answer - full).abs().sum() / full.abs().sum())


@pytest.mark.paper("spargeattn")
@pytest.mark.parametrize("data", sorted(INPUTS))
def test_its_error_lies_between_perfect_knowledge_and_luck(data):
    """On inputs with nothing to find all three are one; what is lost is known to 2 % and 0.001."""
    if "attention" not in INPUTS[data].ops:
        pytest.skip(f"{data} is of another op")
    names = ("oracle", "sparge", "random_blocks")
    best, mine, luck = (
        sum(lost(name, point(n=256, data=data, seed=seed, sparsity=0.5)) for seed in SEEDS) for name in names
    )
    assert best <= mine * 1.02 + 0.001
    assert mine <= luck * 1.02 + 0.001


@pytest.mark.paper("spargeattn")
def test_the_more_is_left_out_the_more_is_lost():
    errors = [
        sum(lost("sparge", point(n=256, seed=seed, sparsity=left_out)) for seed in SEEDS)
        for left_out in (0.0, 0.25, 0.5, 0.75, 0.9)
    ]
    assert errors == sorted(errors)
    assert errors[0] == pytest.approx(0, abs=1e-9)


def filtered(name, least, operands):
    """The answer of a kernel that passes over what is so far below, and the share of pairs passed over."""
    a, *live = operands
    library = native.load(second.SOURCE, second.FLAG)
    made = second.prepare(library, a, *live[:2], causal="causal" in name, least=least)
    return made.run(*live).double(), float(made.note["passed"])


@FILTERED
@pytest.mark.paper("spargeattn")
@pytest.mark.parametrize("data", ["sinks", "documents", "video", "iid"])
@pytest.mark.parametrize("op", BOTH)
def test_values_that_are_passed_over_change_no_more_than_the_bound(data, op):
    """n keys so far below weigh exp(least) each at most: an answer changes by 2 n exp(least) max |v|."""
    one = point(op, data=data, sparsity=0.5, h=2, g=2, n=1024)
    _, q, k, v = make_operands(one)
    operands = SELECTORS["sparge"].prepare(one)(q, k, v), q, k, v
    name = f"{op}_block_filtered"
    exact, none = filtered(name, -inf, operands)
    torch.testing.assert_close(exact, attention.reference("causal" in op)(*operands), rtol=1e-5, atol=1e-5)
    assert none == 0
    shares = []
    for least in (-12.0, -8.0, -4.0, -2.0):
        answer, passed = filtered(name, least, operands)
        shares.append(passed)
        assert float((answer - exact).abs().max()) <= 2 * one["n"] * exp(least) * float(v.abs().max()) + 1e-5
    assert shares == sorted(shares) and shares[-1] <= 1 - one.pattern.sparsity + 0.01
    assert data in ("iid", "video") or shares[-1] > 0, "nothing was ever passed over"


@FILTERED
@pytest.mark.paper("spargeattn")
@pytest.mark.parametrize("op", BOTH)
def test_both_filters_off_is_dense_attention(op):
    one = point(op, 0.0)
    asked = question(one, make_operands(one))
    found, _ = filtered(f"{op}_block_filtered", -inf, asked.whole.operands)
    torch.testing.assert_close(found, asked.whole.expected, rtol=1e-5, atol=1e-5)


@FILTERED
@pytest.mark.paper("spargeattn")
@pytest.mark.parametrize(("op", "dtype"), [(op, dtype) for op in BOTH for dtype in ("float32", "bfloat16")])
def test_what_a_kernel_passes_over_is_no_more_than_a_rounding(op, dtype):
    """A first token that all look at: what comes after it weighs nothing, and is left out."""
    one = replace(point(op, 0.0, h=2, g=1, n=1024, d=64, data="iid"), dtype=dtype)
    a, q, k, v = make_operands(one)
    q[..., 0], k[..., 0], k[:, 0, 0] = 8.0, 0.0, 40.0
    asked = question(one, OPS[op].whole(one, (a, q, k, v)))
    made = entries()[f"{op}_block_filtered"].prepare(*asked.operands)
    assert check(made.run(q, k, v), asked) <= 1
    assert float(made.note["passed"]) > (0.7 if op == "attention" else 0.3)
    assert made.executed == entries()[f"{op}_block"].prepare(*asked.operands).executed
    least = second.least_that_counts(1024, q.dtype)
    assert 2 * 1024 * exp(least) == pytest.approx(torch.finfo(q.dtype).eps / 2)


# SeerAttention


@pytest.mark.paper("seerattention")
@pytest.mark.parametrize("causal", [False, True])
def test_a_block_map_is_the_sum_over_the_dense_one(causal):
    _, q, k, _ = make_operands(point(n=256))
    rows = [5, 0, 7]
    mine = seer.block_map(q, k, 32, rows, causal)
    torch.testing.assert_close(mine, dense_map(q, k, 32, causal)[:, rows])
    torch.testing.assert_close(mine.sum(-1), torch.ones(4, 3))


@pytest.mark.paper("seerattention")
@pytest.mark.parametrize("op", BOTH)
def test_learning_reaches_the_gate_and_nothing_else(op):
    one = seer.lesson(point(op))
    q, k, _ = (part.requires_grad_() for part in attention.drawn(one))
    gate = [part.requires_grad_() for part in seer.fitted(one)]
    with torch.no_grad():
        queries, keys = seer.features(q, k, 32)
        target = seer.block_map(q, k, 32, range(16), op == "attention_causal")
    seer.loss(gate, seer.visible(one), queries, keys, torch.arange(16), target).backward()
    assert q.grad is None and k.grad is None
    for part in gate:
        assert bool(part.grad.isfinite().all()) and bool(part.grad.any())
        part.requires_grad_(False).grad = None


@pytest.mark.paper("seerattention")
def test_one_gate_is_learned_for_cases_that_differ_in_seed_and_budget():
    first, second = (seer.lesson(point(seed=seed, sparsity=s)) for seed, s in ((0, 0.5), (7, 0.9)))
    assert first == second
    assert seer.fitted(first) is seer.fitted(second)
    assert seer.lesson(point(data="sinks")) != first
    again = seer.fitted.__wrapped__(first)
    for mine, its in zip(seer.fitted(first), again, strict=True):
        torch.testing.assert_close(mine, its)


@pytest.mark.paper("seerattention")
def test_a_gate_serves_a_longer_sequence():
    short, across = torch.arange(7.0)[None], 7
    assert seer.stretched(short, 4).equal(short)
    assert seer.stretched(short, across).equal(torch.linspace(0, 6, 13)[None])
    added = seer.spread(short)[0]
    assert added.shape == (4, 4)
    assert added[2, 1] == 4 and added[0, 3] == 0 and added[3, 0] == 6


@pytest.mark.paper("seerattention")
@pytest.mark.parametrize("op", BOTH)
def test_what_was_learned_finds_more_than_means_and_luck(op):
    """On inputs that it did not learn from, each row spending as much."""
    found = {"seer": 0.0, "pooled": 0.0, "random_blocks": 0.0}
    for seed in range(4):
        one = point(op, seed=seed, g=4)
        _, q, k, _ = make_operands(one)
        *maps, distances = seer.fitted(seer.lesson(one))
        gate = (*maps, seer.spread(distances) + seer.visible(one))
        learned = by_row(seer.logits(gate, *seer.features(q, k, 32)), one)
        each = {"seer": learned} | {name: chosen(name, one) for name in ("pooled", "random_blocks")}
        for name, selection in each.items():
            found[name] += recall(selection, one) / 4
    assert found["seer"] > found["pooled"] > found["random_blocks"]


# ProxyAttn


@pytest.mark.paper("proxyattn")
@pytest.mark.parametrize("op", BOTH)
def test_of_like_heads_one_is_enough(op):
    one = point(op, h=8, g=8, data="lines")
    _, q, k, v = make_operands(one)
    q, k = q[:1].expand(8, -1, -1), k[:1].expand(8, -1, -1)
    few = proxy.highest(q, k, 2, 32, 16)
    all_of_them = proxy.highest(q, k, 8, 32, 16)
    assert few.repeat_interleave(4, 0).equal(all_of_them)
    found = kept(SELECTORS["proxy"].prepare(one)(q, k, v), one)
    assert int((found != found[:1]).any(0).sum()) <= 1  # the last pair of the budget has one head


@pytest.mark.paper("proxyattn")
def test_with_a_proxy_a_head_it_is_scoring_each_head():
    _, q, k, _ = make_operands(point(h=4, g=4))
    scores = (q[:, ::16] @ k.mT / sqrt(32)).view(4, 16, 2, 16, 32).amax((2, 4))
    torch.testing.assert_close(proxy.highest(q, k, 4, 32, 16), scores)
    few, each = (counted(lambda p=p: proxy.highest(q, k, p, 32, 16)) for p in (1, 4))
    assert each == 4 * few


@pytest.mark.paper("proxyattn")
@pytest.mark.parametrize("op", BOTH)
def test_heads_keep_what_they_need(op):
    """As long as it is more than must stay: twice the need, twice the blocks, to one."""
    one = point(op, 0.4, h=4, g=4, n=1024, d=32)
    scores = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(0))
    needs = torch.tensor([1.0, 1.2, 1.4, 1.6])[:, None, None]
    ranks = proxy.ranked(scores, one)
    found = kept(proxy.by_layer(-(ranks + 0.5) / needs, one), one)
    counts = found.sum((1, 2))
    assert int(counts.sum()) == of_layer(one)
    water = counts / needs.flatten()
    assert float((counts - water.mean() * needs.flatten()).abs().max()) <= 1
    for head, count in enumerate(counts.tolist()):
        best = permitted(scores, one)[head].flatten().topk(count).indices
        assert bool(found[head].flatten()[best].all())


@pytest.mark.paper("proxyattn")
def test_a_need_is_how_many_blocks_hold_the_share():
    _, q, k, _ = make_operands(point(h=4, g=2))
    weights = (q[:, -32::16] @ k.repeat_interleave(2, 0).mT / sqrt(32)).softmax(-1)
    blocks = weights.view(4, 2, 16, 32).sum((1, 3)) / 2
    for head, need in enumerate(proxy.needed(q, k, 32, 16).flatten().tolist()):
        best = blocks[head].sort(descending=True).values
        assert best[:need].sum() >= proxy.SHARE > best[: need - 1].sum()


@pytest.mark.paper("proxyattn")
@pytest.mark.parametrize("op", BOTH)
def test_recall_falls_as_heads_part(op):
    """Heads that share less and less of what they look for, in the mean of the seeds."""
    found = []
    for apart in (0.0, 0.3, 0.6, 1.0):
        total = 0.0
        for seed in SEEDS:
            one = point(op, 0.75, h=4, g=4, data="iid", seed=seed)
            source = generator(one, 3)
            same, own = torch.randn(1, 16, 32, generator=source), torch.randn(4, 16, 32, generator=source)
            kinds = torch.nn.functional.normalize(sqrt(1 - apart) * same + sqrt(apart) * own, dim=-1)
            at = torch.randint(16, (16,), generator=source)
            q, k = 6.0 * kinds[:, at], 6.0 * kinds
            q, k = (part.repeat_interleave(32, 1) for part in (q, k))
            selection = kept(SELECTORS["proxy"].prepare(one)(q, k, k), one)
            total += float((dense_map(q, k, 32, op == "attention_causal") * selection).sum(-1).mean())
        found.append(total / len(SEEDS))
    assert found == sorted(found, reverse=True)


# Vertical and slash


def test_lines_are_sums_of_columns_and_diagonals():
    weights = torch.rand(2, 4, 16, generator=torch.Generator().manual_seed(0))
    vertical, slash = vertical_slash.lines(weights)
    torch.testing.assert_close(vertical, weights.sum(1))
    for back in range(16):
        seen = [weights[:, row, 12 + row - back] for row in range(4) if back <= 12 + row]
        torch.testing.assert_close(slash[:, back], sum(seen, torch.zeros(2)))


def test_a_slash_counts_by_how_much_of_it_is_in_a_block():
    n, b = 32, 8
    for back in (0, 3, 8, 13, 31):
        slash = torch.zeros(1, n)
        slash[0, back] = 1
        line = torch.ones(4 * n, 4 * n).tril(-back).triu(-back)
        inside = line.view(16, b, 16, b).sum((1, 3)) / b
        expected = [float(inside[15, 15 - far]) for far in range(n // b)]
        assert vertical_slash.touched(slash, b)[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("line", LINES, ids=str)
def test_lines_that_the_last_queries_see_are_kept_in_all_rows(line):
    one = point("attention_causal", 0.4, h=1, g=1, n=256, d=256)
    q, k, blocks = crossed(one, **line)
    found = kept(SELECTORS["vertical_slash"].prepare(one)(q, k, k), one)[0]
    assert bool(found[blocks > 0].all())
