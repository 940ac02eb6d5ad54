"""Blocks on a GPU under a causal mask: of its own block, a tile of queries looks at keys up to its last.

Bad at: what attention_block_triton.py is bad at.
"""

from suite.kernel import kernel
from suite.kernels.attention.attention_block_triton import DTYPES, ISA, flash, refuse


@kernel(op="attention_causal", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, chooses=True)
def attention_causal_block_triton(a, q, k, v):
    """Flash attention over the blocks a causal mask keeps, in Triton."""
    return flash.prepare(a, q, k, v, causal=True)
