"""Gather: the rows of the neurons that count, copied next to each other, then a dense product.

What one writes in torch alone. Bad at: most sparsities, for what is read is written and read again; many
tokens, which together want everything. Finding the neurons allocates.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


@kernel(op="actmm_up", on="cpu", dtypes=("float32", "bfloat16", "float16"), refuse=too_large)
def actmm_up_gather_torch(w, cut, x, g):
    """torch.index_select of the weight's rows, then torch.mm, then the gate."""
    room, cuts = torch.empty_like(w), cut[:, None]
    product, out = torch.empty_like(g), torch.empty_like(g)
    nothing, read = g.new_zeros(()), 0

    def run(x, g):
        nonlocal read
        counts = g.abs() >= cuts
        live = counts.any(1).nonzero().flatten()
        read = len(live)
        picked = torch.index_select(w, 0, live, out=room[:read])
        gated = torch.mm(picked, x, out=product[:read]).mul_(g.where(counts, nothing)[live])
        return out.zero_().index_copy_(0, live, gated)

    return Prepared(
        run,
        executed=lambda: 2 * read * w.shape[1] * x.shape[1],
        values=lambda: read * w.shape[1] * w.itemsize,
        metadata=0,
        holds=(w, cuts, room, product, out),
    )
