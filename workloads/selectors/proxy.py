"""ProxyAttn: the mean of a few heads says for all of them which blocks to keep; each head says how many.

Bad at: heads that look at different things, whose mean looks at nothing.
"""

from math import gcd, sqrt

import torch

from suite.selection import by_layer, is_causal, permitted
from suite.selector import selector

TOGETHER = 4  # heads that one proxy stands for
STRIDE = 16  # of the queries, one in so many is scored
SHARE = 0.9  # of its weight that a head is to keep


@selector(ops=("attention", "attention_causal"), ids=("proxyattn",))
def proxy(case):
    """Blocks that the mean of four heads looks at, as many for each as its last queries need (ProxyAttn).

    Wang et al. 2025. A block is worth the highest score in it, of every key with one query in sixteen.
    """
    heads, n, d, b = (case[name] for name in "hndb")
    across, proxies, stride = n // b, heads // gcd(heads, TOGETHER), gcd(STRIDE, b)
    later = torch.ones(across, across, dtype=torch.bool).triu(1) & is_causal(case)
    flops = 2 * n * n * d * proxies // stride + 2 * heads * (b // stride) * n * d

    def select(q, k, v):
        scores = highest(q, k, proxies, b, stride).masked_fill(later.to(q.device), -torch.inf)
        ranks = ranked(scores.softmax(-1).repeat_interleave(heads // proxies, 0), case)
        return by_layer(-(ranks + 0.5) / needed(q, k, b, stride), case, flops=flops)

    return select


def highest(q, k, proxies, b, stride):
    """The highest score in each pair of blocks, of the mean heads: [proxies, n / b, n / b]."""
    heads, n, d = q.shape
    queries = q[:, ::stride].unflatten(0, (proxies, -1)).float().mean(1)
    keys = k.repeat_interleave(heads // len(k), 0).unflatten(0, (proxies, -1)).float().mean(1)
    return (queries @ keys.mT).view(proxies, n // b, b // stride, n // b, b).amax((2, 4)) / sqrt(d)


def needed(q, k, b, stride):
    """How many blocks some of the last queries of each head need for their share: [h, 1, 1]."""
    heads, n, d = q.shape
    queries = q[:, n - b :: stride].float().reshape(len(k), -1, d)
    weights = (queries @ k.float().mT / sqrt(d)).softmax(-1)
    blocks = weights.view(heads, -1, n // b, b).sum((1, 3)) / (b // stride)
    held = blocks.sort(-1, descending=True).values.cumsum(-1)
    return 1 + (held < SHARE).sum(-1)[:, None, None]


def ranked(scores, case):
    """Of each pair, how many of its head are better: over what heads need, it shares a budget by need."""
    flat = permitted(scores, case).flatten(1)
    order = flat.argsort(-1, descending=True)
    places = torch.arange(flat.shape[-1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places).view_as(scores)
