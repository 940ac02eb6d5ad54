"""Blocks on tensor cores, in Triton: what blocks_triton.py says, forward.

Bad at: blocks of 16 or 32 rows, which load a row of `b` for so few products that L2 is the limit; patterns
without blocks, whose few nonzeros fill many of them; fewer than 16 columns, where lanes are left empty, which
matters little while the blocks are read from memory. In float32 there are no tensor cores.
"""

from suite.formats.bsr import unfit
from suite.kernel import kernel

try:
    from suite.kernels.spmm import blocks_triton as blocks
except ModuleNotFoundError as missing:
    if missing.name != "triton":
        raise
    blocks = None

IDS = ("pixelfly", "lpvit", "g2gnet")
TILE = (16, 16)  # blocks are made of these


def absent():
    """What is missing, in words."""
    return [] if blocks else ["needs triton, which is not installed here: pip install triton"]


def refuse(case, device):
    return absent() + unfit(case, tile=TILE)


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
