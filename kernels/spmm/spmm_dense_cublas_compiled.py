"""Dense on a GPU under torch.compile, which tries cuBLAS and Triton templates of its own on each shape.

Without the CUDA graphs that "max-autotune" would add: recording calls is the instrument's, for all kernels
alike. Bad at: each shape is compiled anew, for a minute or so at the first call after prepare, so it runs at
the full extent alone. It allocates its answer, and what else it keeps cannot be had.
"""

import torch

from suite import native
from suite.cuda.terms import no_triton
from suite.kernel import Prepared, kernel
from suite.kernels.spmm import spmm_dense_cublas
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full, values_of

MODE = "max-autotune-no-cudagraphs"


def refuse(case, device):
    return [*spmm_dense_cublas.refuse(case, device), *native.missing(), *no_triton()]


def compiled(call):
    """Compiled for one shape alone: of a process's many, a dynamic one would not be the best."""
    torch._dynamo.reset()
    return torch.compile(call, dynamic=False, mode=MODE)


def linear(weight):
    """A linear layer, compiled; a call of it takes and gives columns."""
    m, k = weight.shape
    layer = torch.nn.Linear(k, m, bias=False, device="meta")
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    made = compiled(layer.eval())

    def run(b):
        with torch.no_grad():
            return made(b.t()).t()

    return run


@kernel(
    op="spmm", on="cuda", dtypes=DTYPES, dense=True, refuse=refuse, live_order="columns", extents=("full",)
)
def spmm_dense_cublas_compiled(a, b):
    """torch.compile of a linear layer, max-autotune."""
    in_full()
    weight = a.dense
    note = {"compile": MODE, **values_of(a)}
    work = 2 * weight.numel() * b.shape[1]
    return Prepared(linear(weight), work, weight.nbytes, 0, (weight,), note, hidden=True)
