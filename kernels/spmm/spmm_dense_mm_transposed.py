"""Dense: the weight stored the other way round, k x m, times `b` in rows.

Both operands then run along their outer side, as an outer product likes it. Bad at: few columns, where most
libraries read the weight by strides.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


# No float16: torch has no blocked product for it in this order, and takes seconds.
@kernel(op="spmm", on="cpu", dtypes=("float32", "bfloat16"), dense=True, refuse=too_large)
def spmm_dense_mm_transposed(a, b):
    """torch.mm, the weight in columns."""
    weight = a.dense.t().contiguous().t()
    out = b.new_empty(a.shape[0], b.shape[1])

    def run(b):
        return torch.mm(weight, b, out=out)

    return Prepared(run, 2 * weight.numel() * b.shape[1], weight.nbytes, 0, (weight, out))
