"""Decoding with heads that stream: what it reads does not depend on the context, and is what it should be."""

from dataclasses import replace

import pytest
import torch

from suite.case import case
from suite.check import question
from suite.commands import load
from suite.op import make_operands
from suite.ops import decode
from suite.patterns.chosen import Chosen
from suite.selection import pages_kept
from suite.selector import SELECTORS

load()

streaming = pytest.importorskip("suite.workloads.selectors.streaming_pages")
paged = pytest.importorskip("suite.workloads.selectors.pages")

pytestmark = pytest.mark.paper("lserve")

SEEDS = range(3)
WINDOW = 5  # pages of 16 tokens


def point(sparsity=0.75, n=2, h=8, g=4, t=1024, d=64, b=16, data="blend", seed=0):
    return case("decode", Chosen(sparsity), "float32", seed, data, n=n, h=h, g=g, t=t, d=d, b=b)


def chosen(one):
    _, k, v, q = make_operands(one)
    return SELECTORS["streaming_pages"].prepare(one, k, v)(q), k


def rows(found, one):
    """Pages that each head keeps, [n, g, h / g]."""
    return found.row_lengths.view(one["n"], one["g"], -1)


@pytest.fixture
def halves(monkeypatch):
    """The first two of four groups stream."""
    monkeypatch.setattr(streaming, "streams", lambda case: torch.tensor([True, True, False, False]))


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
@pytest.mark.parametrize("pages", [1, 3, 64])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.75, 0.95, 1.0])
def test_budgets_are_spent_to_a_page_by_any_number_of_groups(groups, pages, sparsity):
    one = point(sparsity, h=2 * groups, g=groups, t=16 * pages, d=16, data="")
    found, _ = chosen(one)
    quota = streaming.quotas(torch.arange(groups) < groups // 2, one)
    assert found.nonzeros == 2 * 2 * groups * pages_kept(one) == 2 * 2 * int(quota.sum())
    assert bool(((quota >= 1) & (quota <= pages)).all())
    assert sorted(rows(found, one)[0, :, 0].tolist()) == sorted(quota.tolist())
    assert bool((rows(found, one) == rows(found, one)[:1, :, :1]).all())


def test_with_a_constant_budget_as_much_is_read_of_any_context(halves):
    """By streaming heads the first page and the last four, by the others all that is left."""
    for budget in (8, 20):
        bytes_read = []
        for t in (1024, 2048, 8192):
            one = point(1 - budget * 16 / t, t=t, d=16, data="")
            found, k = chosen(one)
            assert rows(found, one)[0, :, 0].tolist() == [WINDOW] * 2 + [2 * budget - WINDOW] * 2
            window = found.columns.view(2, -1)[0, :WINDOW].tolist()
            assert window == [0, *range(t // 16 - WINDOW + 1, t // 16)]
            bytes_read.append(decode.bytes_read(found, k))
        assert bytes_read == [bytes_read[0]] * 3


def test_what_both_save_together_is_about_the_product(halves):
    """Streaming in half of the heads alone, pages in all heads alone, and both: bytes over those of all."""
    t, pages, kept = 16384, 1024, 64
    one = point(1 - kept / pages, n=1, t=t, d=16, data="")
    all_of_it = 4 * pages
    streams = all_of_it / (2 * pages + 2 * WINDOW)
    choice = all_of_it / (4 * kept)
    both = replace(one, pattern=Chosen(1 - (kept + WINDOW) / 2 / pages))
    found, k = chosen(both)
    together = 2 * k.nbytes / decode.bytes_read(found, k)
    assert max(rows(found, both)[0, :, 0].tolist()) in (kept, kept - 1), "of the others, as many as alone"
    assert together == pytest.approx(streams * choice, rel=0.1)


def test_all_pages_and_no_streaming_heads_is_dense(monkeypatch):
    monkeypatch.setattr(streaming, "streams", lambda case: torch.zeros(4, dtype=torch.bool))
    one = point(0.0, t=256)
    asked = question(one, make_operands(one))
    found, _ = chosen(one)
    answer = decode.reference(found, *asked.operands[1:])
    torch.testing.assert_close(answer, asked.whole.expected)
    some = point(0.75)
    _, k, _, q = make_operands(some)
    ours = chosen(some)[0].columns.view(2, 4, 2, -1)
    grouped = q.view(2, 4, 2, 64)
    best = paged.bounded(grouped, paged.bounds(k, 16)).amax(2).topk(16, -1).indices.sort(-1).values
    assert ours[:, :, 0].equal(best.int()), "without them it is the choice of pages alone"


@pytest.mark.parametrize("page", [16, 48, 64])
def test_a_pages_bound_is_never_below_the_true_maximum_and_small_pages_are_tighter(page):
    source = torch.Generator().manual_seed(page)
    k, q = (torch.randn(1, 2, size, 16, generator=source).double() for size in (page * 8, 3))
    truth = (q @ k.mT).unflatten(-1, (8, page)).amax(-1)
    small = paged.bounded(q, paged.bounds(k, 16)).unflatten(-1, (8, -1)).amax(-1)
    large = paged.bounded(q, paged.bounds(k, page))
    assert bool((small >= truth - 1e-9).all()) and bool((large >= small - 1e-9).all())
    assert page == 16 or bool((large > small).any())


def test_heads_that_look_near_by_stream():
    """Of four groups the first and the last; the others look for needles anywhere, and at heavy channels."""
    for seed in SEEDS:
        assert streaming.streams(point(seed=seed, n=4, b=1)).tolist() == [True, False, False, True]


def test_the_pages_of_needles_are_kept_by_heads_that_do_not_stream():
    for seed in SEEDS:
        one = point(0.75, n=1, seed=seed)
        _, k, _, q = make_operands(one)
        found, _ = chosen(one)
        needles = (q[0, 2] @ k[0, 1].T).topk(8).indices // 16
        kept = decode.kept_pages(found, 2, 3)[0]
        assert bool(kept[needles].all())


def test_recall_is_above_luck_and_above_streaming_alone():
    for seed in SEEDS:
        one = point(1 - 1 / 8, seed=seed)
        whole = question(one, make_operands(one))
        recall = {}
        for name in ("streaming_pages", "random_tokens", "recent"):
            found = whole.chosen(SELECTORS[name])
            told = decode.quality(
                one, (found.operands, found.expected), (whole.whole.operands, whole.whole.expected)
            )
            recall[name] = told["recall"]
        assert recall["random_tokens"] + 0.1 < recall["recent"] < recall["streaming_pages"] - 0.05, recall


def test_flops_are_those_of_bounds_of_heads_that_do_not_stream(halves):
    found, _ = chosen(point(b=64))
    assert found.flops == 4 * 2 * 2 * 2 * (1024 // 16) * 64
    assert found.read == 2 * 2 * (1024 // 16) * 2 * 64 * 4
