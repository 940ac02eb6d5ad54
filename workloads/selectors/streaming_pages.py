"""Streaming pages: half of the heads see the first tokens and the last; the others, pages that may matter.

What streaming_heads.py is to a prompt. Which heads look near by is settled beforehand, on other texts of the
kind, and alike for all that share keys: what a streaming head sees of a long context is as much as of a short
one. The others have what it leaves of the budget, so that a constant number of pages stays one. Of a page the
best of its small pages counts, by the bound of pages.py. Yang et al., "LServe: Efficient Long-sequence LLM
Serving with Unified Sparse Attention", MLSys 2025.

Bad at: heads that all look far; a single group of keys, which cannot be halved.
"""

from functools import lru_cache
from math import gcd

import torch

from suite.selection import from_map, pages_kept
from suite.selector import Keeping, selector
from suite.workloads.selectors.double_sparsity import others
from suite.workloads.selectors.pages import bounded, bounds

SINKS, LOCAL = 16, 64  # tokens that a streaming head sees, in whole pages
PAGE = 16  # tokens of a small page


@selector(ops=("decode",), ids=("lserve",))
def streaming_pages(case, k, v):
    """Half of the heads see what is near, at one cost for all contexts; half, the pages of highest bounds."""
    n, h, g, t, d, b = (case[size] for size in "nhgtdb")
    pages, small, heads = t // b, gcd(PAGE, b), h // g
    streaming = streams(case)
    quota, looking = quotas(streaming, case), (~streaming).nonzero()[:, 0]
    most = int(quota[looking].max())
    within = (torch.arange(most) < quota[looking, None]).expand(n, -1, -1).to(k.device)
    still = (nearest(pages, b).argsort(descending=True).argsort() < quota[:, None]) & streaming[:, None]
    still, looking = still.expand(n, -1, -1).to(k.device), looking.to(k.device)
    held = bounds(k[:, looking], small)
    count = n * heads * int(quota.sum())
    flops = 4 * n * len(looking) * heads * (t // small) * d

    def select(q):
        asked = q.view(n, g, heads, d).index_select(1, looking)
        found = bounded(asked, held).amax(2).unflatten(-1, (pages, -1)).amax(-1)
        best = torch.zeros_like(found, dtype=torch.bool).scatter_(-1, found.topk(most, -1).indices, within)
        kept = still.index_copy(1, looking, best).repeat_interleave(heads, 1)
        return from_map(kept, case.pattern, count, flops=flops, read=held.nbytes)

    return Keeping(select, (held, looking, within, still))


def nearest(pages, b):
    """How early a streaming head wants a page: the first ones, then the last, backwards."""
    wanted = torch.arange(pages)
    wanted[: -(-SINKS // b)] += pages
    return wanted


@lru_cache(maxsize=8)
def streams(case):
    """Which groups stream: those with the most of their weight near by, on other texts. Truths [g]."""
    k, _, q = others(case)
    n, g, t, d = k.shape
    scores = q.view(n, g, -1, d).float() @ k.float().mT / d**0.5
    near = nearest(t, 1) >= t - LOCAL
    held = (scores.softmax(-1) * near).sum((0, 2, 3))
    truths = torch.zeros(g, dtype=torch.bool)
    truths[held.topk(g // 2).indices] = True
    return truths


def quotas(streaming, case):
    """Pages that the heads of each group keep, int64 [g]: as many as the budget allows, together.

    A streaming group keeps its window, unless the budget is too low for it, when it gets its equal share, or
    so high that the others cannot take the rest.
    """
    groups, pages, each = len(streaming), case["t"] // case["b"], pages_kept(case)
    few, window = int(streaming.sum()), -(-SINKS // case["b"]) - (-LOCAL // case["b"])
    near = max(few * min(window, each), groups * each - (groups - few) * pages)
    made = torch.empty(groups, dtype=torch.int64)
    for who, kept in ((streaming, near), (~streaming, groups * each - near)):
        upto = torch.arange(int(who.sum()) + 1) * kept // max(1, int(who.sum()))
        made[who] = upto.diff()
    return made
