"""Neurons that count, on a GPU: what neurons_triton.py says of the product up.

Bad at: many tokens, which together want everything; low sparsity, where masked loads leave less on its way
than a library's do.
"""

from suite.cuda.terms import no_triton
from suite.kernel import kernel
from suite.kernels.actmm.actmm_gather_triton import DTYPES, ISA, neurons


@kernel(
    op="actmm_up",
    on="cuda",
    dtypes=DTYPES,
    isa=ISA,
    refuse=no_triton,
    chooses=True,
    ids=("cats", "polar-sparsity"),
)
def actmm_up_gather_triton(w, cut, x, g):
    """The rows of the neurons that count times the activations, in Triton."""
    return neurons.up(w, cut, x, g)
