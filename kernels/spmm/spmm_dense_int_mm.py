"""Dense in whole numbers of 8 bits: the weight with its zeros in place times `b`, the answer in bfloat16.

Sums are in int32, which is exact; a second pass multiplies them by both scales. Bad at: short sums, beside
which writing the answer twice shows.
"""

import torch

from suite.case import INT8, SCALES, answer_of
from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


@kernel(op="spmm", on="cpu", dtypes=(INT8,), dense=True, refuse=too_large)
def spmm_dense_int_mm(a, b):
    """torch._int_mm, `b` in rows."""
    weight, scale = a.dense, SCALES[b.dtype] ** 2
    sums = torch.empty(a.shape[0], b.shape[1], dtype=torch.int32)
    out = torch.empty_like(sums, dtype=answer_of(b.dtype))

    def run(b):
        return torch.mul(torch._int_mm(weight, b, out=sums), scale, out=out)

    note = {"scales": "one a tensor"}
    return Prepared(run, 2 * weight.numel() * b.shape[1], weight.nbytes, 0, (weight, sums, out), note)
