"""FlexAttention on a GPU under a causal mask of blocks. Bad at: what attention_flex_gpu.py is bad at."""

from suite.kernel import kernel
from suite.kernels.attention.attention_flex_gpu import DTYPES, ISA, TILE, prepare, refuse


@kernel(
    op="attention_causal",
    on="cuda",
    dtypes=DTYPES,
    isa=ISA,
    divides={"b": TILE},
    refuse=refuse,
    extents=("full",),
)
def attention_causal_flex_gpu(a, q, k, v):
    """torch's flex_attention, compiled for a causal BlockMask on a GPU."""
    return prepare(a, q, k, causal=True)
