"""Lanes: N:M for registers. A row is a lane, and what a lane multiplies is among the numbers of a window.

Rows stand in bands, side by side in as many lanes. A window is a run of columns, whole groups of M, whose
numbers of the other operand fill a register or two. As every row keeps equally many of a window, the values
of a band are a plain table of registers, without pointers. Where in its group of M a value stands takes
ceil(log2 M) bits, and those of a lane are packed into words; with its group's first column added, a position
is what an instruction that permutes registers takes. Beyond the last row and column all is padded with zeros.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.kernel import Refused
from suite.pattern import Pattern
from suite.patterns.grouped_n_of_m import GroupedNofM
from suite.patterns.n_of_m import NofM
from suite.patterns.v_n_of_m import VNofM
from suite.sparse import Sparse, from_positions

PATTERNS = (NofM, VNofM, GroupedNofM)  # of which every row keeps N of every M columns
WORDS = {16: np.uint16, 32: np.uint32}


@dataclass(frozen=True)
class Cut:
    """How N:M is cut into registers of so many lanes.

    window: numbers of the other operand in which a position counts, at least M. together: values of a row
    that stand side by side in a lane, because an instruction sums their products. word: bits of a word of
    positions.
    """

    n: int
    m: int
    lanes: int
    window: int
    together: int = 1
    word: int = 32

    @property
    def groups(self) -> int:
        """Groups of a window."""
        return self.window // self.m

    @property
    def bits(self) -> int:
        """Of a position in its group."""
        return max(1, (self.m - 1).bit_length())

    @property
    def fields(self) -> int:
        """Positions of a word."""
        return self.word // self.bits

    @property
    def rounds(self) -> int:
        """Registers of values that a window has."""
        return -(-self.groups * self.n // self.together)

    @property
    def windows(self) -> int:
        """Windows of a step, which begins with a new word: one, or a power of two that share a word."""
        return 1 << max(1, self.fields // self.rounds).bit_length() - 1

    @property
    def words(self) -> int:
        """Registers of words that a step has."""
        return -(-self.rounds * self.windows // self.fields)

    @property
    def columns(self) -> int:
        """Of a step."""
        return self.windows * self.groups * self.m

    def steps(self, k: int) -> int:
        """Steps that cover k columns."""
        return -(-k // self.columns)


@dataclass(frozen=True, eq=False)
class Lanes:
    """An m x k matrix that keeps N of every M columns.

    values: the case's dtype [bands, steps, rounds of a step, lanes, together]; positions: int16 or int32
    [bands, steps, words of a step, lanes, together], the first in the lowest bits.
    """

    values: Tensor
    positions: Tensor
    cut: Cut
    shape: tuple[int, int]

    @property
    def value_bytes(self) -> int:
        return self.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        return self.positions.nbytes


def in_lanes(a: Sparse, cut: Cut) -> Lanes:
    """`a` cut that way; refused where a row keeps more or fewer than N of a group."""
    m, k = a.shape
    columns = kept(a, cut.n, cut.m)
    slots = slots_of(columns.shape[1], cut)
    shape = (-(-m // cut.lanes), cut.lanes, cut.steps(k), cut.windows * cut.rounds, cut.together)

    def dealt(given: np.ndarray) -> np.ndarray:
        """Of each row in its order -> [bands, steps, rounds, lanes, together], zeros elsewhere."""
        table = np.zeros((shape[0] * shape[1], shape[2] * shape[3] * shape[4]), given.dtype)
        table[:m, slots] = given
        return table.reshape(shape).transpose(0, 2, 3, 1, 4)

    bits = a.values.view(torch.int16 if a.dtype.itemsize == 2 else torch.int32)  # NumPy has no bfloat16
    values = aligned(dealt(bits.reshape(m, -1).numpy())).view(a.dtype)
    position = dealt((columns % cut.m).astype(WORDS[cut.word]))
    words: np.ndarray = np.zeros((*position.shape[:2], cut.words, *position.shape[3:]), position.dtype)
    for at in range(position.shape[2]):
        words[:, :, at // cut.fields] |= position[:, :, at] << np.uint8(at % cut.fields * cut.bits)
    packed = aligned(words.view(np.int16 if cut.word == 16 else np.int32))
    return Lanes(values, packed, cut, a.shape)


def aligned(array: np.ndarray) -> Tensor:
    """A copy in which registers are whole cache lines: torch aligns what it allocates, NumPy does not."""
    view = torch.from_numpy(array)
    return torch.empty(array.shape, dtype=view.dtype).copy_(view)


def kept(a: Sparse, n: int, m: int) -> np.ndarray:
    """The columns of each row, int32[rows, kept]; refused where a group of M keeps more or fewer than N."""
    width = width_of(a.shape[1], n, m)
    uneven = a.row_lengths.numpy() != width
    if not uneven.any():
        columns = a.columns.numpy().reshape(-1, width)
        uneven = (columns // m != np.arange(width) // n).any(axis=1)
        if not uneven.any():
            return columns
    raise Refused(f"row {int(uneven.argmax())} does not keep {n} of every {m} columns")


def width_of(k: int, n: int, m: int) -> int:
    """Nonzeros of a row: N of each group, of a last, narrower one N or all it has."""
    return k // m * n + min(n, k % m)


def slots_of(width: int, cut: Cut) -> np.ndarray:
    """Where the values of a row stand among the slots of its lane, int64[width]."""
    window, within = np.divmod(np.arange(width), cut.groups * cut.n)
    return window * cut.rounds * cut.together + within


def out_of_lanes(held: Lanes, pattern: Pattern) -> Sparse:
    """The matrix that was cut."""
    (m, k), cut = held.shape, held.cut
    width = width_of(k, cut.n, cut.m)
    slots = torch.from_numpy(slots_of(width, cut))

    def gathered(table: Tensor) -> Tensor:
        """[bands, steps, rounds, lanes, together] -> of each row in its order."""
        return table.permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)[:m, slots]

    at = torch.arange(cut.windows * cut.rounds)
    words = held.positions[:, :, at // cut.fields].int()
    within = gathered(words >> (at % cut.fields * cut.bits)[:, None, None]) & ((1 << cut.bits) - 1)
    columns = (within + torch.arange(width) // cut.n * cut.m).flatten().numpy()
    return from_positions(np.arange(m + 1) * width, columns, gathered(held.values).flatten(), (m, k), pattern)
