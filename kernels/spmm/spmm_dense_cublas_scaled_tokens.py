"""Dense on a GPU in 8 bits: a linear layer's product, token-major in and out, by cuBLAS, in bfloat16.

As `spmm_dense_cublas_scaled`, with the factors the other way round, so that any number of columns is taken as
it is, and with sums as tensor cores keep them, which is how models are served. Bad at: long sums, of which
Hopper's tensor cores keep 14 bits.
"""

import torch

from suite.case import FLOAT8
from suite.formats.bsr import whole
from suite.formats.dense import too_large
from suite.formats.padded import padded
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_cublas import values_of
from suite.kernels.spmm.spmm_dense_cublas_scaled import ISA, UNIT
from suite.kernels.spmm.spmm_dense_scaled_mm import scale_of


def token_major(a, b):
    """The weight, what gives each `b` as tokens, the buffer for that, and a note: all padded."""
    (m, k), n = a.shape, b.shape[1]
    rows, columns = whole(m, UNIT), whole(k, UNIT)
    wider, wide = padded(b, columns, n, "columns")

    def tokens(b):
        return wider(b).as_strided((n, columns), (columns, 1))  # of a single one strides tell no order

    note = {"sums": "fast", **values_of(a), "padded": f"{rows}x{columns}x{n}"}
    return padded(a.dense, rows, columns)[0](a.dense), tokens, wide, note


@kernel(op="spmm", on="cuda", dtypes=(FLOAT8,), isa=ISA, dense=True, refuse=too_large, live_order="columns")
def spmm_dense_cublas_scaled_tokens(a, b):
    """torch._scaled_mm on cuBLAS of activations and weight, both token-major."""
    m, n = a.shape[0], b.shape[1]
    (weight, tokens, wide, note), scale = token_major(a, b), scale_of(b)
    out = torch.empty(n, len(weight), dtype=torch.bfloat16, device=b.device)
    how = {"out_dtype": out.dtype, "use_fast_accum": True, "out": out}

    def run(b):
        torch._scaled_mm(tokens(b), weight.t(), scale, scale, **how)
        return out[:, :m].t()

    return Prepared(run, 2 * weight.numel() * n, weight.nbytes, 0, (weight, wide, out, scale), note)
