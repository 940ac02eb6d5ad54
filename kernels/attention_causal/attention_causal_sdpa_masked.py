"""Masked: torch's attention with later keys and left-out blocks at minus infinity. Bad at: every sparsity."""

from suite.kernel import kernel
from suite.kernels.attention.attention_sdpa_masked import prepare


@kernel(op="attention_causal", on="cpu", dtypes=("float32", "bfloat16"), execution="masked")
def attention_causal_sdpa_masked(a, q, k, v):
    """torch's scaled_dot_product_attention under an explicit mask."""
    return prepare(a, q, k, causal=True)
