"""Thin: what a part of low rank adds to the answer of a sparse product, by two thin products of torch."""

from dataclasses import replace

import torch


def with_low_rank(sparse, u, v, x):
    """A sparse product that is prepared, and U V x added to what it answers, where that stands."""
    u, v = u.contiguous(), v.contiguous()
    between = x.new_empty(len(v), x.shape[1])

    def run(x):
        out = sparse.run(x)
        torch.mm(v, x, out=between)
        return torch.addmm(out, u, between, out=out)

    return replace(
        sparse,
        run=run,
        executed=sparse.executed + 2 * (u.numel() + v.numel()) * x.shape[1],
        values=sparse.values + u.nbytes + v.nbytes,
        holds=(sparse.holds, u, v, between),
    )
