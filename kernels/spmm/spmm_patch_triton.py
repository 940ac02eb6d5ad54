"""Dense and 2:4 tiles on tensor cores, in Triton: what patch_triton.py says.

Bad at: what that is bad at.
"""

from suite.cuda.terms import in_triton, no_triton
from suite.formats.dense import too_large
from suite.kernel import kernel
from suite.patterns.patch import Patch

patch_triton = in_triton("suite.kernels.spmm.patch_triton")

SIDE = 16  # of a tile, or a multiple: what tensor cores take


def refuse(case, device):
    said, pattern = [*no_triton(), *too_large(case)], case.pattern
    if pattern.rows % SIDE or pattern.columns % SIDE:
        said.append(f"needs tiles of {SIDE} x {SIDE} and multiples, got {pattern.rows} x {pattern.columns}")
    return said


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("float32", "bfloat16", "float16"),
    patterns=(Patch,),
    isa=("sm_80",),
    refuse=refuse,
    ids=("patch",),
)
def spmm_patch_triton(a, b):
    """Tiles that are whole, then tiles that are spread in registers, in Triton."""
    return patch_triton.prepare(a, b)
