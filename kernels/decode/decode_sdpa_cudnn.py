"""Dense on a GPU: torch's attention with one query a head, by cuDNN.

Heads that share keys are laid out as queries of one head, so that keys are read once for all of them. Each of
torch's routines is a rival here, and what it does not take it says itself. Bad at: every sparsity.
"""

from dataclasses import replace

from torch.nn.attention import SDPBackend

from suite.kernel import kernel
from suite.kernels.attention import attention_sdpa_cudnn as attention
from suite.kernels.attention.attention_sdpa_cudnn import HALVES, ISA


def prepare(routine, k, v, q):
    """Attention of q [n, h, d] to all of a cache by one of torch's routines."""
    grouped = (-1, q.shape[1] // k.shape[1], q.shape[2])
    keys, values = k.flatten(0, 1), v.flatten(0, 1)
    made = attention.prepare(routine, q.view(grouped), keys, values, causal=False)

    def run(q):
        return made.run(q.view(grouped), keys, values).reshape(q.shape)

    return replace(made, run=run, values=k.nbytes + v.nbytes, holds=(k, v))


@kernel(op="decode", on="cuda", dtypes=HALVES, isa=ISA, dense=True)
def decode_sdpa_cudnn(a, k, v, q):
    """torch's scaled_dot_product_attention by cuDNN, the queries of a group side by side."""
    return prepare(SDPBackend.CUDNN_ATTENTION, k, v, q)
