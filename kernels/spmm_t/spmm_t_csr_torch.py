"""Compressed columns in torch, as compressed rows of the transpose: MKL's product.

Bad at: many columns, as `spmm_csr_torch` is.
"""

from suite.formats.columns import transposed
from suite.kernel import kernel
from suite.kernels.spmm import spmm_csr_torch as forward


@kernel(op="spmm_t", on="cpu", dtypes=("float32",), refuse=forward.refuse)
def spmm_t_csr_torch(a, dy):
    """torch CSR of the transpose, on MKL."""
    return forward.spmm_csr_torch.prepare(transposed(a), dy)
