"""Dense: the cache before it was pruned, in three calls of torch.

Bad at: every sparsity, that is the point.
"""

from suite.kernel import kernel
from suite.kernels.decode.decode_matmul import decode_matmul


@kernel(op="decode_pruned", on="cpu", dtypes=decode_matmul.dtypes, dense=True)
def decode_pruned_matmul(a, k, v, q):
    """Two batched products and a softmax between them."""
    return decode_matmul.prepare(a, k, v, q)
