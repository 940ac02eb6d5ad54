"""2:4: at most two nonzeros in every aligned four of a row, which sparse tensor cores take for four.

A mask that keeps fewer, such as 1:8, runs as one that keeps two. Libraries tell a stored position by its
value, so they lose a stored zero; one with a sign is refused rather than lost.
"""

from math import lcm

import torch
from torch import Tensor

from suite.case import Case
from suite.device import Device
from suite.kernel import Refused
from suite.patterns.grouped_n_of_m import GroupedNofM
from suite.patterns.n_of_m import NofM
from suite.patterns.v_n_of_m import VNofM
from suite.sparse import Sparse

PATTERNS = (NofM, VNofM, GroupedNofM)
KEPT, FOUR = 2, 4


def unfit(case: Case, _: Device | None = None) -> list[str]:
    """The complaint about a pattern that may put more than two nonzeros into an aligned four."""
    pattern = case.pattern
    assert isinstance(pattern, PATTERNS)
    if (found := most(pattern.n, pattern.m, case["k"])) <= KEPT:
        return []
    return [f"{pattern} may keep {found} of an aligned four; sparse tensor cores take {KEPT}"]


def most(n: int, m: int, k: int) -> int:
    """The most that n of every m columns put into an aligned four of k columns."""
    found = 0
    for first in range(0, min(k, lcm(m, FOUR)), FOUR):
        last = min(first + FOUR, k)
        met = range(first // m, (last - 1) // m + 1)
        found = max(found, sum(min(n, min(last, (at + 1) * m) - max(first, at * m)) for at in met))
    return found


def laid_out(a: Sparse, rows: int, columns: int) -> Tensor:
    """The dense form of a 2:4 matrix, padded to so many rows and columns; refused if it is none."""
    m, k = a.shape
    numbers = torch.repeat_interleave(torch.arange(m, device=a.values.device), a.row_lengths)
    fours = numbers * (columns // FOUR) + a.columns // FOUR
    crowded = fours[KEPT:] == fours[:-KEPT]
    if crowded.any():
        row = int(numbers[crowded.nonzero()[0, 0]])
        raise Refused(f"row {row} keeps more than {KEPT} of an aligned four; sparse tensor cores take {KEPT}")
    values = a.values.float()  # torch asks no 8-bit number for its sign
    if ((values == 0) & values.signbit()).any():
        raise Refused("a stored -0.0 would be lost: the library tells a stored position by its value")
    wide = a.values.new_zeros(rows, columns)
    wide[:m, :k] = a.dense
    return wide
