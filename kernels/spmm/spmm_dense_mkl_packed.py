"""Dense: a linear layer whose weight MKL has packed for its own blocking, once and before the clock starts.

Bad at: processors of other makers, where it takes half their vectors; it is float32 alone, allocates its
answer, and its packed form is for one batch size.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Buffer, Prepared, kernel


def refuse(case, device):
    reasons = too_large(case)
    if not torch.backends.mkl.is_available() or not hasattr(torch.ops.mkl, "_mkl_reorder_linear_weight"):
        reasons.append("needs a torch built with MKL, which is what x86 Linux and Windows wheels are")
    return reasons


@kernel(op="spmm", on="cpu", dtypes=("float32",), dense=True, refuse=refuse, live_order="columns")
def spmm_dense_mkl_packed(a, b):
    """MKL's packed product, as frozen models use it."""
    weight, n = a.dense, b.shape[1]
    packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, n)
    size = torch.ops.mkldnn._nbytes(packed)

    def run(b):
        return torch.ops.mkl._mkl_linear(b.t(), packed, weight, None, n).t()

    held = Buffer(torch.ops.mkldnn.data_ptr(packed), size)
    # Its buffer is megabytes beyond a small weight; how much of that a call reads, the library does not say.
    return Prepared(run, 2 * weight.numel() * n, weight.nbytes, None, (held, weight))
