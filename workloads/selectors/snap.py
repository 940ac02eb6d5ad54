"""Snap: eviction: what the first question about a context looks at is kept, and serves all that follow.

Where the sequences of a batch hold one context, they are turns, in order; else each asks its own context for
the first time. The first question is asked of the whole cache, so it finds what it seeks, at the price of
dense attention; what other questions seek is gone. A group's heads keep the same pages, so that the rest of
its cache can be freed. Bad at: every question but the first.
"""

from math import sqrt

from suite.selection import by_query, pages_kept
from suite.selector import Keeping, selector


@selector(ops=("decode",), ids=("scbench",))
def snap(case, k, v):
    """The pages that weigh most for the first question about a context, for all of its turns."""
    n, h, g, t, d, b = (case[size] for size in "nhgtdb")
    first = 1 if bool((k == k[:1]).all()) else n
    asked = k[:first]
    beside = t - pages_kept(case) * b  # tokens of a group that only choosing reads

    def select(q):
        scores = (q[:first].view(first, g, h // g, d) @ asked.mT).float() / sqrt(d)
        mass = scores.softmax(-1).mean(2).unflatten(-1, (-1, b)).sum(-1)
        mass = mass.expand(n, -1, -1)
        return by_query(mass, case, flops=2 * first * h * t * d, read=asked.nbytes // t * beside)

    return Keeping(select, (asked,))
