"""Dense on a GPU in TF32: float32 in memory, multiplied by tensor cores with 10 bits of mantissa.

The case's numbers have no more than that, so nothing is rounded but the sums, which are float32. TF32 is on
during the call and put back after it, which costs the host a microsecond and the GPU nothing. Bad at:
numbers that do have more bits, which are not this dtype's.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_cublas import values_of

ISA, NOTE = ("sm_80",), {"precision": "TF32"}


def in_tf32(call: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The call with TF32 on."""
    matmul = torch.backends.cuda.matmul

    def run(b):
        before = matmul.allow_tf32
        matmul.allow_tf32 = True
        try:
            return call(b)
        finally:
            matmul.allow_tf32 = before

    return run


@kernel(op="spmm", on="cuda", dtypes=("tfloat32",), isa=ISA, dense=True, refuse=too_large)
def spmm_dense_cublas_tf32(a, b):
    """torch.mm on cuBLAS with TF32 on."""
    weight = a.dense
    out = b.new_empty(a.shape[0], b.shape[1])
    run = in_tf32(lambda b: torch.mm(weight, b, out=out))
    return Prepared(
        run, 2 * weight.numel() * b.shape[1], weight.nbytes, 0, (weight, out), NOTE | values_of(a)
    )
