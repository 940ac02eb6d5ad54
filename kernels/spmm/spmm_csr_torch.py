"""Compressed rows in torch: MKL's product, 32-bit indices, an answer that is there already.

64-bit indices, as `to_sparse_csr` makes them, cost up to 3.7 times as much: torch converts them in each call.
Bad at: many columns. MKL streams `b` past each row, so from 64 columns on the cache holds too little of it.
"""

import warnings

import torch

from suite.kernel import Prepared, Refused, kernel
from suite.sparse import INT32_MOST


def refuse(case, device):
    if case.data or case.pattern.count(case["m"], case["k"]) <= INT32_MOST:
        return []
    return [f"indices are 32 bits wide; {case.pattern} has more than {INT32_MOST} nonzeros here"]


def compressed(a):
    """`a` as torch's compressed rows, over the same arrays."""
    if a.nonzeros > INT32_MOST:
        raise Refused(f"{a.nonzeros} nonzeros, 32-bit indices end at {INT32_MOST}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layout is in beta
        return torch.sparse_csr_tensor(a.starts, a.columns, a.values, size=a.shape, check_invariants=False)


@kernel(op="spmm", on="cpu", dtypes=("float32",), refuse=refuse)
def spmm_csr_torch(a, b):
    """torch CSR on MKL."""
    held = compressed(a)
    n = b.shape[1]
    out = b.new_empty(a.shape[0], n)
    column = out[:, 0]

    def run(b):
        return torch.mm(held, b, out=out)

    def run_vector(b):  # half the time of mm on one column
        torch.mv(held, b[:, 0], out=column)
        return out

    return Prepared(
        run_vector if n == 1 else run,
        executed=2 * a.nonzeros * n,
        values=a.values.nbytes,
        metadata=a.starts.nbytes + a.columns.nbytes,
        holds=(a.starts, a.columns, a.values, out),
        note={"algorithm": "mv" if n == 1 else "mm", "indices": "int32"},
    )
