"""SeerAttention: a small gate that has learned, on inputs of the same kind, where attention's weight goes.

Bad at: what the next input does not share with those before. Here that is the directions in which queries and
keys meet, so what can be learned is how far back to look, and how much a mean is worth.
"""

from dataclasses import replace
from functools import lru_cache
from math import sqrt

import torch
from torch.nn.functional import interpolate, log_softmax

from suite.ops.attention import drawn, without_mask
from suite.selection import by_layer, is_causal
from suite.selector import selector

SEEDS = range(2**31, 2**31 + 8)  # of the inputs it learns from: none that a case is likely to have
LONGEST = 2048  # tokens of those; what is learned of distances is stretched to more
LOOKS = 2**25  # pairs of query and key whose weight is worked out for it, in all
STEPS = 160
RATES = 3e-4, 3e-4, 2e-2  # of learning, a part of the gate each; they fall to nothing


@selector(ops=("attention", "attention_causal"), ids=("seerattention",))
def seer(case):
    """Blocks that a learned gate expects to weigh most, at one threshold for all heads (SeerAttention).

    Gao et al. 2024. Of a head: linear maps of mean queries, and of mean, highest and lowest keys; their
    products and what each distance adds are the logits of a softmax. It learns within two seconds, untimed.
    """
    heads, groups, n, d, b = (case[name] for name in "hgndb")
    across = n // b
    *maps, distances = fitted(lesson(case))
    gate = *maps, spread(stretched(distances, across)) + visible(case)
    placed = lru_cache(maxsize=1)(lambda device: [one.to(device) for one in gate])
    flops = (heads + 3 * groups) * n * d + 8 * heads * across * d * d + 2 * heads * across**2 * d

    def select(q, k, v):
        found = logits(placed(q.device), *features(q, k, b))
        return by_layer(found.softmax(-1), case, flops=flops)

    return select


def features(q, k, b):
    """Means of blocks of Q; means, highest and lowest of K's, for each head of Q: [h, n / b, d and 3 d]."""
    queries, keys = (one.float().view(len(one), -1, b, one.shape[-1]) for one in (q, k))
    keys = torch.cat((keys.mean(2), keys.amax(2), keys.amin(2)), -1)
    return queries.mean(2), keys.repeat_interleave(len(q) // len(k), 0)


def logits(gate, queries, keys):
    """Of each pair of blocks, [h, n / b, n / b]. gate: maps [h, d, d] and [h, 3 d, d]; what is added."""
    of_queries, of_keys, beside = gate
    return (queries @ of_queries) @ (keys @ of_keys).mT + beside


def spread(distances):
    """What each distance adds, [h, 2 n / b - 1], where it adds it."""
    places = torch.arange(distances.shape[-1] // 2 + 1)
    return distances[:, places[:, None] - places + len(places) - 1]


def stretched(distances, across):
    """To a sequence of other blocks."""
    return interpolate(distances[None], 2 * across - 1, mode="linear", align_corners=True)[0]


def visible(case):
    """0 where a block may be seen, else -inf."""
    across = case["n"] // case["b"]
    later = torch.ones(across, across, dtype=torch.bool).triu(1) & is_causal(case)
    return torch.zeros(across, across).masked_fill(later, -torch.inf)


def lesson(case):
    """What all cases of one gate have in common."""
    length = min(case["n"], max(LONGEST // case["b"], 1) * case["b"])
    return replace(without_mask(case), seed=0, dtype="float32").with_sizes(n=length)


@lru_cache
def fitted(case):
    """The gate of such inputs: two maps, and what distances add. It begins as the product of means.

    Learned as Adam does, written out: the import of torch.optim alone takes longer than all of this.
    """
    heads, n, d, b = (case[name] for name in "hndb")
    across = n // b
    source = torch.Generator().manual_seed(0)
    rows = max(1, min(across, LOOKS // (len(SEEDS) * heads * b * n)))
    lessons = []
    for seed in SEEDS:
        q, k, _ = drawn(replace(case, seed=seed))
        some = torch.randperm(across, generator=source)[:rows]
        lessons.append((*features(q, k, b), some, block_map(q, k, b, some.tolist(), is_causal(case))))
    same = torch.eye(d).repeat(heads, 1, 1)
    gate = same / sqrt(d), torch.cat((same, same * 0, same * 0), 1), torch.zeros(heads, 2 * across - 1)
    gate = [one.requires_grad_() for one in gate]
    moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in gate]
    for step in range(STEPS):
        queries, keys, some, target = lessons[step % len(lessons)]
        found = loss(gate, visible(case), *shuffled(queries, keys, source), some, target)
        slopes = torch.autograd.grad(found, gate)
        for one, slope, (mean, square), rate in zip(gate, slopes, moments, RATES, strict=True):
            mean.lerp_(slope, 0.1)
            square.lerp_(slope.square(), 0.01)
            one.data -= rate * (1 - step / STEPS) * mean / (square.sqrt() + 1e-12)
    return [one.detach() for one in gate]


def shuffled(queries, keys, source):
    """Channels in another order, for which one says what differs from input to input."""
    d = queries.shape[-1]
    order = torch.randperm(d, generator=source)
    return queries[..., order], keys.unflatten(-1, (3, d))[..., order].flatten(-2)


def loss(gate, seen, queries, keys, rows, target):
    """Cross entropy of some rows of blocks to what they weigh."""
    *maps, distances = gate
    found = logits((*maps, spread(distances) + seen), queries, keys)[:, rows]
    return -(target * log_softmax(found, -1).nan_to_num(neginf=0.0)).sum(-1).mean()


def block_map(q, k, b, rows, causal):
    """The share of attention's weight that each block has in these rows of blocks: [h, rows, n / b].

    A row at a time, so that no more of the weights than that ever exists.
    """
    heads, n, d = q.shape
    found = []
    for row in rows:
        queries = q[:, row * b : (row + 1) * b].reshape(len(k), -1, d)
        scores = (queries @ k.mT).view(heads, b, n) / sqrt(d)
        if causal:
            scores.masked_fill_(torch.ones(b, n, dtype=torch.bool).triu(row * b + 1), -torch.inf)
        found.append(scores.softmax(-1).view(heads, b, n // b, b).sum((1, 3)) / b)
    return torch.stack(found, 1)
