"""Masked: the dense product, times the gate where it reaches its cut and zero elsewhere.

What a model does whose gate is made sparse without a kernel for it. Bad at: every sparsity.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


@kernel(
    op="actmm_up", on="cpu", dtypes=("float32", "bfloat16", "float16"), execution="masked", refuse=too_large
)
def actmm_up_masked_mm(w, cut, x, g):
    """torch.mm, then torch.where."""
    cuts, masked, out = cut[:, None], torch.empty_like(g), torch.empty_like(g)
    nothing = g.new_zeros(())

    def run(x, g):
        torch.where(g.abs() >= cuts, g, nothing, out=masked)
        return torch.mm(w, x, out=out).mul_(masked)

    return Prepared(run, 2 * w.numel() * x.shape[1], w.nbytes, 0, (w, cuts, masked, out))
