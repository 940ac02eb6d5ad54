"""Oracle: the blocks with the most of attention's true weight, which takes attention in full to know."""

from math import sqrt

import torch

from suite.selection import by_layer, is_causal
from suite.selector import selector


@selector(ops=("attention", "attention_causal"), control="knowledge")
def oracle(case):
    """The blocks that truly weigh most, in all heads: no choice of whole blocks keeps more."""
    heads, n, d, b = (case[name] for name in "hndb")
    across = n // b
    later = torch.ones(n, n, dtype=torch.bool).triu(1) if is_causal(case) else None

    def select(q, k, v):
        mass = torch.empty(heads, across, across, device=q.device)
        for head in range(heads):
            scores = (q[head] @ k[head * len(k) // heads].t()).float() / sqrt(d)
            if later is not None:
                scores.masked_fill_(later.to(q.device), -torch.inf)
            mass[head] = scores.softmax(-1).view(across, b, across, b).sum((1, 3))
        return by_layer(mass, case, flops=2 * heads * n * n * d)

    return select
