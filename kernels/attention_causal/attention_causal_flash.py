"""Dense: causal attention in full by the code that attention_causal_block.py runs on kept blocks.

Bad at: every sparsity, that is the point.
"""

from suite import native
from suite.kernel import kernel
from suite.kernels.attention.attention_block import DTYPES, SOURCE, prepare, refuse


@kernel(op="attention_causal", on="cpu", dtypes=DTYPES, refuse=refuse, dense=True)
def attention_causal_flash(a, q, k, v):
    """Flash attention over all blocks up to a query's own, in C++."""
    return prepare(native.load(SOURCE), a, q, k, causal=True)
