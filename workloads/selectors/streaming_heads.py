"""Streaming heads: half of the heads see the first blocks and the nearest; the others, what may matter.

Which heads look near by is settled beforehand, on input of the same kind under another seed. What they keep
of a long sequence is as much as of a short one; the rest of the budget is the others'. Of a page, the least
and the greatest key, number by number, bound what a query can find in it (Tang et al., "Quest: Query-Aware
Sparsity for Efficient Long-Context LLM Inference", ICML 2024); of a block its best small page counts, the
mean over the queries. Yang et al., "LServe: Efficient Long-sequence LLM Serving with Unified Sparse
Attention", MLSys 2025.

Bad at: heads that all look far; keys without a direction, whose bounds are all alike.
"""

from functools import lru_cache
from math import gcd

import torch
from torch import Tensor

from suite.case import Case
from suite.ops.attention import without_mask
from suite.selection import from_map, of_layer, permitted, room
from suite.selector import selector
from suite.workloads.selectors.fixed_shapes import sample

SINKS, LOCAL = 1, 4  # blocks that a streaming head sees
PAGE = 16  # tokens of a small page


@selector(ops=("attention", "attention_causal"), ids=("lserve",))
def streaming_heads(case):
    """Half of the heads see what is near, at one cost for all lengths; half, what can matter at most."""
    heads, groups, n, d, b = (case[name] for name in "hgndb")
    across, page = n // b, gcd(PAGE, b)
    streaming = streams(without_mask(case))
    looking = (~streaming).nonzero()[:, 0]
    quota = quotas(streaming, case)
    wanted = permitted(nearest(across).expand(heads, -1, -1), case)
    order = wanted.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    still = (order < quota[..., None]) & streaming[:, None, None]
    most = int(quota[looking].max())
    within = torch.arange(most) < quota[looking, :, None]
    flops = 2 * groups * n * d + 4 * len(looking) * n * d + 4 * len(looking) * across * (n // page) * d

    def select(q, k, v):
        at = looking.to(q.device)
        bounds = most_of(q[at], k, at * groups // heads, b, page)
        best = permitted(bounds, case).topk(most, -1).indices
        kept, found = still.to(q.device, copy=True), torch.zeros_like(bounds, dtype=torch.bool)
        kept[at] = found.scatter_(-1, best, within.to(q.device))
        return from_map(kept, case.pattern, flops=flops)

    return select


def most_of(q: Tensor, k: Tensor, groups: Tensor, b: int, page: int) -> Tensor:
    """What queries can find in each block at most, averaged over a block of them: [heads, rows, columns].

    groups: of each head of q, which of k is its. Never below the same mean of the true maxima.
    """
    heads, n, d = q.shape
    pages = k.view(len(k), n // page, page, d)
    low, high = (one.float()[groups].mT for one in (pages.amin(2), pages.amax(2)))
    queries = q.view(heads, n // b, b, d)
    down, up = (one.mean(2, dtype=torch.float32) for one in (queries.clamp(max=0), queries.clamp(min=0)))
    bounds = torch.baddbmm(up @ high, down, low)
    return bounds.view(heads, n // b, n // b, b // page).amax(-1)


def nearest(across: int) -> Tensor:
    """How early a streaming head wants a block, after its own: [rows, columns]."""
    at = torch.arange(across)
    scores = -(at[:, None] - at).abs().float()
    scores[:, :SINKS] = -0.5
    return scores


@lru_cache(maxsize=8)
def streams(case: Case) -> Tensor:
    """Which heads stream: those that have the most of their weight near by, on a sample. Truths [heads]."""
    across = case["n"] // case["b"]
    window = nearest(across) > -LOCAL
    held = torch.stack([(weights.sum((1, 3)) * window[rows]).sum() for rows, weights, _ in sample(case, 0)])
    truths = torch.zeros(len(held), dtype=torch.bool)
    truths[held.topk(len(held) // 2).indices] = True
    return truths


def quotas(streaming: Tensor, case: Case) -> Tensor:
    """Pairs that each row of each head keeps, int64 [heads, rows]: all there may be.

    A streaming head keeps its window, unless the budget is too low for it, when it gets its equal share, or
    so high that the other heads cannot take the rest.
    """
    kept, there, few = of_layer(case), room(case), int(streaming.sum())
    others = len(streaming) - few
    window = there.clamp(max=SINKS + LOCAL)
    near = few * min(int(window.sum()), kept // len(streaming))
    near = max(near, kept - others * int(there.sum()))
    made = torch.empty(len(streaming), len(there), dtype=torch.long)
    made[streaming] = spread(near, few, window if near <= few * int(window.sum()) else there)
    made[~streaming] = spread(kept - near, others, there)
    return made


def spread(kept: int, heads: int, there: Tensor) -> Tensor:
    """So many pairs over the rows of so many heads: one each, and of the rest as their room is."""
    spare = (there - 1).repeat(heads)
    shares = (kept - len(spare)) * spare.cumsum(0) // max(1, int(spare.sum()))
    return (1 + shares.diff(prepend=shares.new_zeros(1))).view(heads, len(there))
