"""Dense: the weight stored the other way round, k x m, times one vector.

A sum of its columns rather than a row of dot products. Bad at: anything but one column, which it refuses.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


@kernel(op="spmm", on="cpu", dtypes=("float32", "bfloat16"), dense=True, only={"n": 1}, refuse=too_large)
def spmm_dense_mv_transposed(a, b):
    """torch.mv, the weight in columns."""
    weight = a.dense.t().contiguous().t()
    out = b.new_empty(a.shape[0])

    def run(b):
        return torch.mv(weight, b[:, 0], out=out).unsqueeze(1)

    return Prepared(run, 2 * weight.numel(), weight.nbytes, 0, (weight, out))
