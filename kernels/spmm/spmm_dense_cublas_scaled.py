"""Dense on a GPU in 8 bits: the weight with its zeros in place times token-major `b`, by cuBLAS, in bfloat16.

Each tensor has one scale. Sums go into float32 as they grow, which Hopper does not do by itself and which
costs time. Sizes are padded to sixteens, as the library wants them, and the padding is counted as executed.
Bad at: every sparsity, that is the point; few columns, which are padded to sixteen.
"""

import torch

from suite.case import FLOAT8
from suite.formats.bsr import whole
from suite.formats.dense import too_large
from suite.formats.padded import padded
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_cublas import values_of
from suite.kernels.spmm.spmm_dense_scaled_mm import scale_of

UNIT = 16  # sizes are whole multiples of it
ISA = ("sm_89",)


@kernel(op="spmm", on="cuda", dtypes=(FLOAT8,), isa=ISA, dense=True, refuse=too_large, live_order="columns")
def spmm_dense_cublas_scaled(a, b):
    """torch._scaled_mm on cuBLAS, `b` token-major."""
    (m, k), n = a.shape, b.shape[1]
    columns, wide_n = whole(k, UNIT), whole(n, UNIT)
    weight = padded(a.dense, m, columns)[0](a.dense)
    wider, wide = padded(b, columns, wide_n, "columns")
    scale = scale_of(b)
    out = torch.empty(m, wide_n, dtype=torch.bfloat16, device=b.device)

    def run(b):
        torch._scaled_mm(weight, wider(b), scale, scale, out_dtype=out.dtype, out=out)
        return out[:, :n]

    holds, note = (
        (weight, wide, out, scale),
        {"sums": "promoted", **values_of(a), "padded": f"{m}x{columns}x{wide_n}"},
    )
    return Prepared(run, 2 * weight.numel() * wide_n, weight.nbytes, 0, holds, note)
