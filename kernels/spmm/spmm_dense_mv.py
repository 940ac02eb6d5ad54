"""Dense: the weight with its zeros in place, times one vector.

Bad at: anything but one column, which it refuses; the weight is read once, so memory is the limit.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


def refuse(case, device):
    return too_large(case) + ([f"is for one column, got n = {case['n']}"] if case["n"] != 1 else [])


@kernel(op="spmm", on="cpu", dtypes=("float32", "bfloat16", "float16"), dense=True, refuse=refuse)
def spmm_dense_mv(a, b):
    """torch.mv."""
    weight = a.dense
    out = b.new_empty(a.shape[0])

    def run(b):
        return torch.mv(weight, b[:, 0], out=out).unsqueeze(1)

    return Prepared(run, 2 * weight.numel(), weight.nbytes, 0, (weight, out))
