"""Dense: the cache before it was pruned, by the code that decode_pruned_bitmap.py runs on spread rows.

The ratio of the two is what pruning is worth. Bad at: every sparsity, that is the point.
"""

from suite import native
from suite.kernel import kernel
from suite.kernels.decode.decode_gather import DTYPES, SOURCE, refuse, stream


@kernel(op="decode_pruned", on="cpu", dtypes=DTYPES, refuse=refuse, dense=True)
def decode_pruned_stream(a, k, v, q):
    """Attention of one query a head over all of its cache, in C++."""
    return stream(native.load(SOURCE), k, v, q)
