"""Dense on a GPU: the whole cache by the code that decode_gather_triton.py runs on kept pages.

The ratio of the two is what leaving pages out is worth. Bad at: every sparsity, that is the point.
"""

from suite.kernel import kernel
from suite.kernels.decode.decode_gather_triton import DTYPES, ISA, pages, refuse


@kernel(op="decode", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, dense=True)
def decode_stream_triton(a, k, v, q):
    """Flash decoding over all of the cache, in Triton."""
    return pages.prepare(None, k, v, q)
