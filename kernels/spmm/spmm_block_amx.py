"""Blocks on AMX: what spmm_block_panels.py does with registers, with tiles of the processor.

A tile of 16 rows by 32 columns is multiplied at sixteen times the rate of registers. What remains is to bring
`b` near: four tiles of sums are worked on at a time, and the packed slab of `b` stays in L2.

Bad at: blocks of 16 rows and many columns, where a tile of `b` that comes from L2 is multiplied once; blocks
that are not made of whole tiles, which are covered by 16 x 32.
"""

from pathlib import Path

from suite import native
from suite.formats.bsr import unfit
from suite.kernel import Refused, kernel
from suite.kernels.spmm.spmm_block_panels import in_blocks

TILE = (16, 32)
FLAGS = ("-mamx-tile", "-mamx-bf16")


def refuse(case, device):
    return [*native.missing(), *unfit(case, tile=TILE)]


def load():
    """The source, if the system lets this process use tiles."""
    library = native.load(Path(__file__).with_suffix(".cpp"), *FLAGS)
    if library.ask():
        raise Refused("the system does not let this process use AMX tiles; Linux does from 5.16 on")
    return library


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("bfloat16",),
    isa=("amx_tile", "amx_bf16"),
    refuse=refuse,
    ids=("pixelfly", "lpvit", "g2gnet"),
)
def spmm_block_amx(a, b):
    """Blocks of AMX tiles against packed panels of b, in C++."""
    return in_blocks(load(), a, b, TILE, across=TILE[1])
