"""Stored positions in column tiles, in C++: a row of dy in registers meets the rows of x in turn.

Products are summed across four positions at a time; the rows of x that a tile meets stay in L1 or L2. Bad at:
few columns, where summing across is most of the work; masks that are more than half full.
"""

import torch

from suite.kernel import Prepared, kernel
from suite.kernels.sparse_step import sparse_step_tiled as step


def prepare(mask, x, library):
    (m, k), n = mask.shape, x.shape[1]
    whole = step.filled(n, library)
    tiles = step.Tiles(library, mask.starts, mask.columns, (m, k), whole)
    left, right = step.Packed(library, m, n), step.Packed(library, k, n)
    out = torch.empty(mask.nonzeros)

    def run(dy, x):
        tiles.sample(left(dy), right(x), out)
        return out

    return Prepared(
        run,
        executed=2 * tiles.sampled * whole,
        values=0,
        metadata=tiles.metadata_bytes,
        holds=(*tiles.holds, *left.holds, *right.holds, out),
        note={"tiles": tiles.count, "lanes": library.lanes()},
    )


@kernel(op="sddmm", on="cpu", dtypes=("float32",), refuse=step.refuse, ids=("sparseprop", "nerva"))
def sddmm_tiled(mask, dy, x):
    """Stored positions in column tiles against rows of x in cache, in C++."""
    return prepare(mask, x, step.compiled())
