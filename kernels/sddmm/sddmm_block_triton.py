"""Stored blocks on tensor cores, in Triton: what sampled_triton.py says.

Bad at: masks without blocks, of whose products most is thrown away; few columns, where storing the answer at
its places is most of the work. In float32 there are no tensor cores.
"""

from suite.cuda.terms import in_triton
from suite.kernel import kernel
from suite.kernels.spmm import spmm_block_triton as forward

sampled = in_triton("suite.kernels.sddmm.sampled_triton")


@kernel(
    op="sddmm",
    on="cuda",
    dtypes=("float32", "bfloat16", "float16"),
    isa=("sm_80",),
    refuse=forward.refuse,
    ids=forward.IDS,
)
def sddmm_block_triton(mask, dy, x):
    """A product a stored block, in Triton."""
    return sampled.prepare(mask, dy, x)
