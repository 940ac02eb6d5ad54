"""Condensed: constant fan-in as two tables, the values and the columns of each row, without row pointers.

As published, a row of a table is a row of the matrix. In bands the rows of a register's width stand side by
side instead, slot by slot, and the last band is padded with zeros.

Lasby et al., "Dynamic Sparse Training with Structured Sparsity", ICLR 2024.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.kernel import Refused
from suite.pattern import Pattern
from suite.sparse import Sparse, from_positions

SHORT = 2**16  # columns that two bytes tell apart


@dataclass(frozen=True, eq=False)
class Condensed:
    """An m x k matrix with as many nonzeros in every row.

    values: the case's dtype [bands, fan_in, rows of a band]; columns: uint16 (int32 where k is over 65536) of
    the same shape, ascending along the slots.
    """

    values: Tensor
    columns: Tensor
    shape: tuple[int, int]

    @property
    def fan_in(self) -> int:
        return self.values.shape[1]

    @property
    def value_bytes(self) -> int:
        return self.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        return self.columns.nbytes


def condensed(a: Sparse, band: int = 1) -> Condensed:
    """`a` as tables in bands of so many rows, of one as published; refused where a row is longer."""
    m, k = a.shape
    lengths = a.row_lengths
    if (lengths != lengths[0]).any():
        raise Refused(f"rows of {int(lengths.min())} to {int(lengths.max())} nonzeros; all must have as many")
    fan_in, bands = int(lengths[0]), -(-m // band)

    def dealt(given: Tensor) -> Tensor:
        table = given.new_zeros(bands * band, fan_in)
        table[:m] = given.reshape(m, fan_in)
        return table.reshape(bands, band, fan_in).transpose(1, 2).contiguous()

    index = dealt(a.columns).numpy().astype(np.uint16 if k <= SHORT else np.int32)
    return Condensed(dealt(a.values), torch.from_numpy(index), a.shape)


def expanded(held: Condensed, pattern: Pattern) -> Sparse:
    """The matrix that was condensed."""
    m, fan_in = held.shape[0], held.fan_in

    def gathered(table: Tensor) -> Tensor:
        return table.transpose(1, 2).flatten(0, 1)[:m].flatten()

    columns = gathered(held.columns.int()).numpy()
    return from_positions(np.arange(m + 1) * fan_in, columns, gathered(held.values), held.shape, pattern)
