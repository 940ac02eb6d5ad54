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
SHAPES = (USUAL, (8, 8))  # the paper's; and a smaller one, which is fuller where blocks have no sharp edges
ALONE = 0.4  # rate of multiplying a nonzero by itself, that of blocks being 1; measured
IN_ROWS = 0.6  # rate of compressed rows in a kernel of their own; measured
SHARP = 0.9  # of what is multiplied is nonzero: no other shape of blocks is worth trying


@dataclass(frozen=True, eq=False)
class Gathered:
    """A matrix in another order: the blocks that are worth it, and the nonzeros of all others."""

    order: Order
    blocks: Bsr
    filled: int  # nonzeros in blocks
    singles: Sparse
    seconds: float  # that the order took

    def work(self, full: float) -> float:
        """Positions multiplied; one of the singles takes the time of 1 / full in a block."""
        return self.blocks.values.numel() + self.singles.nonzeros / full

    @property
    def left(self) -> float:
        """The share of nonzeros in no block."""
        return self.singles.nonzeros / max(1, self.filled + self.singles.nonzeros)

    @property
    def note(self) -> dict[str, str]:
        return {
            "blocks": f"{self.order.before}->{self.order.blocks}",
            "kept": f"{len(self.blocks.columns)}",
            "full": f"{self.filled / max(1, self.blocks.values.numel()):.0%}",
            "left": f"{self.left:.0%}",
            "permuting": f"{self.seconds:.2g}s",
        }


def gather(a: Sparse, shapes: tuple[tuple[int, int], ...], full: float) -> Gathered:
    """`a` in the shape of blocks that makes the least work, those kept of which so much is nonzero."""
    found = []
    for height, width in shapes:
        began = perf_counter()
        order = gathered(a, height, width)
        seconds = perf_counter() - began
        dense, singles = split(permuted(a, order), height, width, ceil(full * height * width))
        found.append(Gathered(order, bsr(dense, height, width), dense.nonzeros, singles, seconds))
        if found[-1].work(full) * SHARP <= a.nonzeros:
            break
    best = min(found, key=lambda one: one.work(full))
    return replace(best, seconds=sum(one.seconds for one in found))


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
    found = gather(a, SHAPES, ALONE / 2 if pairs else ALONE)
    if found.work(ALONE) > a.nonzeros / IN_ROWS and not pairs:
        made = spmm_csr_tiled.prepare(a, b)
        return replace(made, note=made.note | found.note | {"kept": "0", "full": "0%", "left": "100%"})
    return multiply(library, found, b)
