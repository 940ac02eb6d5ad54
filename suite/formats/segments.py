"""Segments: rows as pieces of about equal work, longest first; a row too long for one piece is split.

A device that hands out pieces in order, to whichever of its processors is free, then ends with short ones.
The pieces of split rows come before all whole rows: what each sums up to is kept apart and added up later.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Segments:
    """Runs of entries, each of one row; every row has one, an empty row an empty one.

    rows: int32[segments]; firsts, ends: [segments], entries of a segment, in the type of the row starts.
    split: int32[rows that are split]; edges: int32[one more]: the segments of each such row, the first ones.
    """

    rows: Tensor
    firsts: Tensor
    ends: Tensor
    split: Tensor
    edges: Tensor

    @property
    def shared(self) -> int:
        """How many segments are parts of split rows; they are numbered first."""
        return int(self.edges[-1])

    @property
    def lengths(self) -> Tensor:
        return self.ends.long() - self.firsts.long()

    @property
    def metadata_bytes(self) -> int:
        return sum(one.nbytes for one in (self.rows, self.firsts, self.ends, self.split, self.edges))

    def to(self, device: str | torch.device) -> "Segments":
        """On a device."""
        return Segments(
            *(one.to(device) for one in (self.rows, self.firsts, self.ends, self.split, self.edges))
        )


def segments(starts: Tensor, longest: int) -> Segments:
    """Rows that begin at `starts` in segments of at most so many entries; split rows evenly."""
    begins = starts.numpy().astype(np.int64)
    lengths = np.diff(begins)
    pieces = np.maximum(1, -(-lengths // longest))
    order = np.lexsort((-lengths, pieces == 1))  # stable: neighbours of a length stay neighbours
    pieces, lengths, begins = pieces[order], lengths[order], begins[order]
    rows = np.repeat(order, pieces)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    count, length = np.repeat(pieces, pieces), np.repeat(lengths, pieces)
    firsts = np.repeat(begins, pieces) + length * number // count
    ends = np.repeat(begins, pieces) + length * (number + 1) // count
    split = pieces > 1
    edges = np.concatenate(([0], np.cumsum(pieces[split])))
    index = starts.dtype
    return Segments(
        torch.from_numpy(rows.astype(np.int32)),
        torch.from_numpy(firsts).to(index),
        torch.from_numpy(ends).to(index),
        torch.from_numpy(order[split].astype(np.int32)),
        torch.from_numpy(edges.astype(np.int32)),
    )
