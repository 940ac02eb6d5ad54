"""Unpacking a bitmap in Triton: bits and packed values become the matrix with its zeros in place.

Positions go row by row, rows padded to whole words of 64. A program has a chunk of them: how many bits of it
are set before a position says which of the chunk's values stands there.
"""

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from suite.formats.bitmap import bitmap
from suite.kernel import Refused
from suite.sparse import INT32_MOST

WORD = 64  # positions
CHUNK = 1024  # positions of a program
WARPS = 4


@triton.jit
def lay_out(bits, firsts, values, dense, total, CHUNK: tl.constexpr):
    """dense: `total` positions, of which this program writes a chunk."""
    chunk = tl.program_id(0)
    at = tl.cast(chunk, tl.int64) * CHUNK + tl.arange(0, CHUNK)
    inside = at < total
    there = (tl.load(bits + at // 8, mask=inside, other=0).to(tl.int32) >> (at % 8).to(tl.int32)) & 1
    before = tl.cumsum(there, 0) - there
    found = tl.load(values + tl.load(firsts + chunk) + before, mask=there != 0, other=0.0)
    tl.store(dense + at, found, mask=inside)


@dataclass(frozen=True, eq=False)
class Bits:
    """bits: uint8; firsts: int32[chunks], where their values begin; dense: [m, padded k], written anew."""

    bits: Tensor
    firsts: Tensor
    values: Tensor
    dense: Tensor
    nonzeros: int

    @property
    def value_bytes(self):
        return self.nonzeros * self.values.itemsize

    @property
    def metadata_bytes(self):
        return self.bits.nbytes + self.firsts.nbytes + self.values.nbytes - self.value_bytes

    def lay_out(self):
        """Write the matrix with its zeros."""
        lay_out[(len(self.firsts),)](
            *(self.bits, self.firsts, self.values, self.dense, self.dense.numel()),
            CHUNK=CHUNK,
            num_warps=WARPS,
        )


def bits_of(a, device):
    """`a` as bits and values, and room for it with its zeros."""
    if a.nonzeros > INT32_MOST:
        raise Refused(f"{a.nonzeros} nonzeros; they are counted to {INT32_MOST}")
    held = bitmap(a.to("cpu"), 1, WORD)
    total = held.positions
    set_ = np.unpackbits(held.bits.numpy(), bitorder="little")
    counts = np.add.reduceat(set_, np.arange(0, total, CHUNK), dtype=np.int32)
    firsts = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int32)
    dense = torch.empty(a.shape[0], total // a.shape[0], dtype=a.dtype, device=device)
    parts = (held.bits, torch.from_numpy(firsts), held.values)
    return Bits(*(one.to(device) for one in parts), dense, held.nonzeros)
