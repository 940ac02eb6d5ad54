"""Dense: attention in full by the code that attention_block_amx.py runs on kept blocks.

Bad at: every sparsity, that is the point.
"""

from suite.kernel import kernel
from suite.kernels.attention.attention_block import prepare
from suite.kernels.attention.attention_block_amx import ISA, load, refuse


@kernel(op="attention", on="cpu", dtypes=("bfloat16",), isa=ISA, refuse=refuse, dense=True)
def attention_flash_amx(a, q, k, v):
    """Flash attention over all blocks, on AMX tiles, in C++."""
    return prepare(load(), a, q, k, causal=False)
