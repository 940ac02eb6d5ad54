"""Vectors on tensor cores: columns of eight rows that hold a nonzero, sixteen at a time, whichever they are.

With the operands swapped the sparse side is the narrow one of a tensor core, of eight rows not 16.
So fewer zeros are multiplied: at a density d a vector is met with chance 1 - (1 - d)^8, a 16 x 16 block with
1 - (1 - d)^256. Rows of `b` are gathered one by one. The idea is that of FlashSparse (PPoPP 2025).

Bad at: low sparsity, where a row of `b` that is loaded serves eight rows alone; patterns with blocks of more
rows, which load less when they are multiplied whole.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from suite.cuda import nvrtc
from suite.formats.bsr import whole
from suite.formats.vectors import HIGH, fragments, vectors
from suite.kernel import kernel
from suite.kernels.spmm import blocks_cuda

SOURCE = Path(__file__).with_suffix(".cu")
TURNS = {16: 4, 32: 2, 64: 2, 128: 1}  # columns of a tile -> warps that take turns, as in the source


def shared_bytes(columns):
    """Of a block with a tile so wide."""
    return blocks_cuda.shared_bytes(HIGH, columns, TURNS[columns])


def refuse(case, device):
    return nvrtc.missing()


@kernel(op="spmm", on="cuda", dtypes=("bfloat16", "float16"), isa=("sm_80",), refuse=refuse)
def spmm_vectors_cuda(a, b):
    """Vectors of eight rows, sixteen at a time on tensor cores with operands swapped, in CUDA C++."""
    m = a.shape[0]
    held = vectors(a.to("cpu"))
    targets = blocks_cuda.extended(np.arange(m), whole(m, HIGH)).view(-1, HIGH)
    values = fragments(held.values)
    made = blocks_cuda.prepare(SOURCE, held.starts, values, held.columns, targets, m, b, TURNS)
    return replace(made, note=made.note | {"full": f"{a.nonzeros / max(1, values.numel()):.0%}"})
