"""Dense on a GPU in TF32 under torch.compile: spmm_dense_cublas_compiled, with TF32 on during the call.

The first call compiles, so templates are chosen with TF32 on too. Bad at: as both of these.
"""

from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_dense_cublas import values_of
from suite.kernels.spmm.spmm_dense_cublas_compiled import MODE, linear, refuse
from suite.kernels.spmm.spmm_dense_cublas_tf32 import ISA, NOTE, in_tf32


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("tfloat32",),
    isa=ISA,
    dense=True,
    refuse=refuse,
    live_order="columns",
    extents=("full",),
)
def spmm_dense_cublas_tf32_compiled(a, b):
    """torch.compile of a linear layer with TF32 on."""
    weight = a.dense
    note = {"compile": MODE, **NOTE, **values_of(a)}
    work = 2 * weight.numel() * b.shape[1]
    return Prepared(in_tf32(linear(weight)), work, weight.nbytes, 0, (weight,), note, hidden=True)
