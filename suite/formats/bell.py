"""Blocked ELL: square blocks, as many in each row of blocks as the fullest has; the others are padded.

Without row pointers every row of blocks is the same work. Bad where one row of blocks is much fuller than
the others.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from suite.formats.bsr import bsr, over_limit
from suite.kernel import Refused
from suite.sparse import Sparse

NONE = -1  # the column of a block that only pads


@dataclass(frozen=True, eq=False)
class Bell:
    """An m x k matrix as blocks of size x size.

    columns: int32[rows of blocks, blocks of each], in blocks; values: [rows, columns of all blocks of a row],
    so that the rows of neighbouring blocks stand side by side.
    """

    columns: Tensor
    values: Tensor
    size: int
    padded: tuple[int, int]  # the shape in whole blocks

    def to(self, device: str | torch.device) -> "Bell":
        """On a device."""
        return Bell(self.columns.to(device), self.values.to(device), self.size, self.padded)


def bell(a: Sparse, size: int) -> Bell:
    """`a` in square blocks: every block that holds a nonzero, whole, and one a row at the least."""
    held = bsr(a, size, size)
    counts = held.starts.long().diff()
    down, across = len(counts), max(1, int(counts.max()))
    if reasons := over_limit(size, size, down * across * size * size * a.dtype.itemsize):
        raise Refused(f"{reasons[0]}; the fullest row of blocks has {across}")
    rows = torch.repeat_interleave(torch.arange(down), counts)
    at = torch.arange(len(rows)) - held.starts[rows]
    columns = torch.full((down, across), NONE, dtype=torch.int32)
    columns[rows, at] = held.columns
    values = torch.zeros(down, size, across, size, dtype=a.dtype)
    values[rows, :, at] = held.values
    return Bell(columns, values.view(down * size, across * size), size, held.padded)
