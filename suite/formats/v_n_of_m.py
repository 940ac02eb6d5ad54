"""V:N:M as kept: the columns that V rows share, four of every M, and for each row two values of every four.

Which two of the four takes two bits a value. A row that keeps fewer is filled up with zeros, whose places are
the lowest that are free; places ascend, as a sparse tensor core wants them. Rows and columns may be ragged.

Castro et al., "VENOM: A Vectorized N:M Format for Unleashing the Power of Sparse Tensor Cores", SC 2023.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.kernel import Refused
from suite.pattern import Pattern
from suite.patterns.v_n_of_m import COLUMNS
from suite.sparse import Sparse, from_positions

KEPT = 2  # of four


@dataclass(frozen=True, eq=False)
class SharedColumns:
    """An m x k matrix of which `rows` neighbouring rows share columns.

    columns: int32[bands, groups, 4], ascending, -1 where there is none; values: the case's dtype
    [m, groups, 2]; places: uint8[m, groups, 2], which of the four columns.
    """

    columns: Tensor
    values: Tensor
    places: Tensor
    rows: int
    shape: tuple[int, int]


def shared_columns(a: Sparse, rows: int, width: int) -> SharedColumns:
    """`a` in bands of so many rows and groups of so many columns.

    Refused where rows of a band meet more than four columns of a group, or one of them more than two.
    """
    m, k = a.shape
    bands, groups = -(-m // rows), -(-k // width)
    row = np.repeat(np.arange(m, dtype=np.int64), a.row_lengths.numpy())
    column = a.columns.numpy().astype(np.int64)
    met, which = np.unique(row // rows * k + column, return_inverse=True)
    slot = rank(met // k * groups + met % k // width)
    if len(slot) and slot.max() >= COLUMNS:
        at = met[slot.argmax()]
        raise Refused(f"the band of row {at // k * rows} meets more than {COLUMNS} of {width} columns")
    columns = np.full((bands * groups, COLUMNS), -1, np.int32)
    columns[met // k * groups + met % k // width, slot] = met % k
    own, place = row * groups + column // width, slot[which.reshape(-1)]
    turn = rank(own)
    if len(turn) and turn.max() >= KEPT:
        raise Refused(f"row {row[turn.argmax()]} keeps more than {KEPT} of {COLUMNS} columns")
    alone = np.bincount(own, minlength=m * groups)[own] == 1
    turn = np.where(alone, place > 0, turn).astype(np.int64)
    places = np.tile(np.arange(KEPT, dtype=np.uint8), (m * groups, 1))
    places[own, turn] = place
    values = torch.zeros(m * groups, KEPT, dtype=a.dtype)
    values[torch.from_numpy(own), torch.from_numpy(turn)] = a.values
    return SharedColumns(
        torch.from_numpy(columns.reshape(bands, groups, COLUMNS)),
        values.view(m, groups, KEPT),
        torch.from_numpy(places.reshape(m, groups, KEPT)),
        rows,
        a.shape,
    )


def rank(ascending: np.ndarray) -> np.ndarray:
    """Of each element, how many equal ones are before it."""
    return np.arange(len(ascending)) - np.searchsorted(ascending, ascending)


def unshared(held: SharedColumns, pattern: Pattern) -> Sparse:
    """The matrix that was kept that way; of its zeros only those with a sign are stored positions."""
    band = torch.arange(held.shape[0]) // held.rows
    columns = held.columns[band].gather(2, held.places.long())
    there = (held.values != 0) | held.values.signbit()
    starts = torch.zeros(held.shape[0] + 1, dtype=torch.int64)
    starts[1:] = there.flatten(1).sum(1).cumsum(0)
    return from_positions(starts.numpy(), columns[there].numpy(), held.values[there], held.shape, pattern)
