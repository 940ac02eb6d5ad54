"""2:4 in cuSPARSELt: two of every aligned four, multiplied by sparse tensor cores, token-major in and out.

Which of the library's algorithms is best it finds out by trying them, once for each shape in a process: that
is setup, and it is not kept. Sizes are padded here to what the library takes, and the padding is counted as
executed. The answer is allocated anew in each call. Bad at: masks with fewer than two of four, which cost as
much as two; few columns, which are padded to eight.
"""

from contextlib import contextmanager

import torch

from suite.formats.bsr import whole
from suite.formats.dense import too_large
from suite.formats.padded import padded
from suite.formats.two_of_four import PATTERNS, laid_out, unfit
from suite.kernel import Prepared, Refused, kernel

DTYPES = ("bfloat16", "float16")
LACKING = ("compute capability", "architecture mismatch", "not supported")  # torch on chips and builds
CHOSEN = {}  # (shape, dtype) -> algorithm, split of k, and how it is split


def refuse(case, device):
    reasons = [*unfit(case), *too_large(case)]
    if not torch.backends.cusparselt.is_available():
        reasons.append("needs a torch built with cuSPARSELt, which wheels for CUDA on Linux are")
    return reasons


@contextmanager
def refusing():
    """What torch says its build has no kernel for is a refusal, in its words; other errors are errors."""
    try:
        yield
    except RuntimeError as failed:
        said = str(failed).splitlines()[0]
        if not any(words in said for words in LACKING):
            raise
        raise Refused(f"torch does not take it: {said}") from None


def fitted(a, b, kind):
    """What a library takes, by torch's class for it.

    m, k and n in whole multiples; the weight of these sizes; what makes each `b` so wide; the buffer of that.
    """
    (m, k), n = a.shape, b.shape[1]
    least = kind._DTYPE_SHAPE_CONSTRAINTS[b.dtype]
    deep = whole(k, max(least.sparse_min_cols, least.dense_min_rows))  # both are powers of two
    sizes = rows, deep, wide_n = whole(m, least.sparse_min_rows), deep, whole(n, least.dense_min_cols)
    return sizes, laid_out(a, rows, deep), *padded(b, deep, wide_n, "columns")


def chosen(packed, tokens, key):
    """The library's best algorithm for this shape, by its own search."""
    if key not in CHOSEN:
        CHOSEN[key] = torch._C._cusparselt.mm_search(packed, tokens, None, None, None, True)[:3]
    return CHOSEN[key]


@kernel(
    op="spmm",
    on="cuda",
    dtypes=DTYPES,
    patterns=PATTERNS,
    isa=("sm_80",),
    refuse=refuse,
    live_order="columns",
)
def spmm_nm_cusparselt(a, b):
    """cuSPARSELt, the algorithm it finds best."""
    m, n = a.shape[0], b.shape[1]
    sizes, weight, wider, wide = fitted(a, b, torch.sparse.SparseSemiStructuredTensorCUSPARSELT)
    rows, columns, wide_n = sizes
    with refusing():
        packed = torch._cslt_compress(weight)
        best = chosen(packed, wider(b), (sizes, b.dtype))

    def run(b):
        return torch._cslt_sparse_mm(packed, wider(b), None, None, None, True, *best)[:n, :m].t()

    values = rows * columns // 2 * b.element_size()
    return Prepared(
        run,
        executed=rows * columns * wide_n,
        values=values,
        metadata=packed.nbytes - values,
        holds=(packed, wide),
        note={
            "algorithm": best[0],
            "split_k": best[1],
            "cusparselt": torch.backends.cusparselt.version(),
            "padded": "x".join(map(str, sizes)),
        },
        executed_pattern="2:4",
    )
