"""Pooled: block means of Q against block means of K, which an outlier hides in."""

from math import sqrt

from suite.selection import by_row
from suite.selector import selector


@selector(ops=("attention", "attention_causal"), ids=("sparse-frontier",))
def pooled(case):
    """Blocks whose mean query and mean key agree."""
    heads, groups, n, d, b = (case[name] for name in "hgndb")
    across = n // b

    def select(q, k, v):
        queries, keys = (one.view(len(one), across, b, d).mean(2) for one in (q, k))
        scores = queries @ keys.repeat_interleave(heads // groups, 0).mT / sqrt(d)
        return by_row(scores, case, flops=(heads + groups) * n * d + 2 * heads * across**2 * d)

    return select
