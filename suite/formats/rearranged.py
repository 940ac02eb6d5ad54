"""Rearranged rows: an order in which rows that have the same columns stand together, a strip at a time.

The order is a bijection, so nothing is lost: a kernel stores each row of its answer where it belongs, or a
network lets the next layer take its input channels in the new order and pays nothing at all (Xu et al.,
"SparseByteNN: A Novel Mobile Inference Acceleration Framework Based on Fine-Grained Group Sparsity", 2023).
"""

import numpy as np
import torch

from suite.patterns.positions import runs
from suite.sparse import Sparse, from_positions


def alike(a: Sparse) -> np.ndarray:
    """For each row, the first row that has exactly its columns: int64[m]."""
    starts, columns = a.starts.numpy().astype(np.int64), a.columns.numpy()
    rows, lengths = np.arange(a.shape[0]), np.diff(starts)
    marks = np.random.default_rng(0).integers(0, 2**64, a.shape[1], np.uint64)  # a number for each column
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(marks[columns])))  # modulo 2^64
    _, first, which = np.unique(sums[starts[1:]] - sums[starts[:-1]], return_index=True, return_inverse=True)
    leader = first[which]
    leader = np.where(lengths[leader] == lengths, leader, rows)
    same = columns == columns[runs(starts[leader], lengths)]
    return np.where(np.bincount(np.repeat(rows, lengths)[~same], minlength=len(rows)), rows, leader)


def stacked(leader: np.ndarray, height: int) -> np.ndarray:
    """An order of the rows: strips of `height` rows with the same leader, then the rest as they stood.

    order[i] is the row that comes to stand at i.
    """
    rows = np.arange(len(leader))
    together = np.argsort(leader, kind="stable")
    sizes = np.bincount(leader, minlength=len(leader))
    before = np.cumsum(sizes) - sizes
    rank = np.empty_like(rows)
    rank[together] = rows - before[leader[together]]
    rest = rank >= sizes[leader] // height * height
    return np.concatenate((together[~rest[together]], rows[rest]))


def inverse(order: np.ndarray) -> np.ndarray:
    """Where each row went."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def with_rows(a: Sparse, order: np.ndarray) -> Sparse:
    """`a` with row order[i] at i: a layer whose output channels are rearranged."""
    starts, lengths = a.starts.numpy().astype(np.int64), a.row_lengths.numpy()[order]
    at = runs(starts[order], lengths)
    ends = np.concatenate(([0], np.cumsum(lengths)))
    return from_positions(ends, a.columns.numpy()[at], a.values[torch.from_numpy(at)], a.shape, a.pattern)


def with_columns(a: Sparse, order: np.ndarray) -> Sparse:
    """`a` with column order[i] at i: the layer after, which takes its input channels rearranged."""
    columns = inverse(order)[a.columns.numpy()]
    at = np.lexsort((columns, np.repeat(np.arange(a.shape[0]), a.row_lengths.numpy())))
    return from_positions(a.starts.numpy(), columns[at], a.values[torch.from_numpy(at)], a.shape, a.pattern)
