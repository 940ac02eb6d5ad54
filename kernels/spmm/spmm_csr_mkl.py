"""Compressed rows in an MKL of one's own choice, by way of sparse_dot_mkl: as SciPy's users reach it.

torch carries an MKL that cannot be exchanged, and calls the same function. Here it is the one installed, on
the OpenMP runtime that torch has brought along: another one's threads would wait, spinning, on the cores of
the kernels that come next. An extra, `sparsemark[mkl]`, for it takes most of a gigabyte.

Bad at: many columns, as torch is.
"""

import os
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

from suite import native
from suite.kernel import Prepared, Refused, kernel
from suite.sparse import INT32_MOST

INSTALLED = sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*"))  # where pip and conda both put it


def refuse(case, device):
    if find_spec("sparse_dot_mkl") and INSTALLED:
        return []
    return ["needs sparse_dot_mkl and mkl, which are not installed here: pip install sparse_dot_mkl mkl"]


@cache
def library():
    """sparse_dot_mkl, told where MKL lies, that its integers have 32 bits, and whose threads to use."""
    gnu = any("libgomp" in name for name in native.runtimes())
    os.environ.setdefault("MKL_RT", str(INSTALLED[-1]))
    os.environ.setdefault("MKL_INTERFACE_LAYER", "LP64")
    os.environ.setdefault("MKL_THREADING_LAYER", "GNU" if gnu else "INTEL")
    return import_module("sparse_dot_mkl")


@kernel(op="spmm", on="cpu", dtypes=("float32",), refuse=refuse)
def spmm_csr_mkl(a, b):
    """sparse_dot_mkl on the MKL that is installed."""
    if a.nonzeros > INT32_MOST:
        raise Refused(f"{a.nonzeros} nonzeros, 32-bit indices end at {INT32_MOST}")
    try:
        mkl = library()
    except (ImportError, OSError) as failed:
        raise Refused(f"needs MKL, which does not load here: {failed}") from None
    mkl.mkl_set_num_threads(torch.get_num_threads())
    held, n = a.scipy(), b.shape[1]
    out = b.new_empty(a.shape[0], n)
    array = out.numpy()

    def run(b):
        mkl.dot_product_mkl(held, b.numpy(), out=array, out_scalar=0.0)
        return out

    return Prepared(
        run,
        executed=2 * a.nonzeros * n,
        values=a.values.nbytes,
        metadata=a.starts.nbytes + a.columns.nbytes,
        holds=(a.starts, a.columns, a.values, out),
        note={"mkl": ".".join(map(str, mkl.mkl_get_version()[:3]))},
    )
