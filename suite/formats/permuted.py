"""Permuted: rows and columns in an order that gathers the nonzeros in few blocks.

Rows that meet much the same columns become neighbours, then columns that meet much the same groups of rows.
The first step looks at single columns: while columns are shuffled, blocks of them say nothing. Where columns
stand in a meaningful order already, as in a mesh, rows are grouped by the blocks of columns they meet, and
columns stay. The best of these is taken, or the order as it was if none is better.

To permute for dense blocks is the idea of Okanovic et al., "High Performance Unstructured SpMM Computation
Using Tensor Cores", SC 2024. Here rows are grouped by MinHash instead of being compared with each other, so
time grows with the nonzeros. Bad at: uniformly random matrices, no two rows of which are alike.
"""

from collections.abc import Iterator
from ctypes import CDLL, c_int64
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from suite import native
from suite.sparse import Sparse, from_positions


@dataclass(frozen=True, eq=False)
class Order:
    """Which row and which column of a matrix stands at each place: int32[m] and int32[k]."""

    rows: np.ndarray
    columns: np.ndarray
    blocks: int  # blocks that hold a nonzero in this order
    before: int  # and in the order in which the matrix came


def gathered(a: Sparse, height: int, width: int, seed: int = 0) -> Order:
    """An order in which few blocks of height x width hold all nonzeros; never more than before."""
    m, k = a.shape
    positions = a.starts.numpy().astype(np.int64), a.columns.numpy()
    rows, columns = np.arange(m, dtype=np.int32), np.arange(k, dtype=np.int32)
    before = count(*positions, rows, groups(columns, width), height) if a.nonzeros else 0
    best = Order(rows, columns, before, before)
    fewest = -(-a.nonzeros // (height * width))
    for rows, columns in candidates(*positions, k, height, width, seed) if before > fewest else ():
        blocks = count(*positions, rows, groups(columns, width), height)
        if blocks < best.blocks:
            best = Order(rows, columns, blocks, before)
        if blocks == fewest:
            break
    return best


def candidates(
    starts: np.ndarray, columns: np.ndarray, k: int, height: int, width: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Orders of rows and of columns, each found when it is asked for."""
    rows = clustered(starts, columns, None, height, False, seed)
    met = transposed(starts, columns, rows, k, height)
    for repeated in (True, False):
        yield rows, clustered(*met, None, width, repeated, seed)
    in_place = np.arange(k, dtype=np.int32)
    yield clustered(starts, columns, groups(in_place, width), height, False, seed), in_place


def groups(order: np.ndarray, size: int) -> np.ndarray:
    """Of each row or column, in which group of `size` it stands: int32."""
    made = np.empty(len(order), np.int32)
    made[order] = np.arange(len(order), dtype=np.int32) // size
    return made


def clustered(
    starts: np.ndarray, columns: np.ndarray, labels: np.ndarray | None, size: int, repeated: bool, seed: int
) -> np.ndarray:
    """An order of the rows in which groups of `size` meet much the same columns, or labels of columns.

    repeated: as often, too. Then what a row meets once by chance counts for less.
    """
    order = np.empty(len(starts) - 1, np.int32)
    threads = torch.get_num_threads()
    given = (starts, columns, labels, len(order), size, int(repeated), seed, threads, order)
    native.bind(library().cluster, *given)()
    return order


def count(starts: np.ndarray, columns: np.ndarray, rows: np.ndarray, labels: np.ndarray, height: int) -> int:
    """Blocks that hold a nonzero: of `height` rows in this order, and of columns with the same label."""
    most = int(labels.max()) + 1
    given = (starts, columns, rows, labels, len(rows), most, height, torch.get_num_threads())
    return native.bind(library().count, *given, returns=c_int64)()


def transposed(
    starts: np.ndarray, columns: np.ndarray, rows: np.ndarray, k: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each column, which groups of `height` rows it meets, as compressed rows; some of them twice."""
    ends, met = np.zeros(k + 1, np.int64), np.empty_like(columns)
    native.bind(library().transpose, starts, columns, rows, len(rows), k, height, ends, met)()
    return ends, met


def permuted(a: Sparse, order: Order) -> Sparse:
    """`a` in this order: its row i is row `order.rows[i]` of `a`, and so are columns."""
    starts = a.starts.numpy().astype(np.int64)
    to = np.concatenate(([0], np.cumsum(np.diff(starts)[order.rows])))
    columns, stood = np.empty(a.nonzeros, np.int32), np.empty(a.nonzeros, np.int64)
    places = groups(order.columns, 1)
    sizes = len(order.rows), torch.get_num_threads()
    native.bind(library().permute, starts, a.columns, order.rows, places, *sizes, to, columns, stood)()
    return from_positions(to, columns, a.values[torch.from_numpy(stood)], a.shape, a.pattern)


def inverse(order: Order) -> Order:
    """The order that undoes this one."""
    return Order(groups(order.rows, 1), groups(order.columns, 1), order.before, order.blocks)


@cache
def library() -> CDLL:
    return native.load(Path(__file__).with_suffix(".cpp"))
