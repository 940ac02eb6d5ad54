"""Factors: two sparse matrices that stand one upon the other, taken apart, and multiplied out."""

from functools import lru_cache

import torch
from torch import Tensor

from suite.sparse import Sparse

PANEL = 2**24  # elements of a panel of the product in float64: 128 MiB


def factors(a: Sparse) -> tuple[Sparse, Sparse]:
    """The upper factor, as high as wide, and the lower one."""
    k = a.shape[1]
    return rows(a, 0, k), rows(a, k, a.shape[0])


def rows(a: Sparse, first: int, last: int) -> Sparse:
    """Rows first to last (exclusive) as a matrix of their own; its columns and values are views."""
    low, high = int(a.starts[first]), int(a.starts[last])
    starts = a.starts[first : last + 1] - low
    return Sparse(starts, a.columns[low:high], a.values[low:high], (last - first, a.shape[1]), a.pattern)


@lru_cache(maxsize=1)
def product(a: Sparse) -> Tensor:
    """The lower factor times the upper, in float64, then rounded once; all dense kernels share it."""
    upper, lower = factors(a)
    (m, k), wide = lower.shape, upper.rows_dense(0, upper.shape[0], torch.float64)
    out = torch.empty(m, k, dtype=a.dtype, device=a.values.device)
    step = max(1, PANEL // k)
    for first in range(0, m, step):
        last = min(m, first + step)
        out[first:last] = lower.rows_dense(first, last, torch.float64) @ wide
    return out
