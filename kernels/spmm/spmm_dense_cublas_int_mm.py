"""Dense on a GPU in whole numbers of 8 bits: the weight with its zeros in place times token-major `b`.

By cuBLAS. Sums are in int32, which is exact; a second launch multiplies them by both scales into bfloat16.
Sizes are padded to sixteens and rows to more than sixteen, as torch wants them, and the padding is counted as
executed. Bad at: every sparsity, that is the point; few columns, which are padded to sixteen; short sums,
beside which writing the answer twice shows.
"""

import torch

from suite.case import INT8, SCALES, answer_of
from suite.formats.bsr import whole
from suite.formats.dense import too_large
from suite.formats.padded import padded
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_cublas import values_of

UNIT = 16  # sizes are whole multiples of it
ROWS = 17  # and of rows no fewer


@kernel(
    op="spmm", on="cuda", dtypes=(INT8,), isa=("sm_80",), dense=True, refuse=too_large, live_order="columns"
)
def spmm_dense_cublas_int_mm(a, b):
    """torch._int_mm on cuBLAS, `b` token-major."""
    (m, k), n = a.shape, b.shape[1]
    rows, columns, wide_n = whole(max(m, ROWS), UNIT), whole(k, UNIT), whole(n, UNIT)
    weight = padded(a.dense, rows, columns)[0](a.dense)
    wider, wide = padded(b, columns, wide_n, "columns")
    scale = SCALES[b.dtype] ** 2
    sums = torch.empty(rows, wide_n, dtype=torch.int32, device=b.device)
    out = torch.empty(m, n, dtype=answer_of(b.dtype), device=b.device)

    def run(b):
        torch._int_mm(weight, wider(b), out=sums)
        return torch.mul(sums[:m, :n], scale, out=out)

    holds, note = (
        (weight, wide, sums, out),
        {"sums": "int32", **values_of(a), "padded": f"{rows}x{columns}x{wide_n}"},
    )
    return Prepared(run, 2 * weight.numel() * wide_n, weight.nbytes, 0, holds, note)
