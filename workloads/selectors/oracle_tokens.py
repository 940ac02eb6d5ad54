"""Oracle of decode: the pages with the most of attention's true weight, which takes all keys to know."""

from math import sqrt

from suite.selection import by_query, pages_kept
from suite.selector import Keeping, selector


@selector(ops=("decode", "decode_offload"), control="knowledge")
def oracle_tokens(case, k, v):
    """The pages that truly weigh most, head by head: what no selector can beat at its budget."""
    n, h, g, t, d, b = (case[size] for size in "nhgtdb")
    beside = max(0, t - pages_kept(case) * b * (h // g))  # tokens of a group that no head keeps, at least

    def select(q):
        scores = (q.view(n, g, h // g, d) @ k.mT).float() / sqrt(d)
        mass = scores.softmax(-1).unflatten(-1, (-1, b)).sum(-1)
        told = {"flops": 2 * n * h * t * d, "read": k.nbytes // t * beside, "near": k.nbytes}
        return by_query(mass.flatten(1, 2), case, **told)

    return Keeping(select, (k,))
