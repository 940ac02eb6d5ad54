"""Dense on a GPU: causal attention in full by the code of attention_causal_block_triton.py.

Bad at: every sparsity, that is the point.
"""

from suite.kernel import kernel
from suite.kernels.attention.attention_block_triton import DTYPES, ISA, flash
from suite.kernels.attention.attention_flash_triton import refuse
from suite.kernels.attention.every import every


@kernel(op="attention_causal", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, dense=True)
def attention_causal_flash_triton(a, q, k, v):
    """Flash attention over all blocks up to a query's own, in Triton."""
    return flash.prepare(every(a, q, causal=True), q, k, v, causal=True)
