"""Bitmap on a GPU, unpacked before it is multiplied: spread_triton.py lays the weight out, cuBLAS multiplies.

What offloading does with a weight that has just arrived: a bit for each position and the nonzeros packed are
what is kept and moved. The idea is that of Endor. Bad at: speed, for a weight that is there to stay: it is
written with its zeros and read again in every call, beside a dense product.
"""

import torch

from suite.cuda.terms import in_triton, no_triton
from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_cublas import in_full

spread = in_triton("suite.kernels.spmm.spread_triton")


def refuse(case, device):
    return [*no_triton(), *too_large(case)]


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("float32", "bfloat16", "float16"),
    isa=("sm_80",),
    refuse=refuse,
    ids=("endor",),
)
def spmm_bitmap_triton(a, b):
    """A bitmap and packed values, laid out in Triton in every call, then torch.mm on cuBLAS."""
    in_full()
    held = spread.bits_of(a, b.device)
    out, weight = b.new_empty(a.shape[0], b.shape[1]), held.dense[:, : a.shape[1]]

    def run(b):
        held.lay_out()
        return torch.mm(weight, b, out=out)

    return Prepared(
        run,
        executed=2 * weight.numel() * b.shape[1],
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held, out),
        note={"chunk": spread.CHUNK},
    )
