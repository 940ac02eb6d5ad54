"""Dense in 8 bits: the weight with its zeros in place times `b`, each with its scale, the answer in bfloat16.

Bad at: processors that do not multiply 8-bit floats, which most do not: each number is widened first, and
bfloat16 is many times faster.
"""

import torch
from torch import Tensor

from suite.case import FLOAT8, SCALES
from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


def refuse(case, device):
    reasons = too_large(case)
    if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_scaled_mm", "CPU"):
        reasons.append("needs a torch that multiplies 8-bit floats on a CPU, which this one does not")
    return reasons


def scale_of(numbers: Tensor) -> Tensor:
    """What a stored 1 of these stands for, where they are: a tensor, as products with scales want it."""
    return torch.tensor(SCALES[numbers.dtype], device=numbers.device)


@kernel(op="spmm", on="cpu", dtypes=(FLOAT8,), dense=True, refuse=refuse)
def spmm_dense_scaled_mm(a, b):
    """torch._scaled_mm, `b` in rows."""
    weight, scale = a.dense, scale_of(b)
    out = torch.empty(a.shape[0], b.shape[1], dtype=torch.bfloat16)

    def run(b):
        return torch._scaled_mm(weight, b, scale, scale, out_dtype=out.dtype, out=out)

    note = {"scales": "one a tensor"}
    return Prepared(run, 2 * weight.numel() * b.shape[1], weight.nbytes, 0, (weight, out, scale), note)
