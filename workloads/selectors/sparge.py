"""SpargeAttn: block means of Q against those of K, trusted where the tokens of a block are alike.

Its second filter, within the softmax, is a kernel's: values are left out whose scores lie far below the
highest. On a CPU, once blocks are chosen, too few are left to skip to be worth a branch.
"""

from math import sqrt

import torch

from suite.selection import before, by_head, is_causal
from suite.selector import selector

ALIKE = 0.1  # the mean cosine of two tokens of a block from which its mean stands for it


@selector(ops=("attention", "attention_causal"), ids=("spargeattn",))
def sparge(case):
    """Blocks by cumulative probability of their means; first those whose means say little (SpargeAttn).

    Zhang et al. 2025. At one probability for each head, the one that meets the budget.
    """
    heads, groups, n, d, b = (case[name] for name in "hgndb")
    across = n // b
    later = torch.ones(across, across, dtype=torch.bool).triu(1) & is_causal(case)

    def select(q, k, v):
        queries, sure_of_queries = means(q, b)
        keys, sure_of_keys = (each.repeat_interleave(heads // groups, 0) for each in means(k, b))
        scores = (queries @ keys.mT / sqrt(d)).masked_fill_(later.to(q.device), -torch.inf)
        weights = scores.softmax(-1)
        sure = sure_of_queries[:, :, None] & sure_of_keys[:, None]
        best = torch.where(sure, before(weights), weights)  # at most 0 where sure, at least 0 elsewhere
        return by_head(best, case, flops=5 * (heads + groups) * n * d + 2 * heads * across**2 * d)

    return select


def means(x, b):
    """Of the blocks of each head, [heads, n / b, d], and whether their tokens are alike."""
    blocks = x.float().unflatten(1, (-1, b))
    lengths = torch.linalg.vector_norm(blocks, dim=-1, keepdim=True)
    cosine = (blocks / lengths.clamp(min=1e-30)).mean(2).square().sum(-1)
    return blocks.mean(2), cosine >= ALIKE
