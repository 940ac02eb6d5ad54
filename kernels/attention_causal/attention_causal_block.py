"""Blocks in C++ under a causal mask: of its own block, a panel of queries looks at keys up to its last query.

Bad at: what attention_block.py is bad at.
"""

from suite import native
from suite.kernel import kernel
from suite.kernels.attention.attention_block import DTYPES, SOURCE, prepare, refuse


@kernel(op="attention_causal", on="cpu", dtypes=DTYPES, refuse=refuse, chooses=True)
def attention_causal_block(a, q, k, v):
    """Flash attention over the blocks a causal mask keeps, in C++."""
    return prepare(native.load(SOURCE), a, q, k, causal=True)
