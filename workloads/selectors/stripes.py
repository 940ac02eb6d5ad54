"""Stripes (AnchorAttention): single keys for a block of queries, wherever they stand, not whole blocks.

The highest score among the first keys and the block's own is its anchor. A key counts by how far below it the
block's mean query scores it. Keys within a margin stay, and are gathered into blocks that exist for this
block of queries alone. Each head has one margin, which spends its budget. A block's own keys are seen anyway.

Bad at: queries of a block that want different keys, which their mean hides; memory, for what is gathered for
all blocks of queries is several times as much as all keys.
"""

from dataclasses import replace
from math import sqrt

import numpy as np
import torch

from suite.selection import by_head, is_causal
from suite.selector import selector

FARTHEST = 32.0  # below the anchor; e^-32 of its weight is none


def below(q, k, b):
    """How far below its anchor each key scores for a block's mean query: float32 [h, n / b, n]."""
    heads, n, d = q.shape
    across = n // b
    keys = k.repeat_interleave(heads // len(k), 0)
    scores = (q.view(heads, across, b, d).mean(2) / sqrt(d) @ keys.mT).float()
    own = scores.view(heads, across, across, b).diagonal(dim1=1, dim2=2).amax(1)
    anchor = torch.maximum(own, scores[..., :b].amax(-1))
    return anchor[..., None] - scores


def apart(across, b, causal):
    """Keys that are no stripes of a row: those of its own block, and later ones if causal. [n / b, n]"""
    blocks = torch.arange(across)
    rows, columns = blocks[:, None], blocks.repeat_interleave(b)
    return columns >= rows if causal else columns == rows


def in_order(distances, excluded):
    """Of each row, keys from the nearest to its anchor to the farthest: int32, steps << bits | key; and bits.

    As one number each, for NumPy's sort of those takes a tenth of what torch's takes on a CPU.
    """
    n = distances.shape[-1]
    bits = (n - 1).bit_length()
    steps = 2 ** min(31 - bits, 24) - 1  # as far as float32 counts
    found = distances.add_(FARTHEST).mul_(steps / (2 * FARTHEST)).clamp_(0, steps - 1).int()
    numbers = torch.arange(n, device=found.device, dtype=torch.int32)
    found.masked_fill_(excluded, steps).bitwise_left_shift_(bits).add_(numbers)
    return found.sort(-1).values if found.is_cuda else torch.from_numpy(np.sort(found.numpy(), -1)), bits


@selector(ops=("attention", "attention_causal"), ids=("anchorattention",))
def stripes(case):
    """Single keys near the anchor of a block of queries, gathered into blocks of its own."""
    heads, groups, n, d, b = (case[name] for name in "hgndb")
    across, causal = n // b, is_causal(case)
    rows, no_stripes = torch.arange(across), apart(across, b, causal)
    last = (rows if causal else torch.full_like(rows, across - 1))[:, None] == rows
    group = torch.arange(heads) * groups // heads
    flops = heads * n * d + 2 * heads * across * n * d

    def select(q, k, v):
        device, own = q.device, last.to(q.device)
        ordered, bits = in_order(below(q, k, b), no_stripes.to(device))
        middle = ordered[..., b // 2 :: b] >> bits  # of keys that would share a block, how far that one is
        found = by_head((-middle.float()).masked_fill(own, torch.inf), case)
        gathered = found.rows_dense(0, heads * across).bool().view(heads, across, across) & ~own
        number = gathered.flatten(1).cumsum(1) - 1
        most = int(number.max()) + 1
        tokens = torch.zeros(heads, across + most, b, dtype=torch.int64, device=device)
        tokens[:, :across] = torch.arange(n, device=device).view(across, b)
        head, row, rank = gathered.nonzero(as_tuple=True)
        places = across + number.view_as(gathered)[gathered]
        keys = ordered.view(heads, across, across, b)[head, row, rank] & (1 << bits) - 1
        tokens[head, places] = keys.long()
        columns = torch.empty_like(found.columns)
        first = torch.zeros_like(columns, dtype=torch.bool)
        first[found.starts[:-1].long()] = True
        columns[first] = torch.arange(heads * across, device=device).remainder_(across).int()
        columns[~first] = places.int()
        tokens = tokens.flatten(1)
        where = (tokens + n * group.to(device)[:, None]).flatten()
        k, v = (one.reshape(-1, d).index_select(0, where).view(heads, -1, d) for one in (k, v))
        return replace(
            found,
            columns=columns,
            shape=(heads * across, across + most),
            k=k,
            v=v,
            tokens=tokens,
            flops=flops,
        )

    return select
