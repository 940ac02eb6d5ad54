"""Neurons that count, on a GPU: what neurons_triton.py says of the product down.

Bad at: many tokens, which together use everything; low sparsity, where masked loads leave less on its way
than a library's do.
"""

from suite.cuda.terms import in_triton, no_triton
from suite.kernel import kernel

neurons = in_triton("suite.kernels.actmm.neurons_triton")

DTYPES = ("float32", "bfloat16", "float16")
ISA = ("sm_80",)


@kernel(
    op="actmm",
    on="cuda",
    dtypes=DTYPES,
    isa=ISA,
    refuse=no_triton,
    chooses=True,
    ids=("teal", "cats", "polar-sparsity"),
)
def actmm_gather_triton(w, cut, x):
    """The rows of the neurons that count, in Triton, shared out over the processors."""
    return neurons.down(w, cut, x)
