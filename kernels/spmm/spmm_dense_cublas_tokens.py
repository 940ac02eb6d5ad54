"""Dense on a GPU: a linear layer's product, token-major in and out, by cuBLAS, into an answer that is there.

Both operands run along k, the order tensor cores were made for. Bad at: nothing in particular; which order
wins is the library's secret, and so both are tried.
"""

import torch

from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full, refuse, values_of


@kernel(op="spmm", on="cuda", dtypes=DTYPES, dense=True, refuse=refuse, live_order="columns")
def spmm_dense_cublas_tokens(a, b):
    """torch.mm on cuBLAS of activations and weight, both token-major."""
    in_full()
    weight = a.dense
    out = b.new_empty(b.shape[1], a.shape[0])

    def run(b):
        return torch.mm(b.t(), weight.t(), out=out).t()

    return Prepared(run, 2 * weight.numel() * b.shape[1], weight.nbytes, 0, (weight, out), values_of(a))
