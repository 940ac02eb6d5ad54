"""Dense on a GPU in 8 bits under torch.compile: token-major in and out, as spmm_dense_cublas_scaled_tokens.

The compiler tries templates of its own beside cuBLAS. Bad at: as spmm_dense_cublas_compiled, each
shape is compiled for about a minute.
"""

import torch

from suite.case import FLOAT8
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_cublas_compiled import MODE, compiled, refuse
from suite.kernels.spmm.spmm_dense_cublas_scaled import ISA
from suite.kernels.spmm.spmm_dense_cublas_scaled_tokens import token_major
from suite.kernels.spmm.spmm_dense_scaled_mm import scale_of


@kernel(
    op="spmm",
    on="cuda",
    dtypes=(FLOAT8,),
    isa=ISA,
    dense=True,
    refuse=refuse,
    live_order="columns",
    extents=("full",),
)
def spmm_dense_cublas_scaled_compiled(a, b):
    """torch.compile of torch._scaled_mm, activations and weight token-major."""
    m, n = a.shape[0], b.shape[1]
    (weight, tokens, wide, note), scale = token_major(a, b), scale_of(b)

    def product(tokens):
        return torch._scaled_mm(
            tokens, weight.t(), scale, scale, out_dtype=torch.bfloat16, use_fast_accum=True
        )

    multiply = compiled(product)

    def run(b):
        return multiply(tokens(b))[:, :m].t()

    note, work = {"compile": MODE, **note}, 2 * weight.numel() * n
    return Prepared(run, work, weight.nbytes, 0, (weight, wide, scale), note, hidden=True)
