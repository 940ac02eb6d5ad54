"""Compressed columns: the rows of the transpose, and where each nonzero stands in compressed rows.

The places let values that change be read where they are: of the transpose, only the pattern is made.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.kernel import Refused
from suite.sparse import INT32_MOST, Sparse


@dataclass(frozen=True, eq=False)
class Columns:
    """The pattern of an m x k matrix by columns; rows ascend within each.

    starts: int32[k+1], rows: int32[nnz], places: int32[nnz], the entry of the compressed rows.
    """

    starts: Tensor
    rows: Tensor
    places: Tensor
    shape: tuple[int, int]

    @property
    def metadata_bytes(self) -> int:
        return self.starts.nbytes + self.rows.nbytes + self.places.nbytes


def columns(a: Sparse) -> Columns:
    """The pattern of `a` by columns."""
    if a.nonzeros > INT32_MOST:
        raise Refused(f"{a.nonzeros} nonzeros; places count to {INT32_MOST}")
    m, k = a.shape
    of = a.columns.numpy()
    places = np.argsort(of, kind="stable").astype(np.int32)
    rows = np.repeat(np.arange(m, dtype=np.int32), a.row_lengths.numpy())[places]
    starts = np.zeros(k + 1, np.int32)
    np.cumsum(np.bincount(of, minlength=k), out=starts[1:])
    return Columns(torch.from_numpy(starts), torch.from_numpy(rows), torch.from_numpy(places), a.shape)


def transposed(a: Sparse) -> Sparse:
    """`a` with rows and columns exchanged."""
    turned = columns(a)
    values = a.values[turned.places]
    return Sparse(turned.starts, turned.rows, values, (a.shape[1], a.shape[0]), a.pattern)
