"""Dense: the whole product by torch.mm, and of it what is stored.

Bad at: every sparsity, that is the point.
"""

import torch

from suite.kernel import Prepared, kernel
from suite.kernels.sparse_step import sparse_step_dense_mm as step


def prepare(mask, x, product):
    (m, k), n = mask.shape, x.shape[1]
    positions = step.Positions(mask)
    whole, out = torch.empty(m, k), torch.empty(mask.nonzeros)

    def run(dy, x):
        positions.gather(product(dy, x.t(), whole), out)
        return out

    return Prepared(run, 2 * m * k * n, whole.nbytes, 0, (whole, out, *positions.holds))


@kernel(op="sddmm", on="cpu", dtypes=("float32",), dense=True, refuse=step.refuse)
def sddmm_dense_mm(mask, dy, x):
    """torch.mm of all of it, then the stored positions."""
    return prepare(mask, x, step.mm)
