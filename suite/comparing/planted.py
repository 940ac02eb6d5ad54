"""Planted: a kernel twice, the second time a third slower, to see whether a comparison tells them apart.

A plug-in of `suite.comparing.trial` alone.
"""

from time import perf_counter

import torch

from suite.kernel import Prepared, kernel

BY = 0.3


@kernel(op="spmm", dtypes=("float32",))
def spmm_plain(a, b):
    """torch's compressed rows."""
    held = torch.sparse_csr_tensor(a.starts, a.columns, a.values, a.shape)
    return Prepared(lambda b: held @ b, holds=(held,))


@kernel(op="spmm", dtypes=("float32",))
def spmm_plain_slowed(a, b):
    """The same, and then it waits for three tenths of the time that took."""
    made = spmm_plain.prepare(a, b)

    def run(b):
        start = perf_counter()
        answer = made.run(b)
        until = start + (1 + BY) * (perf_counter() - start)
        while perf_counter() < until:
            pass
        return answer

    return Prepared(run, holds=made.holds)
