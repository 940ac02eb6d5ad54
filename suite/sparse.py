"""Sparse: a matrix as compressed rows. A nonzero is a stored position, whatever its value."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import log

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from suite.pattern import Pattern

INT32_MOST = 2**31 - 1
BLOCKS = (16, 32, 64, 128)


@dataclass(frozen=True, eq=False)
class Sparse:
    """An m x k matrix in compressed rows; columns ascend within each row.

    starts: int32[m+1] (int64 from 2^31 nonzeros on), columns: int32[nnz], values: the case's dtype [nnz].
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    shape: tuple[int, int]
    pattern: Pattern

    @property
    def nonzeros(self) -> int:
        return self.values.numel()

    @property
    def sparsity(self) -> float:
        """Counted, not requested."""
        m, k = self.shape
        return 1 - self.nonzeros / (m * k) if m * k else 0.0

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        return self.values.device

    @cached_property
    def row_lengths(self) -> Tensor:
        """Nonzeros of each row, int64[m]."""
        return self.starts.long().diff()

    @cached_property
    def dense(self) -> Tensor:
        """The whole matrix with zeros in place, made once and shared by whoever asks."""
        return self.rows_dense(0, self.shape[0])

    def rows_dense(self, first: int, last: int, dtype: torch.dtype | None = None) -> Tensor:
        """Rows first to last (exclusive), zeros in place."""
        device = self.values.device
        out = torch.zeros(last - first, self.shape[1], dtype=dtype or self.dtype, device=device)
        low, high = int(self.starts[first]), int(self.starts[last])
        numbers = torch.arange(last - first, device=device)
        rows = torch.repeat_interleave(numbers, self.row_lengths[first:last])
        out[rows, self.columns[low:high].long()] = self.values[low:high].to(out.dtype)
        return out

    def to(self, device: str | torch.device) -> "Sparse":
        """On a device; itself, if it is there."""
        if self.values.device == torch.device(device):
            return self
        parts = (self.starts.to(device), self.columns.to(device), self.values.to(device))
        return Sparse(*parts, self.shape, self.pattern)

    def clone(self) -> "Sparse":
        """A copy in memory of its own."""
        parts = (self.starts.clone(), self.columns.clone(), self.values.clone())
        return Sparse(*parts, self.shape, self.pattern)

    def copy_(self, other: "Sparse") -> "Sparse":
        """Become another matrix of as many nonzeros, in the same memory."""
        for name in ("starts", "columns", "values"):
            getattr(self, name).copy_(getattr(other, name))
        for derived in ("row_lengths", "dense"):
            vars(self).pop(derived, None)
        return self

    def scipy(self, dtype: np.dtype | type | None = None) -> scipy.sparse.csr_array:
        """As SciPy's compressed rows; bfloat16, which NumPy lacks, must be asked for as another dtype."""
        values = self.values.numpy() if dtype is None else self.values.double().numpy().astype(dtype)
        arrays = (values, self.columns.numpy(), self.starts.numpy())
        made = scipy.sparse.csr_array(arrays, shape=self.shape)
        made.has_sorted_indices = made.has_canonical_format = True
        return made


def from_positions(
    starts: np.ndarray, columns: np.ndarray, values: Tensor, shape: tuple[int, int], pattern: Pattern
) -> Sparse:
    """A Sparse over index arrays, in the narrowest index type that holds them."""
    index = np.int32 if len(columns) <= INT32_MOST else np.int64
    return Sparse(
        torch.from_numpy(np.ascontiguousarray(starts, index)),
        torch.from_numpy(np.ascontiguousarray(columns, np.int32)),
        values,
        shape,
        pattern,
    )


def with_values(a: Sparse, values: Tensor) -> Sparse:
    """Other values at the same positions."""
    return Sparse(a.starts, a.columns, values, a.shape, a.pattern)


def structure(a: Sparse) -> dict[str, float | None]:
    """What a kernel's speed depends on beside the count of nonzeros.

    row_cv: standard deviation of the row lengths over their mean; row_max_over_mean; empty_rows: a share;
    row_entropy: of the nonzeros over rows, as a share of its most: 1 is even; row_beyond_mean: the share of
    nonzeros that rows have beyond the mean (of choices of experts, what a capacity of the mean would drop);
    bandwidth: the largest distance from the (scaled) diagonal, over the number of columns;
    fill_B: nonzeros over the positions of all B x B blocks that hold any (ragged blocks count whole).
    """
    m, k = a.shape
    lengths = a.row_lengths.double()
    mean = float(lengths.mean()) if m else 0.0
    columns = a.columns.numpy()
    rows = np.repeat(np.arange(m, dtype=np.int64), a.row_lengths.numpy())
    made: dict[str, float | None] = {
        "row_cv": float(lengths.std(correction=0)) / mean if mean else None,
        "row_max_over_mean": float(lengths.max()) / mean if mean else None,
        "empty_rows": float((lengths == 0).double().mean()) if m else None,
        "row_entropy": entropy(lengths / lengths.sum()) if mean and m > 1 else None,
        "row_beyond_mean": float((lengths - mean).clamp(min=0).sum() / lengths.sum()) if mean else None,
        "bandwidth": float(np.abs(columns - rows * (k / m)).max()) / k if len(columns) else None,
    }
    for size in BLOCKS:
        made[f"fill_{size}"] = a.nonzeros / (count_blocks(rows, columns, size, k) * size**2) if mean else None
    return made


def entropy(shares: Tensor) -> float:
    """Of shares that sum to 1, over the most that so many can have."""
    return float(torch.special.entr(shares).sum() / log(len(shares)))


def count_blocks(rows: np.ndarray, columns: np.ndarray, size: int, k: int) -> int:
    """How many size x size blocks hold a nonzero; a block row at a time, so memory stays small."""
    across = -(-k // size)
    block_rows = rows // size
    total = 0
    edges = np.searchsorted(block_rows, np.arange(0, (block_rows[-1] if len(rows) else 0) + 2))
    if across * (len(edges) - 1) <= 2**27:  # a bitmap of all blocks is the quickest where it fits
        seen = np.zeros(across * (len(edges) - 1), bool)
        seen[block_rows * across + columns // size] = True
        return int(seen.sum())
    for low, high in pairwise(edges):
        total += len(np.unique(columns[low:high] // size))
    return total
