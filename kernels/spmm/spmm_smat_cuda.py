"""SMaT on tensor cores: rows and columns permuted so that the nonzeros gather in few 16 x 16 blocks.

Several warps share a block over a tile of columns, copies run three steps ahead, sums are in float32. A block
names the rows of `b` that it meets, and a row of blocks the rows of the answer: the permutation takes no time
in a call, and no map of blocks is kept. Long rows of blocks are cut, and longer pieces begin first.

The idea is that of Okanovic et al., "High Performance Unstructured SpMM Computation Using Tensor Cores", SC
2024. Bad at: uniformly random patterns, whose blocks are nearly empty; many columns and many blocks, where 16
rows for each row of `b` that is loaded keep tensor cores waiting.
"""

from dataclasses import replace
from pathlib import Path

from suite import native
from suite.cuda import nvrtc
from suite.formats.bsr import USUAL, bsr, fills_up
from suite.formats.fragments import fragments
from suite.formats.permuted import gathered, permuted
from suite.kernel import kernel
from suite.kernels.spmm import blocks_cuda
from suite.kernels.spmm.spmm_smat import PATTERNS

SOURCE = Path(__file__).with_suffix(".cu")
TURNS = {8: 4, 16: 4, 32: 2, 64: 2, 128: 1}  # columns of a tile -> warps that take turns, as in the source
HIGH, WIDE = USUAL


def shared_bytes(columns):
    """Of a block with a tile so wide."""
    return blocks_cuda.shared_bytes(HIGH, columns, TURNS[columns])


def refuse(case, device):
    return [*nvrtc.missing(), *native.missing(), *fills_up(case, *USUAL)]


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("bfloat16", "float16"),
    patterns=PATTERNS,
    isa=("sm_80",),
    refuse=refuse,
    ids=("smat",),
)
def spmm_smat_cuda(a, b):
    """Rows and columns permuted for 16x16 blocks, which tensor cores multiply, in CUDA C++."""
    a = a.to("cpu")
    order = gathered(a, HIGH, WIDE)
    blocks = bsr(permuted(a, order), HIGH, WIDE)
    down, right = blocks.padded
    sources = blocks_cuda.extended(order.columns, right).view(-1, WIDE)[blocks.columns.long()]
    targets = blocks_cuda.extended(order.rows, down).view(-1, HIGH)
    values = fragments(blocks.values)
    made = blocks_cuda.prepare(SOURCE, blocks.starts, values, sources, targets, a.shape[0], b, TURNS)
    full = f"{a.nonzeros / max(1, values.numel()):.0%}"
    return replace(made, note=made.note | {"blocks": f"{order.before}->{order.blocks}", "full": full})
