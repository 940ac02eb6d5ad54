"""XAttention: a line through a block crosses its antidiagonals; those are summed, every stride-th of them.

Bad at: single tokens that much weighs on, for a sum of `stride` scores hides one of them. Its cost grows with
the square of the length.
"""

from math import gcd, sqrt

import torch

from suite.selection import before, by_layer, is_causal
from suite.selector import selector

STRIDE = 8  # tokens


@selector(ops=("attention", "attention_causal"), ids=("xattention",))
def xattention(case):
    """Blocks whose antidiagonals weigh most, at one threshold for all heads (XAttention).

    Xu et al. 2025, but for this: in every other row of tiles antidiagonals begin one token earlier. In step,
    an even stride misses slashes that lead back an even number of tokens.
    """
    heads, n, d, b = (case[name] for name in "hndb")
    stride = gcd(STRIDE, b)
    tiles, across, within = n // stride, n // b, b // stride
    later = torch.ones(tiles, tiles, dtype=torch.bool).triu(1) & is_causal(case)
    seen = torch.zeros(tiles, tiles).masked_fill_(later, -torch.inf)
    order = backwards(n, stride)

    def select(q, k, v):
        sums = antidiagonals(q.index_select(1, order.to(q.device)), k, stride)
        weights = torch.add(seen.to(q.device), sums, alpha=1 / (stride * sqrt(d))).softmax(-1)
        shares = weights.view(heads, across, within, tiles).sum(2).view(heads, across, across, within).sum(-1)
        return by_layer(before(shares / within), case, flops=2 * heads * n * n * d // stride)

    return select


def backwards(n, stride):
    """Queries [n] in the order in which they meet the keys of a tile."""
    token = torch.arange(n)
    row = token // stride
    return row * stride + (stride - 1 - token - row % 2) % stride


def antidiagonals(q, k, stride):
    """Sums of products along the antidiagonal of each tile of stride x stride: [h, n / stride, n / stride].

    q: each tile's queries in the order of the keys that they meet.
    """
    (heads, n, d), groups = q.shape, len(k)
    queries = q.view(groups, heads // groups * n // stride, stride * d)
    keys = k.view(groups, n // stride, stride * d)
    return (queries @ keys.mT).view(heads, n // stride, n // stride)
