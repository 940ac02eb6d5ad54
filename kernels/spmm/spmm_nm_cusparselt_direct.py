"""2:4 by cuSPARSELt itself: the answer, the workspace and the plan are there before the call.

As `spmm_nm_cusparselt`, without torch in between, which makes all three anew in each call. The library's own
search for the best algorithm is preparation: once for each shape in a process, and the note says how long it
took. Of 8-bit numbers the scales are the product's factor. Sizes are padded to what the library takes, and
the padding is counted as executed. Bad at: masks with fewer than two of four, which cost as much as two; few
columns, which are padded to eight or sixteen.
"""

import torch

from suite.case import FLOAT8, INT8, SCALES, answer_of
from suite.cuda import cusparselt
from suite.cuda.terms import too_old
from suite.formats.dense import too_large
from suite.formats.two_of_four import PATTERNS, unfit
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_nm_cusparselt import fitted

DTYPES = ("bfloat16", "float16", FLOAT8, INT8)


def refuse(case, device):
    return [*unfit(case), *too_large(case), *too_old(case, device), *cusparselt.missing()]


@kernel(
    op="spmm",
    on="cuda",
    dtypes=DTYPES,
    patterns=PATTERNS,
    isa=("sm_80",),
    refuse=refuse,
    live_order="columns",
)
def spmm_nm_cusparselt_direct(a, b):
    """cuSPARSELt without torch, the algorithm it finds best."""
    m, n = a.shape[0], b.shape[1]
    sizes, weight, wider, wide = fitted(a, b, torch.sparse.SparseSemiStructuredTensorCUSPARSELT)
    rows, columns, wide_n = sizes
    out = torch.empty(wide_n, rows, dtype=answer_of(b.dtype), device=b.device)
    plan = cusparselt.plan(rows, wide_n, columns, b.dtype, out.dtype, torch.cuda.current_device())
    packed = plan.compressed(weight)
    multiply, workspace = plan.product(packed, wider(b), out, SCALES.get(b.dtype, 1.0) ** 2)

    def run(b):
        multiply(wider(b))
        return out[:n, :m].t()

    values = rows * columns // 2 * b.element_size()
    return Prepared(
        run,
        executed=rows * columns * wide_n,
        values=values,
        metadata=packed.nbytes - values,
        holds=(packed, wide, workspace, out),
        note={
            **plan.algorithm,
            "search_seconds": f"{plan.search_seconds:.2g}",
            "cusparselt": cusparselt.version(),
            "padded": "x".join(map(str, sizes)),
        },
        executed_pattern="2:4",
    )
