"""Blocks on AMX under a causal mask. Bad at: what attention_block_amx.py is bad at."""

from suite.kernel import kernel
from suite.kernels.attention.attention_block import prepare
from suite.kernels.attention.attention_block_amx import ISA, load, refuse


@kernel(op="attention_causal", on="cpu", dtypes=("bfloat16",), isa=ISA, refuse=refuse, chooses=True)
def attention_causal_block_amx(a, q, k, v):
    """Flash attention over the blocks a causal mask keeps, on AMX tiles, in C++."""
    return prepare(load(), a, q, k, causal=True)
