"""Compressed rows in cuSPARSE, its third algorithm: work is shared out evenly, whatever the rows' lengths.

The shares are worked out beforehand (SpMM_preprocess). The same answer in each run, and the one algorithm
for 16-bit numbers, whose products are summed in float32. Bad at: patterns that are even anyway, for which it
does too much.
"""

from suite.cuda.cusparse import CSR_ALG3, ROWS
from suite.cuda.terms import too_old
from suite.kernel import kernel
from suite.kernels.spmm import spmm_csr_cusparse_1
from suite.kernels.spmm.spmm_csr_cusparse_1 import FULL, prepare


def refuse(case, device):
    return [*spmm_csr_cusparse_1.refuse(case, device), *too_old(case, device)]


@kernel(op="spmm", on="cuda", dtypes=(*FULL, "bfloat16", "float16"), refuse=refuse)
def spmm_csr_cusparse_3(a, b):
    """cuSPARSE CSR_ALG3, `b` in rows."""
    return prepare(a, b, ROWS, CSR_ALG3, preprocess=True)
