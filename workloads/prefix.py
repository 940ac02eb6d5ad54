"""Attention whose mask is exact: what it leaves out, no one would miss. Shared prefixes and packed documents.

A prompt of P tokens with two answers of C and R packed behind it is worked through once. All that looks at
single tokens, projections and feed-forward layers, takes P + C + R tokens instead of the 2 P + C + R of two
sequences, and is (2 P + C + R) / (P + C + R) times as fast: twice at most, the longer the prompt. Of
attention the pack saves the prompt's own pairs, P^2 / 2; what lies between the answers, C R pairs, is what a
kernel has to pass over to lose nothing again.

Of D documents that do not see each other the work grows as D, where attention in full grows as its square.
The query behind them sees all, and its weight on each ranks them.

The dense rival is attention in full over the packed sequence.
"""

from itertools import pairwise, product
from math import sqrt

import torch
from torch import Tensor

from suite.case import case
from suite.patterns.documents import Documents
from suite.patterns.prefix import Prefix
from suite.workload import workload

HEADS, SIZE, BLOCK = 8, 64, 64
RATIOS = ((2, 1, 1), (2, 3, 3), (6, 1, 1))  # prompt to answers
DOCUMENTS = (8, 128, 16, 64, 32)
LENGTH, QUERY = 128, 64  # tokens of a document, and of the query
LENGTHS = (1024, 2048, 4096, 8192, 16384)


@workload(version=1, ids=("dpo-prefix-sharing", "blockrank"))
def prefix(extent):
    """A prompt with two answers, and documents before a query: causal attention, nothing approximated."""
    yield from {"smoke": smoke, "default": default, "full": full}[extent]()


def smoke():
    """Seconds."""
    yield answered(RATIOS[0], 512)
    yield ranked(2)


def default():
    """About a thousand tokens: two ratios of prompt to answers, and two numbers of documents."""
    for ratio in RATIOS[:2]:
        yield answered(ratio, 1024)
    for documents in (4, 8):
        yield ranked(documents)


def full():
    """Every ratio and length; documents up to 128."""
    for dtype, ratio, n in product(("bfloat16", "float32"), RATIOS, LENGTHS):
        yield answered(ratio, n, dtype)
    for dtype, documents in product(("bfloat16", "float32"), DOCUMENTS):
        yield ranked(documents, dtype)


def answered(ratio, n, dtype="bfloat16"):
    """A prompt and two answers of n tokens in all."""
    return packed(Prefix(*ratio), n, dtype)


def ranked(documents, dtype="bfloat16"):
    """So many documents and a query."""
    return packed(Documents(documents, QUERY // BLOCK), documents * LENGTH + QUERY, dtype)


def packed(pattern, n, dtype):
    return case("attention_causal", pattern, dtype, h=HEADS, g=HEADS, n=n, d=SIZE, b=BLOCK)


def query_block_mass(q: Tensor, k: Tensor, pattern: Documents, block: int) -> Tensor:
    """What each document gets of the query's attention, by which it ranks: [heads, documents].

    q, k: [h, n, d] and [g, n, d]. A token of the query sees all documents, and of the query what came before
    and itself; the mean over these tokens.
    """
    heads, n, d = q.shape
    *_, first = bounds = [int(at) * block for at in pattern.bounds(n // block)]
    scores = q[:, first:].float() @ k.float().repeat_interleave(heads // len(k), 0).mT / sqrt(d)
    later = torch.ones_like(scores, dtype=torch.bool).triu(first + 1)
    weights = scores.masked_fill_(later, -torch.inf).softmax(-1).mean(1)[:, :first]
    return torch.stack([one.sum(-1) for one in weights.split([b - a for a, b in pairwise(bounds)], -1)], -1)
