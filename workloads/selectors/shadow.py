"""ShadowKV: keys kept as factors of low rank, pages found by their mean key, values fetched for those alone.

What stays near is a quarter of the keys and a landmark a page; values may be far away. A step scores the
landmarks for each group of heads, rebuilds the keys of the best pages and fetches their values: a compact
cache of its own, which the kernel then reads whole. Where the cache lies far, values are the kernel's to
fetch. Bad at: keys of full rank, which it only approximates, and a cache that is near anyhow: rebuilding and
copying is then more than was saved.
"""

import torch

from suite.selection import of_queries, pages_kept
from suite.selector import Keeping, selector

SHARE = 4  # one rank of so many is kept


def factors(k, rank):
    """Of each group's keys: [n, g, t, rank] by [n, g, rank, d], the best there are of this rank."""
    wide = k.float()
    basis = torch.linalg.eigh(wide.mT @ wide).eigenvectors[..., -rank:].mT.contiguous()
    return (wide @ basis.mT).to(k.dtype), basis.to(k.dtype)


@selector(ops=("decode", "decode_offload"), ids=("shadowkv",))
def shadow(case, k, v, rank=None):
    """The pages whose mean key a group's heads like best, their keys rebuilt from low rank."""
    n, h, g, t, d, b = (case[size] for size in "nhgtdb")
    rank, kept, across = rank or max(1, d // SHARE), pages_kept(case), t // b
    low, basis = factors(k, rank)
    landmarks = k.unflatten(2, (-1, b)).float().mean(3).to(k.dtype)
    first = torch.arange(n * g, device=k.device).view(n, g, 1) * across
    rows, values = low.view(-1, b * rank), v.view(-1, b * d)
    own = torch.arange(kept, dtype=torch.int32, device=k.device).repeat(n * h)
    within = torch.arange(b, device=k.device)
    flops = 2 * n * h * across * d + 2 * n * g * kept * b * rank * d
    read = landmarks.nbytes + basis.nbytes + n * g * kept * b * rank * k.itemsize
    near, far = low.nbytes + basis.nbytes + landmarks.nbytes, case.op == "decode_offload"

    def select(q):
        scores = (q.view(n, g, h // g, d) @ landmarks.mT).amax(2)
        best = scores.topk(kept, -1, sorted=False).indices.sort(-1).values
        places = (best + first).flatten()
        chosen = rows.index_select(0, places).view(n, g, kept * b, rank)
        return of_queries(
            own,
            (n * h, kept),
            case,
            k=chosen @ basis,
            v=None if far else values.index_select(0, places).view(n, g, kept * b, d),
            tokens=(best[..., None] * b + within).flatten(2),
            flops=flops,
            read=read,
            near=near,
        )

    return Keeping(select, (low, basis, landmarks, first, own, within, *(() if far else (v,))))
