"""Dense: the layer of `moa_dense_mm`, its attention by the C++ of `attention_causal_flash`.

Queries are copied head by head for it. Bad at: every sparsity, that is the point.
"""

import torch

from suite.kernel import Prepared, kernel
from suite.kernels.moa import moa_dense_mm as layer
from suite.kernels.moa.flash import DIVIDES, flash
from suite.kernels.moa.flash import refuse as unfit


def refuse(case, device):
    return [*unfit(case, device), *layer.refuse(case, device)]


@kernel(op="moa", on="cpu", dtypes=("float32", "bfloat16"), divides=DIVIDES, refuse=refuse, dense=True)
def moa_dense_flash(route, wq, wo, x, logits, k, v):
    """Every expert on every token, in two products around flash attention in C++."""
    heads, n, f = k.shape
    own = torch.empty(heads, len(wq), n, f, dtype=x.dtype)
    flat = flash(route, own.view(-1, n, f), k)

    def attend(q, k, v):
        own.copy_(q.permute(2, 1, 0, 3))
        return flat.run(own.view(-1, n, f), k, v).view(own.shape).permute(2, 1, 0, 3)

    attention = Prepared(attend, executed=flat.executed, holds=(own, *flat.holds))
    return layer.prepare(route, wq, wo, x, k, attention)
