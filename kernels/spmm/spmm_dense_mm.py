"""Dense: the weight with its zeros in place, times `b` as it comes, one row after the other.

Bad at: every sparsity, that is the point; at few columns,
where a library would rather have them token by token.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


@kernel(op="spmm", on="cpu", dtypes=("float32", "bfloat16", "float16"), dense=True, refuse=too_large)
def spmm_dense_mm(a, b):
    """torch.mm, `b` in rows."""
    weight = a.dense
    out = b.new_empty(a.shape[0], b.shape[1])

    def run(b):
        return torch.mm(weight, b, out=out)

    return Prepared(run, 2 * weight.numel() * b.shape[1], weight.nbytes, 0, (weight, out))
