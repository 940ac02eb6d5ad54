"""Pages: by a bound on the best score of any token of a page, from the least and the largest of each channel.

A bound is never below what a token of the page reaches, so no page is left out for lack of one good token. A
step reads the bounds, 2 d numbers a page, and the kept pages, which may be as many however long the context
is. Bad at: pages of a token or two, whose bounds are as long as they are; and long pages of unlike tokens,
whose bounds no token reaches.

Of LServe this is the choice of pages; with heads that stream beside, it is streaming_pages.py.
"""

import torch

from suite.selection import by_query
from suite.selector import Keeping, selector


def bounds(k, b):
    """The largest and the least of each channel of each page: [n, g, pages, 2 d]."""
    tokens = k.unflatten(2, (-1, b))
    return torch.cat((tokens.amax(3), tokens.amin(3)), -1)


def bounded(q, held):
    """Bounds of scores [n, g, queries, pages], of queries [n, g, queries, d]."""
    return torch.cat((q.relu(), -(-q).relu()), -1) @ held.mT


@selector(ops=("decode", "decode_offload"), ids=("lserve",))
def pages(case, k, v):
    """The pages whose bound is highest."""
    n, h, g, t, d, b = (case[size] for size in "nhgtdb")
    held = bounds(k, b)

    def select(q):
        scores = bounded(q.view(n, g, h // g, d), held)
        told = {"flops": 4 * n * h * (t // b) * d, "read": held.nbytes, "near": held.nbytes}
        return by_query(scores.flatten(1, 2), case, **told)

    return Keeping(select, (held,))
