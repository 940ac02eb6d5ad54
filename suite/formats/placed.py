"""Placed blocks: which positions of a block a mask stores, and where those stand in its compressed rows.

Of each row of a block, where its first stored position stands, and a bit a position: within a row of a block
stored positions are neighbours in compressed rows, too.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.formats.bsr import whole
from suite.sparse import Sparse

WORD = 32  # bits


@dataclass(frozen=True, eq=False)
class Placed:
    """The blocks of an m x k mask that store anything, in bands of rows of blocks, column by column.

    rows, columns: int32[blocks], in blocks; firsts: [blocks, height], in the type of the row starts;
    bits: int32[blocks, height, words of 32].
    """

    rows: Tensor
    columns: Tensor
    firsts: Tensor
    bits: Tensor

    @property
    def metadata_bytes(self) -> int:
        return sum(one.nbytes for one in (self.rows, self.columns, self.firsts, self.bits))

    def to(self, device: str | torch.device) -> "Placed":
        """On a device."""
        return Placed(*(one.to(device) for one in (self.rows, self.columns, self.firsts, self.bits)))


def placed(mask: Sparse, height: int, width: int, band: int) -> Placed:
    """The blocks of height x width of a mask, in bands of so many rows of blocks."""
    across, words = whole(mask.shape[1], width) // width, -(-width // WORD)
    rows = np.repeat(np.arange(mask.shape[0], dtype=np.int64), mask.row_lengths.numpy())
    down, right = rows // height, mask.columns.numpy().astype(np.int64)
    numbers = (down // band * across + right // width) * band + down % band
    blocks, block = np.unique(numbers, return_inverse=True)
    line, within = block * height + rows % height, right % width
    firsts = np.zeros(len(blocks) * height, np.int64)
    bits = np.zeros(len(firsts) * words, np.uint32)
    runs = begins(line)
    firsts[line[runs]] = runs
    word, bit = line * words + within // WORD, np.uint32(1) << (within % WORD).astype(np.uint32)
    runs = begins(word)
    if len(runs):
        bits[word[runs]] = np.bitwise_or.reduceat(bit, runs)
    above, column = np.divmod(blocks // band, across)
    return Placed(
        torch.from_numpy((above * band + blocks % band).astype(np.int32)),
        torch.from_numpy(column.astype(np.int32)),
        torch.from_numpy(firsts).to(mask.starts.dtype).view(-1, height),
        torch.from_numpy(bits.view(np.int32)).view(-1, height, words),
    )


def begins(numbers: np.ndarray) -> np.ndarray:
    """Where runs of equal numbers, none of them negative, begin."""
    return np.flatnonzero(np.diff(numbers, prepend=-1))
