"""PBS (permuted block-sparse attention): keys that the same queries look for come into the same blocks.

It does not matter to attention in which order keys are summed, so that only keys change places, values with
them, and no answer has to be put back. A key belongs to the block of queries whose mean likes it more than
the mean of all does; one that all like alike goes to the front. What belongs together then stands together,
and pooled scores tell which of the new blocks are worth keeping.

Where causal, each segment is put in order for itself. Queries see earlier ones so, and their own as it was,
for some of its keys come after them: both copies are handed on.

Bad at: keys that stand together already; segments with less of each kind than a block.
"""

from dataclasses import replace
from math import sqrt

import torch

from suite.selection import by_row, is_causal
from suite.selector import selector

SEGMENT = 8  # blocks, where causal


def permutation(queries, k, length):
    """Which key comes where, int64 [g, n]: a bijection within each segment of so many keys.

    queries: [g, r, d] means of blocks of queries, of all heads that share the keys k: [g, n, d].
    """
    every = queries.mean(1, keepdim=True)
    likes = torch.cat((every, queries - every), 1) @ k.mT
    who = torch.arange(likes.shape[1], device=k.device)[:, None]
    most = torch.where(likes == likes.amax(1, keepdim=True), who, 0).amax(1)  # argmax takes longer
    segments = torch.arange(k.shape[1], device=k.device) // length
    return (most + segments * len(who)).argsort(dim=-1, stable=True)


def gathered(one, order):
    """Rows of each head in another order."""
    heads, n, d = one.shape
    places = order + torch.arange(heads, device=order.device)[:, None] * n
    return one.reshape(-1, d).index_select(0, places.flatten()).view(heads, -1, d)


@selector(ops=("attention", "attention_causal"), ids=("pbs-attn",))
def pbs(case):
    """Keys put in order of who looks for them, then blocks by pooled scores."""
    heads, groups, n, d, b = (case[name] for name in "hgndb")
    across, causal = n // b, is_causal(case)
    length = SEGMENT if causal else across
    segment = torch.arange(across) // length
    earlier = segment[None] < segment[:, None]
    pooling, liking = (heads + groups * (1 + causal)) * n * d, 2 * (heads * across + groups) * n * d
    flops = pooling + liking + 2 * (1 + causal) * heads * across**2 * d

    def means(keys):
        return keys.view(groups, across, b, d).mean(2).repeat_interleave(heads // groups, 0)

    def select(q, k, v):
        queries = q.view(heads, across, b, d).mean(2)
        order = permutation(queries.view(groups, -1, d), k, length * b)
        keys, values = gathered(k, order), gathered(v, order)
        scores = queries @ means(keys).mT / sqrt(d)
        if not causal:
            return by_row(scores, case, k=keys, v=values, tokens=order, flops=flops)
        moved = earlier.to(q.device)
        scores = torch.where(moved, scores, queries @ means(k).mT / sqrt(d))
        places = torch.arange(n, device=q.device).expand(groups, n)
        return among_both(
            by_row(
                scores,
                case,
                k=torch.cat((k, keys), 1),
                v=torch.cat((v, values), 1),
                tokens=torch.cat((places, order), 1),
                flops=flops,
            ),
            moved,
        )

    def among_both(found, moved):
        """Of blocks that moved, the copies, which come after all that stayed."""
        rows = torch.repeat_interleave(torch.arange(found.shape[0], device=moved.device), found.row_lengths)
        columns = found.columns + across * moved[rows % across, found.columns.long()].int()
        order = (rows * 2 * across + columns).argsort()
        return replace(found, columns=columns[order], shape=(found.shape[0], 2 * across))

    return select
