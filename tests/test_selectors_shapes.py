"""Shapes settled beforehand, and heads that stream: what a plan holds, costs and is worth."""

from dataclasses import replace
from itertools import product
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from suite.case import case
from suite.check import check, over, question
from suite.commands import load
from suite.cpu.device import Cpu
from suite.inputs import INPUTS, Input
from suite.kernel import KERNELS, prepared
from suite.op import make_operands
from suite.ops import attention
from suite.patterns.chosen import Chosen
from suite.selection import from_map, of_layer, of_rows, room
from suite.selector import SELECTORS
from suite.workloads import inputs
from suite.workloads.selectors import fixed_shapes, streaming_heads

load()

BOTH = ("attention", "attention_causal")
SHAPES = fixed_shapes.SHAPES


def point(op="attention", sparsity=0.75, dtype="float32", h=4, g=4, n=1024, d=32, b=32, data="heads", seed=0):
    return case(op, Chosen(sparsity), dtype, seed, data, h=h, g=g, n=n, d=d, b=b)


def truths(found, one):
    across = one["n"] // one["b"]
    return found.rows_dense(0, found.shape[0]).bool().view(one["h"], across, across)


def judged(one, *selections):
    """What each loses, beside attention in full."""
    asked = question(one, make_operands(one))
    for found in selections:
        answer = attention.answer(
            found, *(each.double() for each in asked.operands[1:]), one.op == "attention_causal"
        )
        full = asked.operands, asked.whole.expected
        yield attention.quality(one, ((found, *asked.operands[1:]), answer), full)


def chosen(name, one):
    """What a selector keeps of a case's operands."""
    operands = make_operands(one)
    return SELECTORS[name].prepare(one)(*operands[1:])


# Fixed shapes.


def shaped(case, source):
    """A head of each shape: near by, some tokens at fixed places, two distances, and one that says little."""
    one, n, d = case.with_sizes(h=1, g=1), case["n"], case["d"]
    at = inputs.along(case)
    near = inputs.waves(at, case["b"] / 2, d, source)
    column = inputs.direction(d, source)
    k = torch.zeros(n, d)
    k[n // 3 :: n // 3] = k[n // 3 + 1 :: n // 3] = column
    rates = source.get_state()
    q = torch.zeros(n, d)
    for back in (0.3, 0.6):
        source.set_state(rates)
        q += inputs.waves(at - n * back, 4.0, d, source)
    source.set_state(rates)
    far = inputs.waves(at, 4.0, d, source)
    planted = [(near, near), (column.expand(n, d) * 1.3, k * 1.3), (q, far)]
    heads = [inputs.planted(one, source, *signals) for signals in planted]
    q, k, v = inputs.noise(one, source)
    heads.append((q, k, v * 0.01))
    return tuple(torch.cat(one) for one in zip(*heads, strict=True))


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setitem(INPUTS, "shaped", Input("shaped", "", shaped, BOTH))


@pytest.mark.paper("sparse-vdit")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("op", "sparsity"), [("attention", 0.85), ("attention_causal", 0.8)])
def test_planted_heads_get_their_shape(planted, op, sparsity, seed):
    plan = fixed_shapes.planned(point(op, sparsity, data="shaped", seed=seed))
    assert plan.shapes == ("diagonal", "vertical", "multi_diagonal", "skip")
    assert int(plan.pairs[3]) == 32


@pytest.mark.paper("sparse-vdit")
@pytest.mark.parametrize("op", BOTH)
@pytest.mark.parametrize("shape", [*SHAPES, "skip"])
def test_a_shape_is_its_masked_dense_attention(planted, shape, op):
    one = point(op, 0.8, data="shaped")
    plan = fixed_shapes.planned(one, (shape,) if shape in SHAPES else SHAPES)
    if shape == "skip":
        plan = replace(plan, pairs=torch.full_like(plan.pairs, 32))
        one = replace(one, pattern=Chosen(1.0))
    found = fixed_shapes.kept(plan, one)
    operands = make_operands(one)
    asked = over(one, operands, lambda *live: found)
    seen = truths(found, one).repeat_interleave(32, 1).repeat_interleave(32, 2)
    if op == "attention_causal":
        seen &= torch.ones(1024, 1024, dtype=torch.bool).tril()
    masked = functional.scaled_dot_product_attention(
        *(each.double() for each in operands[1:]), attn_mask=seen
    )
    torch.testing.assert_close(asked.expected, masked)
    for kernel in KERNELS.values():
        if kernel.op == op and kernel.chooses and not kernel.refusals(one, Cpu(1)):
            made = prepared(kernel, asked.operands)
            assert check(made.run(*operands[1:], found), asked) <= 1


@pytest.mark.paper("sparse-vdit")
def test_shapes_are_what_they_are_called():
    one = point(n=512)
    rows = torch.arange(16)
    mass = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    away = rows - rows[:, None]
    near = fixed_shapes.diagonal(one, rows, mass)
    assert near.equal(-away.abs().float())
    columns = fixed_shapes.vertical(one, rows, mass)
    torch.testing.assert_close(columns, mass.mean(0).expand(16, 16))
    distances = fixed_shapes.multi_diagonal(one, rows, mass)
    for distance in (-15, -3, 0, 7):
        at = away == distance
        torch.testing.assert_close(distances[at], mass[at].mean().expand(int(at.sum())))
    causal = replace(one, op="attention_causal")
    torch.testing.assert_close(
        fixed_shapes.vertical(causal, rows, mass.tril())[0], mass.tril().sum(0) / torch.arange(16, 0, -1)
    )


@pytest.mark.paper("sparse-vdit")
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.75, 0.93, 1.0])
@pytest.mark.parametrize("op", BOTH)
def test_the_cost_a_plan_predicts_is_the_cost_counted(op, sparsity):
    """Head by head to a step of the table, in sum to the budget."""
    one = point(op, sparsity, h=6, g=6)
    plan = fixed_shapes.planned(one)
    counted = truths(fixed_shapes.kept(plan, one), one).sum((1, 2))
    step = int(fixed_shapes.steps(one).diff().max())
    assert int(plan.pairs.sum()) <= of_layer(one) == int(counted.sum())
    assert bool(((counted - plan.pairs).abs() <= step).all())


@settings(max_examples=30, deadline=None)
@given(heads=st.integers(1, 3), most=st.integers(1, 3), seed=st.integers(0, 99), data=st.data())
def test_units_are_shared_out_as_trying_all_ways_does(heads, most, seed, data):
    units = data.draw(st.integers(0, heads * most))
    errors = torch.rand(heads, most + 1, generator=torch.Generator().manual_seed(seed))
    spent = fixed_shapes.shared_out(errors, units)
    ways = [way for way in product(range(most + 1), repeat=heads) if sum(way) == units]
    each = torch.arange(heads)
    least = min(float(errors[each, torch.tensor(way)].sum()) for way in ways)
    assert int(spent.sum()) == units
    assert float(errors[each, spent].sum()) == pytest.approx(least)


@pytest.mark.paper("sparse-vdit")
def test_a_plan_is_settled_and_owes_nothing_to_what_is_measured():
    one = point()
    first = fixed_shapes.planned(one)
    fixed_shapes.planned.cache_clear()
    fixed_shapes.table.cache_clear()
    again = fixed_shapes.planned(one)
    assert (first.shapes, first.pairs.tolist()) == (again.shapes, again.pairs.tolist())
    assert first.ranks.equal(again.ranks)
    _, q, k, v = make_operands(one)
    select = SELECTORS["fixed_shapes"].prepare(one)
    assert select(q, k, v) is select(-q, k, v)
    assert select(q, k, v).flops == 0


@pytest.mark.paper("sparse-vdit")
@pytest.mark.parametrize("op", BOTH)
def test_a_shape_for_each_head_loses_less_than_one_for_all(planted, op):
    """At equal FLOPs, against the best of the shapes with as much for each head."""
    mixed, alike = [], {shape: [] for shape in SHAPES}
    for data, seed in product(("shaped", "heads"), range(3)):
        one = point(
            op, 0.8, h=4 if data == "shaped" else 6, g=4 if data == "shaped" else 6, data=data, seed=seed
        )
        plans = [fixed_shapes.planned(one, (shape,)) for shape in SHAPES]
        equal = [
            replace(plan, pairs=torch.full_like(plan.pairs, of_layer(one) // one["h"])) for plan in plans
        ]
        found = [fixed_shapes.kept(plan, one) for plan in (fixed_shapes.planned(one), *equal)]
        assert len({each.nonzeros for each in found}) == 1
        ours, *others = (each["error"] for each in judged(one, *found))
        mixed.append(ours)
        for shape, error in zip(SHAPES, others, strict=True):
            alike[shape].append(error)
        assert ours < min(others), (data, seed)
    assert fmean(mixed) < 0.9 * min(map(fmean, alike.values()))


# Streaming heads.


@pytest.mark.paper("lserve")
@pytest.mark.parametrize("op", BOTH)
def test_what_a_streaming_head_keeps_does_not_depend_on_the_length(op):
    rows = []
    for n in (1024, 2048, 4096):
        one = point(op, 0.5, n=n, d=16)
        streams = streaming_heads.streams(attention.without_mask(one))
        assert int(streams.sum()) == 2
        seen = truths(chosen("streaming_heads", one), one)[streams].sum(-1)
        assert bool((seen == room(one).clamp(max=5)).all()), "the window of each row and no more"
        rows.append(seen[:, -1].tolist())
    assert rows[0] == rows[1] == rows[2] == [5, 5]


@pytest.mark.paper("lserve")
@pytest.mark.parametrize("op", BOTH)
@pytest.mark.parametrize("heads", [1, 2, 5])
@pytest.mark.parametrize("sparsity", [0.0, 0.05, 0.3, 0.6, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("n", [32, 512])
def test_budgets_are_spent_by_any_number_of_heads(op, heads, sparsity, n):
    one = point(op, sparsity, h=heads, g=1, n=n, data="sinks")
    found = chosen("streaming_heads", one)
    streams = torch.arange(heads) < heads // 2
    quota = streaming_heads.quotas(streams, one)
    assert found.nonzeros == of_layer(one) == int(quota.sum())
    assert bool(((quota >= 1) & (quota <= room(one))).all())


@pytest.mark.paper("lserve")
@pytest.mark.parametrize("op", BOTH)
def test_all_pages_and_no_streaming_heads_is_dense(op, monkeypatch):
    one = point(op, 0.0, n=512)
    none = torch.zeros(4, dtype=torch.bool)
    monkeypatch.setattr(streaming_heads, "streams", lambda case: none)
    asked = question(one, make_operands(one))
    found = chosen("streaming_heads", one)
    assert attention.answer(found, *(each.double() for each in asked.operands[1:]), "causal" in op).allclose(
        asked.whole.expected
    )
    half = point(op, 0.5, n=512)
    assert truths(chosen("streaming_heads", half), half).sum(-1).float().std() < 5
    assert of_rows(half).sum() == chosen("streaming_heads", half).nonzeros


@pytest.mark.paper("lserve")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("page", [8, 16, 32])
def test_a_bound_is_never_below_the_true_maximum(dtype, page):
    source = torch.Generator().manual_seed(0)
    q, k = (torch.randn(heads, 256, 16, generator=source).to(dtype) for heads in (4, 2))
    groups = torch.tensor([0, 0, 1, 1])
    bounds = streaming_heads.most_of(q, k, groups, 32, page)
    scores = q.float() @ k.float()[groups].mT
    truth = scores.view(4, 8, 32, 8, 32).amax(-1).mean(2)
    parts = scores.view(4, 8, 32, 8, 32 // page, page).amax(-1).mean(2).amax(-1)
    assert bool((bounds >= parts - 1e-3).all())
    if page == 32:
        assert bool((bounds >= truth - 1e-3).all())


@pytest.mark.paper("lserve")
def test_heads_that_look_near_by_stream():
    one = point(h=6, g=6)  # sinks, lines, scattered, video, documents, iid
    assert streaming_heads.streams(one)[0]
    assert not streaming_heads.streams(one)[[2, 5]].any()


@pytest.mark.paper("lserve")
@pytest.mark.parametrize("op", BOTH)
def test_the_page_of_a_planted_needle_is_kept(op, monkeypatch):
    """By all blocks of queries that look for it, in heads that do not stream."""
    one = point(op, 0.8, data="iid")
    monkeypatch.setattr(streaming_heads, "streams", lambda case: torch.tensor([True, True, False, False]))
    _, q, k, v = make_operands(one)
    needle = functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(7)), dim=0)
    q, k = q + 4 * needle, k.clone()
    k[:, 333] += 12 * needle
    found = SELECTORS["streaming_heads"].prepare(one)(q, k, v)
    column = truths(found, one)[2:, :, 333 // 32]
    assert bool(column[:, 333 // 32 if op == "attention_causal" else 0 :].all())


@pytest.mark.paper("lserve")
@pytest.mark.parametrize("op", BOTH)
def test_recall_is_above_luck_and_above_streaming_alone(op):
    for seed in range(3):
        one = point(op, 0.75, h=6, g=6, seed=seed)
        found = [chosen(name, one) for name in ("streaming_heads", "random_blocks", "window")]
        ours, luck, habit = (each["recall"] for each in judged(one, *found))
        assert ours > luck + 0.1
        assert ours > habit, seed


@pytest.mark.paper("lserve")
def test_flops_are_those_of_bounds_and_their_products():
    one = point(h=4, g=2)
    looking, across, pages = 2, 32, 1024 // 16
    bounds, queries = 2 * 2 * 1024 * 32, 2 * looking * 1024 * 32 * 2
    products = 2 * looking * 2 * across * pages * 32
    assert chosen("streaming_heads", one).flops == bounds + queries + products


def test_a_map_of_truths_comes_back():
    one = point(n=512)
    kept = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    assert truths(from_map(kept, one.pattern), one).equal(kept)
