"""Neurons that count, on a GPU: what neurons_triton.py says of the product down.

Bad at: many tokens, which together use everything; low sparsity, where masked loads leave less on its way
than a library's do.
"""

from suite.kernel import kernel

try:
    from suite.kernels.actmm import neurons_triton as neurons
except ModuleNotFoundError as missing:
    if missing.name != "triton":
        raise
    neurons = None

DTYPES = ("float32", "bfloat16", "float16")
ISA = ("sm_80",)


def refuse(case, device):
    return [] if neurons else ["needs triton, which is not installed here: pip install triton"]


@kernel(
    op="actmm",
    on="cuda",
    dtypes=DTYPES,
    isa=ISA,
    refuse=refuse,
    chooses=True,
    ids=("teal", "cats", "polar-sparsity"),
)
def actmm_gather_triton(w, cut, x):
    """The rows of the neurons that count, in Triton, shared out over the processors."""
    return neurons.down(w, cut, x)
