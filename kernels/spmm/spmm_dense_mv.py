"""Dense: the weight with its zeros in place, times one vector.

Meant for one column alone; the weight is read once, so memory is the limit.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    only={"n": 1},
    refuse=too_large,
)
def spmm_dense_mv(a, b):
    """torch.mv."""
    weight = a.dense
    out = b.new_empty(a.shape[0])

    def run(b):
        return torch.mv(weight, b[:, 0], out=out).unsqueeze(1)

    return Prepared(run, 2 * weight.numel(), weight.nbytes, 0, (weight, out))
