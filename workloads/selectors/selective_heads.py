"""Selective heads: of each sequence the heads whose answer is likely to be largest, and these in full.

Neurons that tokens of a batch use unite until nothing is left to skip; heads are chosen for each sequence by
itself, so what is skipped of the cache does not shrink with the batch. Heads that share keys go together, for
their cache is read or not. A budget that is no whole number of heads leaves the last ones some pages. Bad at:
heads that matter alike; small budgets, of which a few heads have all.

After Shrestha et al., "Polar Sparsity: High Throughput Batched LLM Inferencing with Scalable Contextual
Sparsity", 2025. In place of learned routers a head is asked: tokens of the few pages with the highest bounds
are looked at, the others count as their mean.
"""

from math import sqrt

import torch

from suite.selection import from_map, pages_kept
from suite.selector import Keeping, selector
from suite.workloads.selectors.pages import bounded, bounds

LOOKED = 2  # pages of a head, at most


@selector(ops=("decode",), ids=("polar-sparsity",))
def selective_heads(case, k, v):
    """The heads whose answer is likely to be largest, with all of their pages (Polar Sparsity).

    An answer is as long as its weights are concentrated: values are taken for equal and in no direction.
    """
    n, h, g, t, d, b = (case[size] for size in "nhgtdb")
    pages, few = k.view(n, g, t // b, b * d), min(LOOKED, t // b)
    held, means = bounds(k, b), k.unflatten(2, (-1, b)).float().mean(3).to(k.dtype)
    flops = n * h * (6 * (t // b) + 2 * few * b) * d
    beside = min(h * few, g * (t // b - pages_kept(case)))  # pages looked at that no head keeps, at most
    read = held.nbytes + means.nbytes + n * beside * b * d * k.itemsize

    def select(q):
        asked = q.view(n, g, h // g, d)
        most = bounded(asked, held)
        looked = most.topk(few, -1).indices
        rows = looked.flatten(2)[..., None].expand(-1, -1, -1, b * d)
        near = (pages.gather(2, rows).view(n, g, h // g, few * b, d) @ asked[..., None])[..., 0]
        far = (asked @ means.mT).scatter(-1, looked, -torch.inf)
        return spent(concentrated(near, far, b, sqrt(d)), most.amax(2), case, flops=flops, read=read)

    return Keeping(select, (held, means, k))


def concentrated(near, far, b, scale):
    """The sum of squares of softmax's weights, over the heads of a group: [n, g].

    near: scores of tokens [n, g, heads, tokens]; far: of pages of b tokens that are all as their mean.
    """
    near, far = near.float() / scale, far.float() / scale
    most = torch.maximum(near.amax(-1, keepdim=True), far.amax(-1, keepdim=True))
    near, far = (near - most).exp(), (far - most).exp()
    total = near.sum(-1) + b * far.sum(-1)
    return ((near.square().sum(-1) + b * far.square().sum(-1)) / total.square()).sum(-1)


def spent(sizes, scores, case, **beside):
    """The groups [n, g] of the largest size with all pages, until the budget is; the last with the best.

    scores: of pages, [n, g, pages].
    """
    n, h, pages, each = case["n"], case["h"], scores.shape[-1], pages_kept(case)
    groups = sizes.shape[1]
    rank = sizes.argsort(-1, descending=True).argsort(-1)
    quota = (groups * each - rank * pages).clamp(0, pages)
    kept = scores.argsort(-1, descending=True).argsort(-1) < quota[..., None]
    return from_map(kept.repeat_interleave(h // groups, 1), case.pattern, n * h * each, **beside)
