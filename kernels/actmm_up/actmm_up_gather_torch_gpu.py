"""Gather on a GPU: rows of the neurons that count copied next to each other, as `actmm_up_gather_torch`.

How many there are the host waits to hear, so the wall clock times it. Bad at: what that is bad at; calls too
short to wait in.
"""

from suite.kernel import kernel
from suite.kernels.actmm_up.actmm_up_gather_torch import actmm_up_gather_torch
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full, refuse


@kernel(op="actmm_up", on="cuda", dtypes=DTYPES, refuse=refuse)
def actmm_up_gather_torch_gpu(w, cut, x, g):
    """torch.index_select of the weight's neurons, then torch.mm on cuBLAS."""
    in_full()
    return actmm_up_gather_torch.prepare(w, cut, x, g)
