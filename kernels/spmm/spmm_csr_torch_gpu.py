"""Compressed rows in torch on a GPU: cuSPARSE as torch calls it, 32-bit indices, an answer that is there.

By addmm with beta = 0: mm would fill a matrix of zeros in each call. float32 alone, for on 16-bit numbers
cuSPARSE silently takes another algorithm than torch asks for. Bad at: short calls, for it makes descriptors
and a workspace anew in each.
"""

import torch

from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_csr_torch import compressed, refuse


@kernel(op="spmm", on="cuda", dtypes=("float32",), refuse=refuse)
def spmm_csr_torch_gpu(a, b):
    """torch CSR on cuSPARSE."""
    held = compressed(a)
    n = b.shape[1]
    out = b.new_zeros(a.shape[0], n)

    def run(b):
        return torch.addmm(out, held, b, beta=0, out=out)

    return Prepared(
        run,
        executed=2 * a.nonzeros * n,
        values=a.values.nbytes,
        metadata=a.starts.nbytes + a.columns.nbytes,
        holds=(a.starts, a.columns, a.values, out),
        note={"indices": "int32"},
    )
