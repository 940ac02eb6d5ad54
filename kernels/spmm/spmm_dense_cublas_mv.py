"""Dense on a GPU: the weight with its zeros in place times one vector, by cuBLAS.

Meant for one column alone; the weight is read once, so memory is the limit.
"""

import torch

from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full, refuse, values_of


@kernel(op="spmm", on="cuda", dtypes=DTYPES, dense=True, only={"n": 1}, refuse=refuse)
def spmm_dense_cublas_mv(a, b):
    """torch.mv on cuBLAS."""
    in_full()
    weight = a.dense
    out = b.new_empty(a.shape[0])

    def run(b):
        return torch.mv(weight, b[:, 0], out=out).unsqueeze(1)

    return Prepared(run, 2 * weight.numel(), weight.nbytes, 0, (weight, out), values_of(a))
