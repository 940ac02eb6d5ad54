"""Dense: torch's causal attention. It knows which keys come later and passes over most of them."""

from suite.kernel import kernel
from suite.kernels.attention.attention_sdpa import DTYPES, prepare


@kernel(op="attention_causal", on="cpu", dtypes=DTYPES, dense=True)
def attention_causal_sdpa(a, q, k, v):
    """torch's scaled_dot_product_attention with is_causal."""
    return prepare(q, k, causal=True)
