"""Dense: a linear layer under torch.compile with its weight frozen, which packs it and picks a template.

Bad at: each shape is compiled anew, in seconds, at the first call after prepare, so it runs at the full
extent alone. What freezing packs is the compiler's own and not to be had: instead of it the whole caches are
emptied.
"""

import torch

from suite import native
from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


def refuse(case, device):
    return too_large(case) + native.missing()


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=refuse,
    live_order="columns",
    extents=("full",),
)
def spmm_dense_compiled(a, b):
    """torch.compile of a frozen linear layer."""
    weight = a.dense
    (m, k), n = a.shape, b.shape[1]
    layer = torch.nn.Linear(k, m, bias=False, device="meta")
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    # Of a process's many shapes, each is compiled for itself: a dynamic one would not be the best.
    torch._dynamo.reset()
    compiled = torch.compile(layer.eval(), dynamic=False, options={"freezing": True})

    def run(b):
        with torch.no_grad():
            return compiled(b.t()).t()

    note = {"compile": "inductor, frozen weight, static shape"}
    return Prepared(run, 2 * weight.numel() * n, weight.nbytes, 0, (weight,), note, hidden=True)
