"""Selectors that bring keys of their own, permuted, pooled or gathered; and one whose blocks serve steps."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from suite.case import case
from suite.commands import load
from suite.op import make_operands
from suite.ops import attention
from suite.patterns.chosen import Chosen
from suite.selection import by_row
from suite.selector import SELECTORS

load()

from suite.workloads.selectors import adaspa, pbs, pyramid, stripes  # noqa: E402

BOTH = ("attention", "attention_causal")
SEEDS = range(3)


def point(op="attention", sparsity=0.75, data="heads", seed=0, h=4, g=2, n=512, d=32, b=32):
    return case(op, Chosen(sparsity), "float32", seed, data, h=h, g=g, n=n, d=d, b=b)


def operands(one):
    return make_operands(one)[1:]


def found(name, one, live=None):
    return SELECTORS[name].prepare(one)(*(live or operands(one)))


def answer(a, one, live=None):
    return attention.answer(a, *(live or operands(one)), one.op == "attention_causal")


def full(one, live=None):
    return answer(
        by_row(torch.zeros(one["h"], *(2 * [one["n"] // one["b"]])), with_budget(one, 0.0)), one, live
    )


def with_budget(one, sparsity):
    return replace(one, pattern=Chosen(sparsity))


def error(a, one):
    whole = full(one)
    return float((answer(a, one) - whole).abs().sum() / whole.abs().sum())


def weights(one):
    return attention.weights(attention.without_mask(one))


def recall(a, one):
    return float((weights(one) * attention.covered(a, one)).sum(-1).mean())


def density(one, order=None):
    """The share of blocks that hold 95 % of each row's weight, keys in this order."""
    mass = weights(one)
    if order is not None:
        order = order.repeat_interleave(one["h"] // len(order), 0)
        mass = mass.gather(-1, order[:, None].expand(mass.shape))
    held = mass.unflatten(-1, (-1, one["b"])).sum(-1).sort(-1, descending=True).values.cumsum(-1)
    return float(((held < 0.95).sum(-1) + 1).float().mean() / held.shape[-1])


def preferred(one, length):
    q, k, _ = operands(one)
    return pbs.permutation(q.view(one["g"], -1, one["b"], one["d"]).mean(2), k, length)


@pytest.mark.parametrize("name", ["pbs", "pyramid", "stripes", "adaspa"])
@pytest.mark.parametrize("op", BOTH)
def test_what_selecting_takes_is_its_products_and_little_else(name, op):
    one = point(op)
    live = operands(one)
    with FlopCounterMode(display=False) as counted:
        a = found(name, one, live)
    products = counted.get_total_flops()
    assert products <= a.flops <= 1.2 * products


# Permuted


@pytest.mark.paper("pbs-attn")
@pytest.mark.parametrize("length", [96, 128, 512])
def test_a_permutation_is_a_bijection_within_each_segment(length):
    one = point()
    order = preferred(one, length)
    assert order.sort(-1).values.equal(torch.arange(512).expand(2, -1))
    assert (order // length).equal((torch.arange(512) // length).expand(2, -1))
    assert not order.equal(torch.arange(512).expand(2, -1))


@pytest.mark.paper("pbs-attn")
@pytest.mark.parametrize("op", BOTH)
def test_permuted_keys_in_full_are_dense_attention(op):
    one = point(op, 0.0, "scattered")
    a, (_, k, _) = found("pbs", one), operands(one)
    assert not a.k[:, -512:].equal(k), "nothing was permuted"
    assert a.k.equal(k.gather(1, a.tokens[..., None].expand(-1, -1, 32)))
    torch.testing.assert_close(answer(a, one), full(one))


@pytest.mark.paper("pbs-attn")
def test_where_causal_only_earlier_segments_are_permuted():
    one = point("attention_causal", 0.5, "scattered", n=1024)
    a, across, segment = found("pbs", one), 32, pbs.SEGMENT
    rows = torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths) % across
    moved = a.columns >= across
    assert bool(moved.any())
    assert moved.equal(a.columns % across // segment < rows // segment)
    assert bool((a.columns[1:] > a.columns[:-1])[rows[1:] == rows[:-1]].all())


@pytest.mark.paper("pbs-attn")
@pytest.mark.parametrize("seed", SEEDS)
def test_scattered_keys_need_fewer_blocks_once_they_are_permuted(seed):
    one = point(data="scattered", seed=seed, n=1024)
    luck = torch.stack([torch.randperm(1024), torch.randperm(1024)])
    assert density(one, preferred(one, 1024)) < 0.5 * min(density(one), density(one, luck))
    assert recall(found("pbs", one), one) > recall(found("pooled", one), one) + 0.3
    causal = point("attention_causal", data="scattered", seed=seed, n=2048)
    assert recall(found("pbs", causal), causal) > recall(found("pooled", causal), causal) + 0.05
    nothing = point(data="iid", seed=seed, n=1024)
    assert density(nothing, preferred(nothing, 1024)) == pytest.approx(density(nothing), rel=0.02)


# Pooled


def spans(a, one):
    """Of each kept block: its row, its first block, and of how many it is the means."""
    many = [one["n"] // one["b"] >> level for level in range(pyramid.LEVELS + 1)]
    starts = torch.tensor([0, *many]).cumsum(0)
    level = torch.bucketize(a.columns.long(), starts[1:], right=True)
    rows = torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths)
    return rows, (a.columns.long() - starts[level]) << level, 1 << level


def seen(a, one):
    """How often a row sees a block, in whatever detail: [rows, blocks]."""
    count = torch.zeros(a.shape[0], one["n"] // one["b"], dtype=torch.int64)
    for row, first, wide in zip(*(each.tolist() for each in spans(a, one)), strict=True):
        count[row, first : first + wide] += 1
    return count


@pytest.mark.paper("psa")
@pytest.mark.parametrize(("op", "n"), [*product(BOTH, (512, 544, 608))])
def test_a_pyramid_sees_nothing_twice_and_costs_the_tokens_it_pools_to(op, n):
    one = point(op, 0.7, n=n)
    a = found("pyramid", one)
    times = seen(a, one)
    assert int(times.max()) == 1
    wide = spans(a, one)[2]
    assert int(times.sum() - (wide - 1).sum()) == a.nonzeros
    assert attention.ATTENTION.useful(one, (a,)) == 4 * 32 * 32 * a.nonzeros * 32
    assert bool((wide > 1).any())
    if op == "attention_causal":
        assert not bool(times.view(4, n // 32, n // 32).triu(1).any())
        assert bool(times.view(4, n // 32, n // 32).diagonal(dim1=1, dim2=2).all())


@pytest.mark.paper("psa")
@pytest.mark.parametrize("op", BOTH)
def test_a_pyramid_of_full_and_none_is_a_mask_of_blocks(op, monkeypatch):
    monkeypatch.setattr(pyramid, "MISSED", 1e6)
    one = point(op)
    a = found("pyramid", one)
    assert int(a.columns.max()) < 16
    plain = replace(a, k=None, v=None, bias=None, tokens=None, shape=(64, 16))
    torch.testing.assert_close(answer(a, one), answer(plain, one))


@pytest.mark.paper("psa")
@pytest.mark.parametrize("op", BOTH)
def test_means_of_tokens_that_are_alike_are_exact(op):
    one = point(op, 0.8)
    q, k, v = operands(one)
    live = q, k[:, ::4].repeat_interleave(4, 1), v[:, ::4].repeat_interleave(4, 1)
    a = found("pyramid", one, live)
    assert a.nonzeros < int(seen(a, one).sum())
    mask = by_row(torch.rand(4, 16, 16), with_budget(one, 0.0))
    every = seen(a, one).bool()
    columns = every.nonzero()[:, 1]
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), every.sum(1).cumsum(0))).int()
    mask = replace(mask, starts=starts, columns=columns.int(), values=torch.ones(len(columns)))
    torch.testing.assert_close(answer(a, one, live), answer(mask, one, live))


@pytest.mark.paper("psa")
def test_each_cost_wins_what_the_best_way_wins():
    """Four blocks, each way to see them tried."""
    ones, pairs, four = torch.rand(50, 4), torch.rand(50, 2) * 1.5, torch.rand(50, 1) * 2
    best = torch.stack((torch.zeros_like(ones), ones), -1)
    best, *first = pyramid.combined(pairs, best)
    best, *second = pyramid.combined(four, best)
    halves = [(0, 0.0), (1, 0), (1, 1), (1, 2), (2, 3)]  # cost; none, first, second, as one, both

    def value(at, half, way):
        a, b = ones[at, 2 * half : 2 * half + 2].tolist()
        return (0, a, b, float(pairs[at, half]), a + b)[way]

    for at in range(50):
        expected = [0.0] * 5
        for one, two in product(range(5), repeat=2):
            cost = halves[one][0] + halves[two][0]
            expected[cost] = max(expected[cost], value(at, 0, one) + value(at, 1, two))
        expected[1] = max(expected[1], float(four[at, 0]))
        assert best[at, 0].tolist() == pytest.approx(expected)
    for cost in range(5):
        kept = pyramid.spent(torch.full((50, 1), cost), [first, second])
        won = sum((each * of).sum(-1) for each, of in zip(kept, (ones, pairs, four), strict=True))
        torch.testing.assert_close(won, best[:, 0, cost])
    further = pyramid.steps(best)
    assert bool((further.diff(dim=-1) < 0).all())


@pytest.mark.paper("psa")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("op", BOTH)
def test_pooling_what_is_smooth_errs_less_than_leaving_it_out(op, seed, monkeypatch):
    """At equal counted blocks, by the same scores; on noise, where attention is nearly a mean, too."""
    cases = [point(op, 0.9, data, seed, h=1, g=1, n=2048, d=64) for data in ("video", "iid")]
    pooled = [error(found("pyramid", one), one) for one in cases]
    monkeypatch.setattr(pyramid, "MISSED", 1e6)
    masks = [error(found("pyramid", one), one) for one in cases]
    assert pooled[0] < masks[0]
    assert pooled[1] < masks[1]


# Gathered


def margins(one):
    q, k, _ = operands(one)
    return stripes.below(q, k, one["b"])


@pytest.mark.paper("anchorattention")
@pytest.mark.parametrize("op", BOTH)
def test_keys_are_in_order_of_their_distance(op):
    one = point(op)
    far, excluded = margins(one), stripes.apart(16, 32, op == "attention_causal")
    ordered, bits = stripes.in_order(far.clone(), excluded)
    keys = (ordered & (1 << bits) - 1).long()
    assert keys.sort(-1).values.equal(torch.arange(512).expand(keys.shape))
    inside = far.masked_fill(excluded, stripes.FARTHEST).clamp(-stripes.FARTHEST, stripes.FARTHEST)
    step = 2 * stripes.FARTHEST / (2 ** (31 - bits) - 1)
    assert bool((inside.gather(-1, keys).diff(dim=-1) > -2 * step - 1e-5).all())


@pytest.mark.paper("anchorattention")
@pytest.mark.parametrize("op", BOTH)
def test_a_row_keeps_its_own_block_and_the_nearest_others(op):
    one = point(op)
    a = found("stripes", one)
    held = attention.covered(a, one)
    assert held.sum(-1).flatten().equal(a.row_lengths * 32), "a key was gathered twice"
    own = torch.arange(512)[None] // 32 == torch.arange(16)[:, None]
    assert bool(held[:, own].all())
    may = ~stripes.apart(16, 32, op == "attention_causal")
    far = margins(one)
    farthest = far.masked_fill(~(held & may), -torch.inf).amax(-1)
    nearest = far.masked_fill(held | ~may, torch.inf).amin(-1)
    assert bool((farthest <= nearest + 1e-3).all())


@pytest.mark.paper("anchorattention")
@pytest.mark.parametrize("op", BOTH)
def test_recall_grows_with_the_margin_and_no_margin_is_dense(op):
    one = point(op)
    far, mass = margins(one), weights(one)
    shares = [float((mass * (far <= theta)).sum(-1).mean()) for theta in (-2.0, 0.0, 2.0, 5.0, 10.0)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]
    assert float((mass * (far <= torch.inf)).sum(-1).mean()) == pytest.approx(1)
    torch.testing.assert_close(answer(found("stripes", with_budget(one, 0.0)), one), full(one))


@pytest.mark.paper("anchorattention")
@pytest.mark.parametrize("op", BOTH)
@pytest.mark.parametrize("data", ["heads", "iid"])
def test_the_best_stripes_take_no_more_area_than_the_best_blocks(op, data):
    """Outside the diagonal, at the recall of any number of blocks."""
    one = point(op, data=data)
    mass = weights(one) * ~stripes.apart(16, 32, op == "attention_causal")
    by_blocks = mass.unflatten(-1, (-1, 32)).sum(-1).sort(-1, descending=True).values.cumsum(-1)
    by_keys = mass.sort(-1, descending=True).values.cumsum(-1)
    needed = (by_keys[..., None, :] < by_blocks[..., None] - 1e-6).sum(-1) + 1
    assert bool((needed <= 32 * torch.arange(1, 17)).all())


@pytest.mark.paper("anchorattention")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("op", BOTH)
def test_anchors_find_nearly_what_the_best_stripes_would(op, seed):
    one = point(op, 0.9, "sinks", seed, n=1024)
    a, mass = found("stripes", one), weights(one)
    held = attention.covered(a, one)
    own = torch.arange(1024)[None] // 32 == torch.arange(32)[:, None]
    may = ~stripes.apart(32, 32, op == "attention_causal")
    spare, source = (held & ~own).sum(-1), torch.Generator().manual_seed(seed)

    def of(scores):
        """The recall of as many stripes of each row, by these scores."""
        ranks = scores.masked_fill(~may, -1.0).argsort(dim=-1, descending=True).argsort(dim=-1)
        return float((mass * ((ranks < spare[..., None]) & may | own)).sum(-1).mean())

    luck, best = of(torch.rand(mass.shape, generator=source)), of(mass)
    assert recall(a, one) > luck
    assert best - recall(a, one) < 0.5 * (best - luck)


# Kept for steps


@pytest.mark.paper("adaspa")
@pytest.mark.parametrize("op", BOTH)
def test_weights_by_a_known_sum_are_those_of_the_softmax(op):
    one = point(op)
    q, k, _ = operands(one)
    scores = adaspa.scores(q, k, 32, op == "attention_causal")
    expected = scores.softmax(-1).unflatten(-1, (-1, 32)).sum(-1)
    known = scores.logsumexp(-1, keepdim=True)
    for given in (None, known, known + 3):
        weights, lse = adaspa.weighed(scores.clone(), 32, given)
        torch.testing.assert_close(weights, expected)
        torch.testing.assert_close(lse, known)
    assert bool((expected - (scores - known).exp().unflatten(-1, (-1, 32)).sum(-1)).abs().max() < 1e-5)


@pytest.mark.paper("adaspa")
@pytest.mark.parametrize("op", BOTH)
def test_a_search_that_reuses_its_sums_finds_the_same(op):
    one = point(op)
    live = operands(one)
    steps = adaspa.Steps(one, 1)
    first, again = steps(*live), steps(*live)
    assert again is not first
    assert again.columns.equal(first.columns)
    assert again.starts.equal(first.starts)
    assert first.columns.equal(found("adaspa", one).columns)


@pytest.mark.paper("adaspa")
@pytest.mark.parametrize("period", [1, 2, 4])
def test_searching_costs_as_many_times_less_as_steps_share_it(period):
    one = point()
    live = operands(one)
    steps = adaspa.Steps(one, period)
    spent = sum(steps(*live).flops for _ in range(8))
    asked = 4 * 16 * adaspa.ASKED
    assert spent == 8 // period * 2 * asked * 512 * 32


def drifting(one, steps):
    """Operands that become those of another seed, a little in each step."""
    q, k, v = operands(one)
    others = operands(replace(one, seed=one.seed + 100))
    for step in range(steps):
        angle = torch.tensor(0.2 * step)
        yield *(a * angle.cos() + b * angle.sin() for a, b in zip((q, k), others, strict=False)), v


def jaccard(first, second):
    one, two = (each.dense.bool() for each in (first, second))
    return float((one & two).sum() / (one | two).sum())


@pytest.mark.paper("adaspa")
def test_what_is_kept_longer_fits_worse_as_operands_drift():
    """The mean over steps and seeds; the weight is that of the operands of the step."""
    periods, held, overlap = (1, 2, 4, 8), dict.fromkeys((1, 2, 4, 8), 0.0), []
    for seed in SEEDS:
        one = point(seed=seed, sparsity=0.8)
        each = [(period, adaspa.Steps(one, period)) for period in periods]
        masks = []
        for q, k, v in drifting(one, 8):
            scores = q @ k.repeat_interleave(2, 0).mT / 32**0.5
            mass = scores.softmax(-1).unflatten(-1, (-1, 32)).sum(-1).unflatten(1, (-1, 32)).mean(2)
            for period, steps in each:
                a = steps(q, k, v)
                held[period] += float((mass.flatten(0, 1) * a.dense).sum(-1).mean())
                masks += [a] if period == 1 else []
        overlap.append([jaccard(masks[0], one) for one in masks])
    assert [held[period] for period in periods] == sorted(held.values(), reverse=True)
    assert held[1] > held[8]
    near, far = (sum(each[at] for each in overlap) / len(overlap) for at in (1, -1))
    assert 1 > near > far > 0.2


@pytest.mark.paper("adaspa")
def test_heads_that_look_at_little_leave_their_budget_to_others():
    one = point(data="heads", h=6, g=6, n=1024)
    kept = found("adaspa", one).row_lengths.view(6, -1).sum(1)
    sinks, noise = kept[0], kept[5]
    assert sinks != noise
    assert recall(found("adaspa", one), one) > recall(found("pooled", one), one)
