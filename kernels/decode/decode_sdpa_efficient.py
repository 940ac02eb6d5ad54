"""Dense on a GPU: torch's attention, one query a head, by its memory-efficient routine.

Bad at: every sparsity.
"""

from torch.nn.attention import SDPBackend

from suite.kernel import kernel
from suite.kernels.decode.decode_sdpa_cudnn import HALVES, ISA, prepare


@kernel(op="decode", on="cuda", dtypes=HALVES, isa=ISA, dense=True)
def decode_sdpa_efficient(a, k, v, q):
    """torch's scaled_dot_product_attention by the memory-efficient routine."""
    return prepare(SDPBackend.EFFICIENT_ATTENTION, k, v, q)
