"""Dense: three whole products, as in `sparse_step_dense_mm`, by oneDNN as a linear layer computes them.

Where torch.mm is MKL's and the processor is of another maker, this takes half the time. Bad at: nothing in
particular; which library is faster is theirs to know. It allocates its answers.
"""

import torch

from suite.kernel import kernel
from suite.kernels.sparse_step import sparse_step_dense_mm as dense


def there():
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def refuse(case, device):
    lacks = [] if there() else ["needs a torch built with oneDNN; this one is not"]
    return [*dense.refuse(case, device), *lacks]


def onednn(left, right, out):
    return torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")


@kernel(op="sparse_step", on="cpu", dtypes=("float32",), dense=True, refuse=refuse, live_order="columns")
def sparse_step_dense_onednn(pattern, values, x, dy):
    """Three dense products by oneDNN."""
    return dense.prepare(pattern, x, onednn)
