"""Block rows: compressed rows of dense blocks, zeros in place; ragged edges are padded with zeros.

Values survive the way there and back, -0.0 too; a stored +0.0 does not, for it looks like the padding.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np
import torch
from torch import Tensor

from suite.case import Case
from suite.device import Device
from suite.formats.dense import MOST, gib
from suite.kernel import Refused
from suite.pattern import Pattern
from suite.patterns.block import Block
from suite.patterns.butterfly import Butterfly
from suite.patterns.fan_in import FanIn
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.sparse import Sparse, from_positions

USUAL = (16, 16)
SCATTERED = (Unstructured, NofM, FanIn)  # single elements stand anywhere, so the block law holds for them
MOST_OF_ALL = 0.6  # with more blocks than this, each emptier than this, it is a slow dense product
SMALL = 2**16  # elements; a matrix this small is not worth refusing, and is what tests are made of


@dataclass(frozen=True, eq=False)
class Bsr:
    """An m x k matrix as blocks; columns ascend within each row of blocks.

    starts: int32[rows of blocks + 1]; columns: int32[blocks], in blocks; values: [blocks, height, width].
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    shape: tuple[int, int]  # without padding

    @property
    def padded(self) -> tuple[int, int]:
        """The shape in whole blocks."""
        (m, k), (height, width) = self.shape, self.values.shape[1:]
        return whole(m, height), whole(k, width)

    @property
    def value_bytes(self) -> int:
        return self.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        return self.starts.nbytes + self.columns.nbytes


def whole(size: int, unit: int) -> int:
    """`size` rounded up to a multiple of `unit`."""
    return -(-size // unit) * unit


def bsr(a: Sparse, height: int, width: int) -> Bsr:
    """`a` in blocks of height x width: every block that holds a nonzero, whole."""
    m, k = a.shape
    across = whole(k, width) // width
    rows = np.repeat(np.arange(m, dtype=np.int64), a.row_lengths.numpy())
    columns = a.columns.numpy().astype(np.int64)
    numbers = rows // height * across + columns // width
    blocks = np.unique(numbers)
    if reasons := over_limit(height, width, len(blocks) * height * width * a.dtype.itemsize):
        raise Refused(reasons[0])
    values = torch.zeros(len(blocks), height, width, dtype=a.dtype)
    at = np.searchsorted(blocks, numbers)
    flat = (at * height + rows % height) * width + columns % width
    values.view(-1)[torch.from_numpy(flat)] = a.values
    starts = np.searchsorted(blocks, np.arange(whole(m, height) // height + 1) * across)
    return Bsr(
        torch.from_numpy(starts.astype(np.int32)),
        torch.from_numpy((blocks % across).astype(np.int32)),
        values,
        a.shape,
    )


def split(a: Sparse, height: int, width: int, least: int) -> tuple[Sparse, Sparse]:
    """The nonzeros in blocks that hold at least so many of them, and the others."""
    rows = np.repeat(np.arange(a.shape[0], dtype=np.int64), a.row_lengths.numpy())
    numbers = rows // height * (whole(a.shape[1], width) // width) + a.columns.numpy() // width
    if least <= 1:
        kept = np.ones(len(numbers), bool)
    else:
        ordered = np.sort(numbers)
        firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
        enough = np.diff(firsts, append=len(ordered)) >= least
        blocks = ordered[firsts]
        kept = enough[np.searchsorted(blocks, numbers)]
    return only(a, rows, kept), only(a, rows, ~kept)


def only(a: Sparse, rows: np.ndarray, kept: np.ndarray) -> Sparse:
    """The nonzeros where `kept` is true; `rows` says in which row each stands."""
    starts = np.searchsorted(rows[kept], np.arange(a.shape[0] + 1))
    return from_positions(
        starts, a.columns.numpy()[kept], a.values[torch.from_numpy(kept)], a.shape, a.pattern
    )


def unbsr(held: Bsr, pattern: Pattern) -> Sparse:
    """The matrix that was put into blocks; of its zeros only those with a sign are stored positions."""
    height, width = held.values.shape[1:]
    stored = (held.values != 0) | held.values.signbit()
    block, down, right = (x.numpy() for x in stored.nonzero(as_tuple=True))
    block_rows = np.repeat(np.arange(len(held.starts) - 1), held.starts.diff().numpy())
    rows = block_rows[block] * height + down
    columns = held.columns.numpy()[block].astype(np.int64) * width + right
    order = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[order], np.arange(held.shape[0] + 1))
    values = held.values[stored][torch.from_numpy(order)]
    return from_positions(starts, columns[order], values, held.shape, pattern)


def own(pattern: Pattern) -> tuple[int, int] | None:
    """The shape of a pattern's own blocks, if it has any."""
    if isinstance(pattern, Block):
        return pattern.rows, pattern.columns
    return (pattern.size, pattern.size) if isinstance(pattern, Butterfly) else None


def block_of(pattern: Pattern, square: bool = False, tile: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """The block shape that suits a pattern: its own if it has one, else a usual one; of whole tiles."""
    height, width = own(pattern) or USUAL
    if (square and height != width) or height % tile[0] or width % tile[1]:
        height, width = USUAL
    return whole(height, tile[0]), whole(width, tile[1])


def unfit(
    case: Case, _: Device | None = None, square: bool = False, tile: tuple[int, int] = (1, 1)
) -> list[str]:
    """What can be said against blocks before the operand is there: they fill up, or take too much memory."""
    m, k, pattern = case["m"], case["k"], case.pattern
    if case.data:
        return []  # `bsr` looks at the matrix itself
    height, width = block_of(pattern, square, tile)
    if reasons := fills_up(case, height, width):
        return reasons
    alone, every = pattern.count(m, k), whole(m, height) * whole(k, width)
    held = every * (share_met(pattern, m, k, height, width) or 1)
    size = min(held, alone if own(pattern) == (height, width) else alone * height * width)
    return over_limit(height, width, int(size) * case.torch_dtype.itemsize)


def fills_up(case: Case, height: int, width: int) -> list[str]:
    """The complaint that most blocks would hold a nonzero, and few nonzeros fill them."""
    m, k, pattern = case["m"], case["k"], case.pattern
    share = None if case.data else share_met(pattern, m, k, height, width)
    every = whole(m, height) * whole(k, width)
    if not share or every <= SMALL:
        return []
    full = pattern.count(m, k) / (every * share)
    if not share > MOST_OF_ALL > full:
        return []
    return [
        f"blocks of {height}x{width} would be {full:.0%} full: {pattern} leaves {1 - share:.0%} of them out"
    ]


def share_met(pattern: Pattern, m: int, k: int, height: int, width: int) -> float | None:
    """The share of blocks that hold a nonzero, by the block law; None where it does not hold.

    Of so many units, each kept or dropped for itself, none is kept with chance (1 - density)^units.
    """
    density, touched = pattern.count(m, k) / (m * k), units(pattern, height, width)
    return 1 - (1 - density) ** touched if touched and 0 < density < 1 else None


def fullness(case: Case, height: int, width: int) -> float:
    """How full blocks that hold a nonzero would be, by the block law.

    1 where the law does not hold, and for small matrices, which are not worth refusing.
    """
    m, k, pattern = case["m"], case["k"], case.pattern
    share = None if case.data or m * k <= SMALL else share_met(pattern, m, k, height, width)
    return pattern.count(m, k) / (m * k * share) if share else 1.0


def units(pattern: Pattern, height: int, width: int) -> float:
    """How many of a pattern's units, kept or dropped each for itself, a block meets; 0 where none are so."""
    if isinstance(pattern, SCATTERED):
        return height * width
    if isinstance(pattern, Block) and own(pattern) != (height, width):
        return met(height, pattern.rows) * met(width, pattern.columns)
    return 0


def met(length: int, unit: int) -> float:
    """How many units of a row of them a stretch meets on average, stretches and units laid end to end."""
    return (length + unit - gcd(length, unit)) / unit


def over_limit(height: int, width: int, size: int) -> list[str]:
    """The complaint about blocks that take more than the limit."""
    if size <= MOST:
        return []
    return [f"needs blocks of {height}x{width}, which take {gib(size)}; the limit is {gib(MOST)}"]
