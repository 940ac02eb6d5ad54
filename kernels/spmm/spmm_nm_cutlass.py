"""2:4 in torch's CUTLASS kernels: two of every aligned four, multiplied by sparse tensor cores.

The product itself is called, not the tensor class around it, which pads and copies within the call. Sizes
are padded here to what the kernels take, and the padding is counted as executed. The answer is allocated
anew in each call. Bad at: chips other than of compute capability 8.x, for which torch has none; few columns,
for there is one tile size.
"""

import torch

from suite.formats.dense import too_large
from suite.formats.two_of_four import PATTERNS, unfit
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_nm_cusparselt import DTYPES, fitted, refusing


def refuse(case, device):
    return [*unfit(case), *too_large(case)]


@kernel(
    op="spmm",
    on="cuda",
    dtypes=DTYPES,
    patterns=PATTERNS,
    isa=("sm_80",),
    refuse=refuse,
    live_order="columns",
)
def spmm_nm_cutlass(a, b):
    """torch's 2:4 product on CUTLASS."""
    from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass

    m, n = a.shape[0], b.shape[1]
    sizes, weight, wider, wide = fitted(a, b, torch.sparse.SparseSemiStructuredTensorCUTLASS)
    rows, columns, wide_n = sizes
    packed, meta = sparse_semi_structured_from_dense_cutlass(weight)

    def run(b):
        return torch._sparse_semi_structured_mm(packed, meta, wider(b))[:m, :n]

    with refusing():
        run(b)
    return Prepared(
        run,
        executed=rows * columns * wide_n,
        values=packed.nbytes,
        metadata=meta.nbytes,
        holds=(packed, meta, wide),
        note={"padded": "x".join(map(str, sizes))},
        executed_pattern="2:4",
    )
