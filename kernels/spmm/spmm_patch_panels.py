"""Dense and 2:4 tiles in C++: dense ones as blocks, what 2:4 keeps as compressed rows, added up.

A processor has no product of 2:4: of a halved tile its nonzeros are multiplied as any others are, by
`spmm_csr_tiled`, and the dense tiles by `spmm_block_panels`. Each answers for its part of the weight. Bad at:
few columns, for both read all of `b`. In 16 bits it would round twice, so it is float32 alone.
"""

from dataclasses import replace

from suite import native
from suite.formats.bsr import split
from suite.kernel import Prepared, kernel
from suite.kernels.spmm import spmm_block_panels, spmm_csr_tiled
from suite.patterns.patch import Patch


def refuse(case, device):
    tall, wide = spmm_block_panels.TILE
    rows, columns = case.pattern.rows, case.pattern.columns
    said = native.missing()
    if rows % tall or columns % wide:
        said.append(f"needs tiles of {tall} x {wide} and multiples, got {rows} x {columns}")
    return said


@kernel(op="spmm", on="cpu", dtypes=("float32",), patterns=(Patch,), refuse=refuse, ids=("patch",))
def spmm_patch_panels(a, b):
    """Dense tiles against packed panels, the others as compressed rows, in C++."""
    height, width = a.pattern.rows, a.pattern.columns
    dense, halved = split(a, height, width, height * width)
    blocks = spmm_block_panels.spmm_block_panels.prepare(replace(dense, pattern=a.pattern.dense()), b)
    rows = spmm_csr_tiled.spmm_csr_tiled.prepare(halved, b)
    if not dense.nonzeros or not halved.nonzeros:
        return blocks if dense.nonzeros else rows

    def run(b):
        return blocks.run(b).add_(rows.run(b))

    return Prepared(
        run,
        executed=blocks.executed + rows.executed,
        values=blocks.values + rows.values,
        metadata=blocks.metadata + rows.metadata,
        holds=(blocks.holds, rows.holds),
        note={"dense": blocks.note["algorithm"], "halved": rows.note["algorithm"]},
    )
