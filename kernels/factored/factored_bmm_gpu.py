"""Monarch factors on a GPU, as `factored_bmm`: two batched products of cuBLAS.

Bad at: blocks of less than 16 rows, too narrow for tensor cores; few columns, where launches are the time.
"""

from suite.cuda.terms import too_old
from suite.kernel import kernel
from suite.kernels.factored import factored_bmm as forward
from suite.kernels.spmm.spmm_dense_cublas import in_full
from suite.patterns.monarch import Monarch


@kernel(
    op="factored", on="cuda", dtypes=forward.DTYPES, patterns=(Monarch,), refuse=too_old, ids=("monarch",)
)
def factored_bmm_gpu(a, x):
    """torch.bmm on cuBLAS twice."""
    in_full()
    return forward.factored_bmm.prepare(a, x)
