"""Compressed rows in cuSPARSE, its first algorithm, with `b` and the answer in columns, which suit it best.

The rows are looked at beforehand (SpMM_preprocess). float32 alone: on 16-bit numbers the library silently
takes its third algorithm for this one and the second. Bad at: many columns, where the second reads whole
rows of `b`; answers differ a little from run to run.
"""

from suite.cuda import cusparse
from suite.cuda.cusparse import COLUMNS, CSR_ALG1
from suite.kernel import Prepared, kernel
from suite.kernels.spmm import spmm_csr_torch

FULL = ("float32", "tfloat32")  # which it multiplies in float32 alike


def refuse(case, device):
    return [*cusparse.missing(), *spmm_csr_torch.refuse(case, device)]


def prepare(a, b, order, algorithm, preprocess):
    """The product by one of the library's algorithms, b and the answer in this order."""
    (m, _), n = a.shape, b.shape[1]
    out = b.new_empty(n, m).t() if order == COLUMNS else b.new_empty(m, n)
    multiply, workspace = cusparse.product(cusparse.csr(a), b, out, order, algorithm, preprocess)

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * a.nonzeros * n,
        values=a.values.nbytes,
        metadata=a.starts.nbytes + a.columns.nbytes,
        holds=(a.starts, a.columns, a.values, workspace, out),
        note={"workspace": workspace.nbytes, "indices": "int32"},
    )


@kernel(op="spmm", on="cuda", dtypes=FULL, refuse=refuse, live_order="columns")
def spmm_csr_cusparse_1(a, b):
    """cuSPARSE CSR_ALG1."""
    return prepare(a, b, COLUMNS, CSR_ALG1, preprocess=True)
