"""Dense on a GPU: the weight with its zeros in place times `b` in rows, by cuBLAS.

The answer is there already. float32 is float32 throughout: TF32 is off. Sums of 16-bit products are float32
to the end: the library may otherwise round partial sums to 16 bits where it splits k. Bad at: every sparsity,
that is the point; few columns.
"""

import torch

from suite.cuda.terms import too_old
from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel

DTYPES = ("float32", "bfloat16", "float16")


def refuse(case, device):
    return [*too_large(case), *too_old(case, device)]


def in_full():
    """From here on no product rounds what it is given, nor its sums before the end."""
    matmul = torch.backends.cuda.matmul
    matmul.allow_tf32 = False
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False


def values_of(a):
    """For the line: dense is quicker and cheaper on zeros than on the numbers that were there before them."""
    return {"weight": "zeros in place" if getattr(a, "sparsity", 0) else "no zeros"}  # other ops': dense


@kernel(op="spmm", on="cuda", dtypes=DTYPES, dense=True, refuse=refuse)
def spmm_dense_cublas(a, b):
    """torch.mm on cuBLAS, `b` in rows."""
    in_full()
    weight = a.dense
    out = b.new_empty(a.shape[0], b.shape[1])

    def run(b):
        return torch.mm(weight, b, out=out)

    return Prepared(run, 2 * weight.numel() * b.shape[1], weight.nbytes, 0, (weight, out), values_of(a))
