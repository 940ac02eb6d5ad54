"""SMaT on AMX: rows and columns are permuted so that the nonzeros gather in few tiles.

As spmm_smat.py with blocks of whole tiles (spmm_block_amx.py). A tile takes about the time of ten nonzeros
one by one, which is reckoned from the instructions and not measured. So blocks may be nearly empty, and
meshes and graphs gain too. Bad at: uniformly random patterns, whose nonzeros no order brings together.
"""

from suite import native
from suite.formats.bsr import fills_up
from suite.kernel import kernel
from suite.kernels.spmm.spmm_block_amx import TILE, load
from suite.kernels.spmm.spmm_smat import PATTERNS, gather, multiply

AS_MANY = 10  # nonzeros by themselves take the time of a tile


def refuse(case, device):
    return [*native.missing(), *fills_up(case, *TILE)]


def permuted(library, a, b):
    """The product on these tiles, real or emulated."""
    height, width = TILE
    return multiply(library, gather(a, height, width, AS_MANY / (height * width)), b, across=width)


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("bfloat16",),
    patterns=PATTERNS,
    isa=("amx_tile", "amx_bf16"),
    refuse=refuse,
    ids=("smat",),
)
def spmm_smat_amx(a, b):
    """Rows and columns permuted for AMX tiles, in C++."""
    return permuted(load(), a, b)
