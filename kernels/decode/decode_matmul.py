"""Dense: scores, softmax and answer as three calls of torch, the queries of a group side by side.

What code without a fused routine does; scores are rounded to the operands' dtype in between. Bad at: every
sparsity, that is the point.
"""

from math import sqrt

import torch

from suite.kernel import Prepared, kernel


def attend(q, k, v, mask=None):
    """Of queries [..., r, d]. Whether keys come first decides what a library makes of a thin product."""
    q = q * (1 / sqrt(q.shape[-1]))
    scores = q @ k.mT if q.dtype == torch.bfloat16 else (k @ q.mT).mT.contiguous()
    return (scores if mask is None else scores + mask).softmax(-1) @ v


@kernel(op="decode", on="cpu", dtypes=("float32", "bfloat16"), dense=True)
def decode_matmul(a, k, v, q):
    """Two batched products and a softmax between them."""
    n, h, d = q.shape
    grouped = (n, k.shape[1], h // k.shape[1], d)

    def run(q):
        return attend(q.view(grouped), k, v).view(n, h, d)

    return Prepared(run, values=k.nbytes + v.nbytes, metadata=0, holds=(k, v))
