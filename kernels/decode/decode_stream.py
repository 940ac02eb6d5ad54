"""Dense: the whole cache by the code that decode_gather.py runs on kept pages, at the speed of memory.

The ratio of the two is what leaving pages out is worth. Bad at: every sparsity, that is the point.
"""

from suite import native
from suite.kernel import kernel
from suite.kernels.decode.decode_gather import DTYPES, SOURCE, refuse, stream


@kernel(op="decode", on="cpu", dtypes=DTYPES, refuse=refuse, dense=True)
def decode_stream(a, k, v, q):
    """Attention of one query a head over all of its cache, in C++."""
    return stream(native.load(SOURCE), k, v, q)
