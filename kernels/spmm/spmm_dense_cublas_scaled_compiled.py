"""Dense on a GPU in 8 bits under torch.compile: token-major in and out, as spmm_dense_cublas_scaled_tokens.

The compiler tries templates of its own beside cuBLAS. Bad at: as spmm_dense_cublas_compiled, each
shape is compiled for about a minute.
"""

import torch

from suite.case import FLOAT8
from suite.formats.bsr import whole
from suite.formats.padded import padded
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_cublas import values_of
from suite.kernels.spmm.spmm_dense_cublas_compiled import MODE, compiled, refuse
from suite.kernels.spmm.spmm_dense_cublas_scaled import ISA, UNIT
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
    (m, k), n = a.shape, b.shape[1]
    rows, columns = whole(m, UNIT), whole(k, UNIT)
    weight, scale = padded(a.dense, rows, columns)[0](a.dense), scale_of(b)
    wider, wide = padded(b, columns, n, "columns")

    def product(tokens):
        return torch._scaled_mm(
            tokens, weight.t(), scale, scale, out_dtype=torch.bfloat16, use_fast_accum=True
        )

    multiply = compiled(product)

    def run(b):
        tokens = wider(b).as_strided((n, columns), (columns, 1))  # of a single one strides tell no order
        return multiply(tokens)[:, :m].t()

    note = {"compile": MODE, "sums": "fast", **values_of(a), "padded": f"{rows}x{columns}x{n}"}
    work = 2 * weight.numel() * n
    return Prepared(run, work, weight.nbytes, 0, (weight, wide, scale), note, hidden=True)
