"""Dense on a GPU: torch's causal attention by FlashAttention. Bad at: every sparsity."""

from torch.nn.attention import SDPBackend

from suite.kernel import kernel
from suite.kernels.attention.attention_sdpa_cudnn import HALVES, ISA, prepare


@kernel(op="attention_causal", on="cuda", dtypes=HALVES, isa=ISA, dense=True)
def attention_causal_sdpa_flash(a, q, k, v):
    """torch's scaled_dot_product_attention with is_causal, by FlashAttention."""
    return prepare(SDPBackend.FLASH_ATTENTION, q, k, v, causal=True)
