"""Dense on a GPU: torch's causal attention by its memory-efficient routine. Bad at: every sparsity."""

from torch.nn.attention import SDPBackend

from suite.kernel import kernel
from suite.kernels.attention.attention_sdpa_cudnn import ISA, prepare
from suite.kernels.attention.attention_sdpa_efficient import DTYPES


@kernel(op="attention_causal", on="cuda", dtypes=DTYPES, isa=ISA, dense=True)
def attention_causal_sdpa_efficient(a, q, k, v):
    """torch's scaled_dot_product_attention with is_causal, by its memory-efficient routine."""
    return prepare(SDPBackend.EFFICIENT_ATTENTION, q, k, v, causal=True)
