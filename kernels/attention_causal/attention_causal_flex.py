"""FlexAttention under a causal mask of blocks. Bad at: the first call of a shape, which is compiled."""

from suite.kernel import kernel
from suite.kernels.attention.attention_flex import prepare, refuse


@kernel(op="attention_causal", on="cpu", dtypes=("float32", "bfloat16"), refuse=refuse, extents=("full",))
def attention_causal_flex(a, q, k, v):
    """torch's flex_attention, compiled for a causal BlockMask."""
    return prepare(a, q, k, causal=True)
