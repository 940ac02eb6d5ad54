"""Blocks under a causal mask, and of those the values that matter. Bad at: as attention_block_filtered.py."""

from suite import native
from suite.kernel import kernel
from suite.kernels.attention.attention_block import DTYPES, SOURCE, refuse
from suite.kernels.attention.attention_block_filtered import FLAG, prepare


@kernel(
    op="attention_causal",
    on="cpu",
    dtypes=DTYPES,
    refuse=refuse,
    chooses=True,
    ids=("spargeattn",),
    extents=("full",),
)
def attention_causal_block_filtered(a, q, k, v):
    """Causal flash attention over kept blocks, without the values that weigh nothing, in C++."""
    return prepare(native.load(SOURCE, FLAG), a, q, k, causal=True)
