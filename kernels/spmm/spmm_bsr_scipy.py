"""Block rows in SciPy: one thread, one small dense product a block.

Bad at: patterns without blocks, whose few nonzeros fill many of them. It uses one core and
allocates its answer.
"""

import numpy as np
import scipy.sparse

from suite.formats.bsr import block_of, bsr, unfit
from suite.kernel import Prepared, kernel


@kernel(op="spmm", on="cpu", dtypes=("float32",), refuse=unfit)
def spmm_bsr_scipy(a, b):
    """SciPy's bsr_array @ array."""
    (m, k), n = a.shape, b.shape[1]
    made = bsr(a, *block_of(a.pattern))
    arrays = (made.values.numpy(), made.columns.numpy(), made.starts.numpy())
    held = scipy.sparse.bsr_array(arrays, shape=made.padded)
    wide = np.zeros((made.padded[1] if made.padded[1] > k else 0, n), np.float32)

    def run(b):
        b = b.numpy()
        if len(wide):
            wide[:k] = b
            b = wide
        return (held @ b)[:m]

    return Prepared(
        run,
        executed=2 * made.values.numel() * n,
        values=made.value_bytes,
        metadata=made.metadata_bytes,
        holds=(made.starts, made.columns, made.values, wide),
        note={"algorithm": "x".join(map(str, made.values.shape[1:]))},
    )
