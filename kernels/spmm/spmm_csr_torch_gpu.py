"""Compressed rows in torch on a GPU: cuSPARSE as torch calls it, 32-bit indices, an answer that is there.

By addmm with beta = 0: mm would fill a matrix of zeros in each call. float32 alone, for on 16-bit numbers
cuSPARSE silently takes another algorithm than torch asks for. Bad at: short calls, for it makes descriptors
and a workspace anew in each.
"""

import warnings

import torch

from suite.kernel import Prepared, Refused, kernel
from suite.sparse import INT32_MOST


def refuse(case, device):
    if case.data or case.pattern.count(case["m"], case["k"]) <= INT32_MOST:
        return []
    return [f"indices are 32 bits wide; {case.pattern} has more than {INT32_MOST} nonzeros here"]


@kernel(op="spmm", on="cuda", dtypes=("float32",), refuse=refuse)
def spmm_csr_torch_gpu(a, b):
    """torch CSR on cuSPARSE."""
    if a.nonzeros > INT32_MOST:
        raise Refused(f"{a.nonzeros} nonzeros, 32-bit indices end at {INT32_MOST}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layout is in beta
        held = torch.sparse_csr_tensor(a.starts, a.columns, a.values, size=a.shape, check_invariants=False)
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
