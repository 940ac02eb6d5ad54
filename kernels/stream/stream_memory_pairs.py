"""Pairs from memory: of 2:4, two values of every four and two bits for the place of each are brought over.

The form that sparse tensor cores take; 16-bit weights take 0.5625 of their dense size, as a bitmap does.

Bad at: patterns other than 2:4, which it does not take.
"""

import numpy as np
import torch

from suite.kernel import Refused, kernel
from suite.kernels.stream import rows, streaming
from suite.kernels.stream.media import Memory
from suite.patterns.n_of_m import NofM

TWO_OF_FOUR = NofM(2, 4)


def keep(band):
    """Places of a row, four a byte, the first in the lowest bits; its last byte may be half empty."""
    m, k = band.shape
    if not bool((band.row_lengths == k // 2).all()):
        raise Refused(f"some row does not keep {k // 2} of its {k} columns")
    columns = band.columns.numpy().reshape(m, k // 2)
    if (columns // 4 != np.arange(k // 2) // 2).any():
        raise Refused("some group of four columns does not keep two")
    padded = np.zeros((m, -(-k // 8) * 4), np.uint8)
    padded[:, : k // 2] = columns % 4
    packed = np.bitwise_or.reduce(padded.reshape(m, -1, 4) << np.arange(0, 8, 2, dtype=np.uint8), axis=2)
    return band.values, torch.from_numpy(packed)


FORM = streaming.unpacked(keep, lambda staged, dense: rows.unpack("pairs", *staged, into=dense))


def refuse(case, device):
    reasons = streaming.refuse(case, device)
    if case.pattern != TWO_OF_FOUR:
        reasons.append(f"takes {TWO_OF_FOUR} alone; got {case.pattern}")
    return reasons


@kernel(
    op="stream_memory",
    dtypes=("float32", "bfloat16"),
    patterns=(NofM,),
    divides={"k": 4},
    live_order="columns",
    refuse=refuse,
    ids=("endor",),
)
def stream_memory_pairs(a, b):
    """2:4 values and places, from memory, unpacked."""
    return streaming.streamed(a, b, FORM, Memory)
