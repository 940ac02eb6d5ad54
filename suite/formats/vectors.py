"""Vectors: columns of a few rows that hold a nonzero, gathered by sixteen, whatever columns they are.

A row of vectors is a window of the matrix; its vectors come in the order of their columns, and the last
sixteen are filled up with zeros. Beside a nonzero a vector holds at most seven zeros, a 16 x 16 block 255.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from suite.formats.bsr import bsr
from suite.sparse import Sparse

TOGETHER, HIGH, LANES = 16, 8, 32


@dataclass(frozen=True, eq=False)
class Vectors:
    """An m x k matrix as vectors of eight rows, sixteen together.

    starts: int32[windows + 1], in sixteens; columns: int32[sixteens, 16], -1 where there is none; values: the
    case's dtype [sixteens, 16, 8].
    """

    starts: Tensor
    columns: Tensor
    values: Tensor


def vectors(a: Sparse) -> Vectors:
    """`a` in windows of eight rows."""
    single = bsr(a, HIGH, 1)
    lengths = single.starts.long().diff()
    starts = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    starts[1:] = (-(-lengths // TOGETHER)).cumsum(0)
    within = torch.arange(len(single.columns)) - torch.repeat_interleave(single.starts[:-1].long(), lengths)
    at = torch.repeat_interleave(starts[:-1].long() * TOGETHER, lengths) + within
    columns = torch.full((int(starts[-1]) * TOGETHER,), -1, dtype=torch.int32)
    columns[at] = single.columns
    values = torch.zeros(len(columns), HIGH, dtype=a.dtype)
    values[at] = single.values.squeeze(2)
    return Vectors(starts, columns.view(-1, TOGETHER), values.view(-1, TOGETHER, HIGH))


def fragments(values: Tensor) -> Tensor:
    """[..., 16, 8] as [..., 32, 4]: what each lane holds, as operand B of mma.m16n8k16 is held."""
    return values.flatten(-2)[..., order()].unflatten(-1, (LANES, -1)).contiguous()


@cache
def order() -> Tensor:
    """The position in sixteen vectors of each number that the lanes hold: int64[128].

    Lane 4g + t has of row g the vectors 2t and 2t + 1, and those eight further on.
    """
    lane, register, half = np.meshgrid(np.arange(LANES), np.arange(2), np.arange(2), indexing="ij")
    vector = 2 * (lane % 4) + half + 8 * register
    return torch.from_numpy((HIGH * vector + lane // 4).ravel())
