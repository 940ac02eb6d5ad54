"""Masked: activations that do not reach their cut set to zero, then the dense product.

What a model does whose activations are made sparse without a kernel for it. Bad at: every sparsity.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


@kernel(op="actmm", on="cpu", dtypes=("float32", "bfloat16", "float16"), execution="masked", refuse=too_large)
def actmm_masked_mm(w, cut, x):
    """torch.mm after torch.where."""
    cuts, masked, out = cut[:, None], torch.empty_like(x), x.new_empty(w.shape[0], x.shape[1])
    nothing = x.new_zeros(())

    def run(x):
        torch.where(x.abs() >= cuts, x, nothing, out=masked)
        return torch.mm(w, masked, out=out)

    return Prepared(run, 2 * w.numel() * x.shape[1], w.nbytes, 0, (w, cuts, masked, out))
