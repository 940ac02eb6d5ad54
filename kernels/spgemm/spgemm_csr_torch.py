"""Row-wise product in torch: MKL's, with columns out of order; torch then widens its indices to 64 bits.

Bad at: short rows, such as those of meshes. It allocates its answer, and more than once.
"""

import warnings

import torch

from suite.kernel import Prepared, kernel


def refuse(case, device):
    if torch.backends.mkl.is_available():
        return []
    return ["needs a torch built with MKL, which is what x86 Linux and Windows wheels are"]


def wrapped(a):
    """The same memory as torch's compressed rows."""
    return torch.sparse_csr_tensor(a.starts, a.columns, a.values, size=a.shape, check_invariants=False)


@kernel(op="spgemm", on="cpu", refuse=refuse)
def spgemm_csr_torch(a, b):
    """torch CSR times CSR, on MKL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layout is in beta, which is said once
        wrapped(a)

    def run(a, b):
        return wrapped(a) @ wrapped(b)

    return Prepared(run, values=0, metadata=0)
