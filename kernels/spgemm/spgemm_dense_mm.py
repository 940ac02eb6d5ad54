"""Dense: both matrices with their zeros in place, which is how whoever multiplies so has them from the start.

They are therefore filled in before the clock starts. Bad at: large ones, of which the product costs m k p.
"""

import torch

from suite.formats.dense import MOST, gib
from suite.kernel import Prepared, kernel

MOST_WORK = 2**38  # FLOPs: a second or two on a processor of today


def refuse(case, device):
    m, k, p = (case[size] for size in "mkp")
    size = max(m * k, k * p, m * p) * case.torch_dtype.itemsize
    if size > MOST:
        return [f"needs the dense form, which takes {gib(size)}; the limit is {gib(MOST)}"]
    if 2 * m * k * p > MOST_WORK:
        return [f"the dense product takes {2e-9 * m * k * p:,.0f} GFLOP; the limit is {MOST_WORK / 1e9:,.0f}"]
    return []


@kernel(op="spgemm", on="cpu", dense=True, refuse=refuse)
def spgemm_dense_mm(a, b):
    """torch.mm of both in full."""
    (m, k), p = a.shape, b.shape[1]
    out = torch.empty(m, p, dtype=a.dtype)
    forms = [a.dense, b.dense]

    def run(a, b):
        forms[:] = a.dense, b.dense
        return torch.mm(*forms, out=out)

    return Prepared(run, 2 * m * k * p, forms[0].nbytes + forms[1].nbytes, 0, (forms, out))
