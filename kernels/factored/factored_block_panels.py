"""Monarch factors in C++: each a product of `spmm_block_panels`, with the permutations in its packing.

Rows of what is packed, and rows of the answer, may stand in any order there, so to permute costs nothing.
Bad at: blocks whose sides are no multiples of eight, which it does not take; fewer than four columns.
"""

from pathlib import Path

import numpy as np
import torch

from suite import native
from suite.formats.bsr import Bsr
from suite.formats.monarch import blocks
from suite.kernel import Prepared, kernel
from suite.kernels.spmm import spmm_block_panels as panels
from suite.patterns.monarch import Monarch
from suite.sparse import from_positions

SOURCE = Path(panels.__file__).with_suffix(".cpp")


def refuse(case, device):
    tall, wide = panels.TILE
    cut, groups = case.pattern.blocks, case.pattern.groups
    said = native.missing()
    for name, size, parts, unit in (
        ("rows", case["k"], cut, tall),
        ("rows", case["m"], groups, tall),
        ("columns", case["k"], cut, wide),
        ("columns", case["k"], groups, wide),
    ):
        if size // parts % unit:
            said.append(f"needs blocks whose {name} are a multiple of {unit}, got {size // parts}")
    return list(dict.fromkeys(said))


def on_diagonal(values, m):
    """Blocks [count, rows, columns] one below and right of another; m rows."""
    count, _, width = values.shape
    each = torch.arange(count + 1, dtype=torch.int32)
    return Bsr(each, each[:-1], values, (m, count * width))


@kernel(
    op="factored",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    patterns=(Monarch,),
    refuse=refuse,
    ids=("monarch",),
)
def factored_block_panels(a, x):
    """Blocks against packed panels, in C++, factor after factor."""
    library, held, (m, k) = native.load(SOURCE), blocks(a), (a.shape[0] - a.shape[1], a.shape[1])
    none = from_positions(np.zeros(k + 1), np.empty(0), a.values[:0], (k, k), a.pattern)
    empty = from_positions(np.zeros(m + 1), np.empty(0), a.values[:0], (m, k), a.pattern)
    each, groups = np.arange(k), a.pattern.groups
    dealt = each.reshape(a.pattern.blocks, groups, held.rank).swapaxes(0, 1).reshape(-1)
    answer = np.arange(m).reshape(-1, groups).T.reshape(-1)
    first = panels.prepare(library, on_diagonal(held.right, k), none, x, each, each)
    second = panels.prepare(library, on_diagonal(held.left, m), empty, x, answer, dealt)

    def run(x):
        return second.run(first.run(x))

    return Prepared(
        run,
        executed=first.executed + second.executed,
        values=first.values + second.values,
        metadata=first.metadata + second.metadata,
        holds=(first.holds, second.holds),
        note={"first": first.note["algorithm"], "second": second.note["algorithm"]},
    )
