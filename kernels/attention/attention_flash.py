"""Dense: attention in full by the code that attention_block.py runs on kept blocks.

The ratio of the two is what leaving blocks out is worth. Bad at: every sparsity, that is the point.
"""

from suite import native
from suite.kernel import kernel
from suite.kernels.attention.attention_block import DTYPES, SOURCE, prepare, refuse


@kernel(op="attention", on="cpu", dtypes=DTYPES, refuse=refuse, dense=True)
def attention_flash(a, q, k, v):
    """Flash attention over all blocks, in C++."""
    return prepare(native.load(SOURCE), a, q, k, causal=False)
