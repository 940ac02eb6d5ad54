"""Blocks on tensor cores, in Triton: what blocks_triton.py says, forward.

Bad at: blocks of 16 or 32 rows, which load a row of `b` for so few products that L2 is the limit; patterns
without blocks, whose few nonzeros fill many of them; fewer than 16 columns, where lanes are left empty, which
matters little while the blocks are read from memory. In float32 there are no tensor cores.
"""

from suite.cuda.terms import in_triton, no_triton
from suite.formats.bsr import unfit
from suite.kernel import kernel

blocks = in_triton("suite.kernels.spmm.blocks_triton")

IDS = ("pixelfly", "lpvit", "g2gnet")
TILE = (16, 16)  # blocks are made of these


def refuse(case, device):
    return no_triton() + unfit(case, tile=TILE)


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("float32", "bfloat16", "float16"),
    isa=("sm_80",),
    refuse=refuse,
    ids=IDS,
)
def spmm_block_triton(a, b):
    """Block rows in Triton, long ones first."""
    return blocks.prepare(a, b)
