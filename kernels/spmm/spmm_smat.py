"""SMaT: rows and columns are permuted so that the nonzeros gather in few blocks, which are multiplied whole.

Rows of the answer are stored where they belong and rows of `b` are packed in the order of the columns, so the
permutation takes no time in a call. Nonzeros of blocks that are too empty are multiplied one by one, in the
same call. The idea is that of Okanovic et al., "High Performance Unstructured SpMM Computation Using Tensor
Cores", SC 2024; here registers multiply the blocks, as in spmm_block_panels.py.

A nonzero by itself takes 2.5 times as long as a position of a block, so a block must be 40 % full, or 20 %
where pairs of bfloat16 numbers are multiplied. Bad at: patterns in which no blocks are hidden: random ones,
most graphs and meshes. Where floats are multiplied, those are left to compressed rows, as they came.
"""

from ctypes import CDLL
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from suite import native
from suite.formats.bsr import USUAL, Bsr, bsr, fills_up, split
from suite.formats.permuted import Order, gathered, permuted
from suite.kernel import Prepared, kernel
from suite.kernels.spmm import spmm_block_panels
from suite.kernels.spmm.spmm_block_panels import prepare
from suite.kernels.spmm.spmm_csr_tiled import spmm_csr_tiled
from suite.patterns.banded import Banded
from suite.patterns.given import Given
from suite.patterns.planted import Planted
from suite.patterns.rmat import Rmat
from suite.patterns.stencil import Stencil
from suite.patterns.unstructured import Unstructured
from suite.sparse import Sparse

PATTERNS = (Given, Planted, Rmat, Banded, Stencil, Unstructured)
SMALLER = (8, 8)  # than the paper's blocks; fuller, where those have no sharp edges
ALONE = 0.4  # rate of multiplying a nonzero by itself, that of blocks being 1; measured
IN_ROWS = 0.6  # rate of compressed rows in a kernel of their own; measured
LESS = 0.9  # of the work is what smaller blocks have to make do with to be taken


@dataclass(frozen=True, eq=False)
class Gathered:
    """A matrix in another order: the blocks that are worth it, and the nonzeros of all others."""

    order: Order
    blocks: Bsr
    filled: int  # nonzeros in blocks
    singles: Sparse
    work: float  # positions multiplied, one of the singles counting as so many as take its time
    seconds: float  # that the order took

    @property
    def note(self) -> dict[str, str]:
        return {
            "blocks": f"{self.order.before}->{self.order.blocks}",
            "kept": f"{len(self.blocks.columns)}",
            "full": f"{self.filled / max(1, self.blocks.values.numel()):.0%}",
            "left": f"{self.singles.nonzeros / max(1, self.filled + self.singles.nonzeros):.0%}",
            "permuting": f"{self.seconds:.2g}s",
        }


def gather(a: Sparse, height: int, width: int, full: float) -> Gathered:
    """`a` in blocks of this shape, those kept of which so much is nonzero."""
    began = perf_counter()
    order = gathered(a, height, width)
    seconds = perf_counter() - began
    dense, singles = split(permuted(a, order), height, width, ceil(full * height * width))
    blocks = bsr(dense, height, width)
    work = blocks.values.numel() + singles.nonzeros / full
    return Gathered(order, blocks, dense.nonzeros, singles, work, seconds)


def gather_well(a: Sparse, full: float) -> Gathered:
    """`a` in blocks of the paper's shape, or in smaller ones where those make clearly less work."""
    found = gather(a, *USUAL, full)
    if LESS * found.work <= a.nonzeros:
        return found
    smaller = gather(a, *SMALLER, full)
    better = smaller if smaller.work < LESS * found.work else found
    return replace(better, seconds=found.seconds + smaller.seconds)


def multiply(library: CDLL, found: Gathered, b: Tensor, **how) -> Prepared:
    """The product as the blocks' kernel computes it, and in its note what was found."""
    order = found.order
    made = prepare(library, found.blocks, found.singles, b, order.rows, order.columns, **how)
    return replace(made, note=made.note | found.note)


def refuse(case, device):
    return [*native.missing(), *fills_up(case, *USUAL)]


@kernel(op="spmm", on="cpu", dtypes=("float32", "bfloat16"), patterns=PATTERNS, refuse=refuse, ids=("smat",))
def spmm_smat(a, b):
    """Rows and columns permuted for blocks, in C++."""
    library = native.load(Path(spmm_block_panels.__file__).with_suffix(".cpp"))
    pairs = b.dtype == torch.bfloat16 and library.bfloat16s() == 2
    found = gather_well(a, ALONE / 2 if pairs else ALONE)
    if found.work > a.nonzeros / IN_ROWS and not pairs:
        made = spmm_csr_tiled.prepare(a, b)
        return replace(made, note=made.note | found.note | {"kept": "0", "full": "0%", "left": "100%"})
    return multiply(library, found, b)
