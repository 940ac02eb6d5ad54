"""Sorted rows: grouped N:M without an index, for rows that keep the same columns of a group stand together.

Of each chunk and each group of M columns, the rows come sorted by the placement they use, in the order of
`placements`. How many use each is known, so what is stored beside the values is which row each is: one number
for N values, where other layouts of N:M store N.
"""

from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from torch import Tensor

from suite.formats.n_of_m import kept
from suite.kernel import Refused
from suite.pattern import Pattern
from suite.patterns.grouped_n_of_m import Placement, placements, shares
from suite.sparse import Sparse, from_positions

SHORT = 2**8  # rows of a chunk that a byte tells apart
LARGEST = 2**16


@dataclass(frozen=True, eq=False)
class Grouped:
    """An m x k matrix that is N:M:G. Chunk after chunk, and in it group after group:

    values: the case's dtype [m * k / M, N], columns ascending; rows: uint8 or uint16 [m * k / M], in the
    chunk.
    """

    values: Tensor
    rows: Tensor
    n: int
    m: int
    chunk: int  # rows of a chunk; the last may have fewer
    shape: tuple[int, int]

    @property
    def value_bytes(self) -> int:
        return self.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        return self.rows.nbytes


def grouped(a: Sparse, n: int, m: int, chunk: int) -> Grouped:
    """`a` with the rows of each group sorted; refused where a chunk uses some placements more often."""
    rows, k = a.shape
    if k % m:
        raise Refused(f"{k} columns are no whole groups of {m}")
    if chunk > LARGEST:
        raise Refused(f"chunks of {chunk} rows; sorted rows are counted to {LARGEST}")
    table = placements(n, m)
    used = numbers(kept(a, n, m).reshape(rows, -1, n) % m, table, m)
    values = a.values.reshape(rows, -1, n)
    parts, orders = [], []
    for first in range(0, rows, chunk):
        of_chunk = used[first : first + chunk]
        order = np.argsort(of_chunk, axis=0, kind="stable")
        expected = np.repeat(np.arange(len(table)), np.diff(shares(len(of_chunk), len(table))))
        if (np.take_along_axis(of_chunk, order, axis=0) != expected[:, None]).any():
            last = first + len(of_chunk) - 1
            raise Refused(f"rows {first} to {last} do not use all {len(table)} placements evenly")
        at = torch.from_numpy(order)[:, :, None].expand(-1, -1, n)
        parts.append(values[first : first + chunk].gather(0, at).transpose(0, 1).flatten(0, 1))
        orders.append(order.T.reshape(-1))
    index = np.concatenate(orders).astype(np.uint8 if chunk <= SHORT else np.uint16)
    return Grouped(torch.cat(parts), torch.from_numpy(index), n, m, chunk, a.shape)


def numbers(columns: np.ndarray, table: tuple[Placement, ...], m: int) -> np.ndarray:
    """Which placement of the table each [..., n] ascending columns are."""
    n = columns.shape[-1]
    less = np.array([[comb(column, at + 1) for at in range(n)] for column in range(m)])

    def rank(columns: np.ndarray) -> np.ndarray:  # among all placements, compared from the last column down
        return less[columns, np.arange(n)].sum(axis=-1)

    number = np.empty(len(table), np.uint16 if len(table) <= LARGEST else np.int32)  # short ones sort faster
    number[rank(np.array(table))] = np.arange(len(table))
    return number[rank(columns)]


def ungrouped(held: Grouped, pattern: Pattern) -> Sparse:
    """The matrix that was sorted."""
    (rows, k), n = held.shape, held.n
    groups = k // held.m
    table = torch.tensor(placements(n, held.m))
    values = held.values.new_empty(rows, groups, n)
    columns = torch.empty(rows, groups, n, dtype=torch.int64)
    left = torch.arange(groups)[:, None] * held.m
    for first in range(0, rows, held.chunk):
        size = min(held.chunk, rows - first)
        chunk, part = slice(first, first + size), slice(first * groups, (first + size) * groups)
        order = held.rows[part].int().reshape(groups, size).T.long()
        at = order[:, :, None].expand(-1, -1, n)
        used = torch.from_numpy(np.diff(shares(size, len(table))))
        values[chunk].scatter_(0, at, held.values[part].reshape(groups, size, n).transpose(0, 1))
        columns[chunk].scatter_(0, at, table.repeat_interleave(used, 0)[:, None] + left)
    starts = np.arange(rows + 1) * groups * n
    return from_positions(starts, columns.flatten().numpy(), values.flatten(), held.shape, pattern)
