"""Dense on a GPU: torch's attention by its memory-efficient routine, the only fused one that takes float32.

Heads that share keys are a batch to it, so its answer is copied once. Bad at: every sparsity.
"""

from torch.nn.attention import SDPBackend

from suite.kernel import kernel
from suite.kernels.attention.attention_sdpa_cudnn import HALVES, ISA, prepare

DTYPES = ("float32", *HALVES)


@kernel(op="attention", on="cuda", dtypes=DTYPES, isa=ISA, dense=True)
def attention_sdpa_efficient(a, q, k, v):
    """torch's scaled_dot_product_attention by its memory-efficient routine."""
    return prepare(SDPBackend.EFFICIENT_ATTENTION, q, k, v, causal=False)
