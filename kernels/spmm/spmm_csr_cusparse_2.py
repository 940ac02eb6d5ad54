"""Compressed rows in cuSPARSE, its second algorithm, which is the one for `b` in rows.

float32 alone, as the first. Bad at: few columns, where rows of `b` are too short to be read well; rows of
very unequal length.
"""

from suite.cuda.cusparse import CSR_ALG2, ROWS
from suite.kernel import kernel
from suite.kernels.spmm.spmm_csr_cusparse_1 import FULL, prepare, refuse


@kernel(op="spmm", on="cuda", dtypes=FULL, refuse=refuse)
def spmm_csr_cusparse_2(a, b):
    """cuSPARSE CSR_ALG2, `b` in rows."""
    return prepare(a, b, ROWS, CSR_ALG2, preprocess=False)
