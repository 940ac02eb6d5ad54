"""Gather: the rows of the neurons that count, copied next to each other, then a dense product.

What one writes in torch alone. Bad at: most sparsities, for what is read is written and read again; many
tokens, which together use everything. Finding the neurons allocates.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


@kernel(op="actmm", on="cpu", dtypes=("float32", "bfloat16", "float16"), refuse=too_large)
def actmm_gather_torch(w, cut, x):
    """torch.index_select of the weight's neurons, then torch.mm."""
    rows, cuts = w.t().contiguous(), cut[:, None]
    room, out = torch.empty_like(rows), w.new_empty(x.shape[1], w.shape[0])
    nothing, read = x.new_zeros(()), 0

    def run(x):
        nonlocal read
        counts = x.abs() >= cuts
        live = counts.any(1).nonzero().flatten()
        read = len(live)
        picked = torch.index_select(rows, 0, live, out=room[:read])
        return torch.mm(x.where(counts, nothing)[live].t(), picked, out=out).t()

    return Prepared(
        run,
        executed=lambda: 2 * read * out.numel(),
        values=lambda: read * w.shape[0] * w.itemsize,
        metadata=0,
        holds=(rows, cuts, room, out),
    )
