"""Groups of codes: of each group of 32 weights along a row that is kept, codes of 4 or 2 bits and a scale.

A bit says of each group of a row whether it is kept: GQSA's format (Zeng et al., arXiv 2412.17560), where
half of all groups at 4 bits take as much as all of them at 2, but for these bits. Where nothing is left out
there are none.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.case import Case
from suite.formats.bsr import SMALL, bsr, fullness, whole
from suite.kernel import Refused
from suite.pattern import Pattern
from suite.quantized import GROUP, reach
from suite.sparse import Sparse, from_positions

WORD = 64  # groups of which a word says whether they are kept
AT_A_TIME = 2**19  # groups whose codes are looked for
LEAST_FULL = 0.5  # share of nonzeros in groups, below which all of a row is better read at once


@dataclass(frozen=True, eq=False)
class Quantized:
    """An m x k matrix. Code c stands for c - 2^(bits - 1), times its group's scale.

    codes: int16[groups, 2 * bits]: position p of a group is in word p % (2 * bits), shifted left by bits for
    each 2 * bits positions before it; scales: bfloat16[groups]; starts: int64[m + 1], the first group of each
    row; kept: int64[m, words], a bit for each group of a row, or None if all are.
    """

    codes: Tensor
    scales: Tensor
    starts: Tensor
    kept: Tensor | None
    shape: tuple[int, int]
    bits: int

    @property
    def value_bytes(self) -> int:
        return self.codes.nbytes

    @property
    def metadata_bytes(self) -> int:
        """Of scales, and of where groups stand; without bits there is no need of starts."""
        return self.scales.nbytes + (self.kept.nbytes + self.starts.nbytes if self.kept is not None else 0)


def quantized(a: Sparse, bits: int) -> Quantized:
    """The groups of `a` that hold a nonzero.

    Refused: values that are not codes times a scale; a large matrix whose groups are mostly zeros.
    """
    blocks = bsr(a, 1, GROUP)
    full = a.nonzeros / max(1, blocks.values.numel())
    if full < LEAST_FULL and a.shape[0] * a.shape[1] > SMALL:
        raise Refused(emptiness(full))
    (m, k), kept = a.shape, np.zeros((a.shape[0], whole(across(a.shape), WORD)), bool)
    rows = np.repeat(np.arange(m), blocks.starts.diff().numpy())
    kept[rows, blocks.columns.numpy()] = True
    words = np.packbits(kept, axis=1, bitorder="little").view(np.int64)
    codes, scales = coded(blocks.values[:, 0], bits)
    return Quantized(codes, scales, blocks.starts.long(), torch.from_numpy(words), (m, k), bits)


def quantized_whole(a: Sparse, bits: int) -> Quantized:
    """All groups of `a`, zeros in place. Refused: values that are not codes times a scale."""
    groups = across(a.shape)
    padded = torch.nn.functional.pad(a.dense, (0, groups * GROUP - a.shape[1]))
    codes, scales = coded(padded.view(-1, GROUP), bits)
    return Quantized(codes, scales, torch.arange(a.shape[0] + 1) * groups, None, a.shape, bits)


def hollow(case: Case) -> list[str]:
    """The complaint that groups would be mostly zeros, where that is known before the matrix is there."""
    full = fullness(case, 1, GROUP)
    return [emptiness(full)] if full < LEAST_FULL else []


def emptiness(full: float) -> str:
    return f"needs nonzeros side by side: groups of {GROUP} would be {full:.0%} full"


def across(shape: tuple[int, int]) -> int:
    """Groups of a row."""
    return -(-shape[1] // GROUP)


def coded(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes as they are packed, int16[groups, 2 * bits], and scales, bfloat16[groups], of [groups, 32]."""
    parts = [packed(*codes_of(part, bits), bits) for part in values.split(AT_A_TIME)]
    codes, scales = zip(*parts, strict=True) if parts else ((), ())
    nothing = torch.empty(0, 2 * bits, dtype=torch.int16), torch.empty(0, dtype=torch.bfloat16)
    return torch.cat((nothing[0], *codes)), torch.cat((nothing[1], *scales))


def codes_of(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Whole numbers [groups, 32] and scales [groups] whose products are these values, exactly."""
    values = values.float()
    largest = values.abs().amax(1)
    codes, scales = torch.zeros_like(values), torch.ones_like(largest)
    left = (largest > 0).nonzero()[:, 0]
    for most in range(reach(bits), 0, -1):  # what the largest is a code of
        scale = (largest[left] / most).bfloat16().float()
        code = (values[left] / scale[:, None]).round()
        same = (code * scale[:, None] == values[left]).all(1)
        fits = same & (code >= -reach(bits)).all(1) & (code < reach(bits)).all(1)
        codes[left[fits]], scales[left[fits]] = code[fits], scale[fits]
        left = left[~fits]
    if len(left):
        raise Refused(f"{len(left)} groups of {GROUP} values are not codes of {bits} bits times one scale")
    return codes, scales


def packed(codes: Tensor, scales: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes in words of 16 bits."""
    unsigned = (codes + reach(bits)).to(torch.int32).view(len(codes), 16 // bits, 2 * bits)
    words = torch.zeros(len(codes), 2 * bits, dtype=torch.int32)
    for turn in range(16 // bits):
        words |= unsigned[:, turn] << (turn * bits)
    return words.to(torch.int16), scales.bfloat16()


def unpacked(held: Quantized) -> Tensor:
    """What the codes of each group stand for, bfloat16[groups, 32]."""
    shifts = torch.arange(0, 16, held.bits)[:, None]
    codes = held.codes[:, None].int() >> shifts & (2 * reach(held.bits) - 1)
    return ((codes.flatten(1) - reach(held.bits)) * held.scales[:, None].float()).bfloat16()


def unquantized(held: Quantized, pattern: Pattern) -> Sparse:
    """The matrix that was put into codes, but for its stored zeros."""
    m, k = held.shape
    dense = torch.zeros(m, across(held.shape), GROUP, dtype=torch.bfloat16)
    if held.kept is None:
        dense.view(-1, GROUP)[:] = unpacked(held)
    else:
        bits = np.unpackbits(held.kept.numpy().view(np.uint8), axis=1, bitorder="little")
        dense[torch.from_numpy(bits[:, : dense.shape[1]].astype(bool))] = unpacked(held)
    flat = dense.flatten(1)[:, :k]
    rows, columns = (each.numpy() for each in flat.nonzero(as_tuple=True))
    starts = np.searchsorted(rows, np.arange(m + 1))
    return from_positions(starts, columns, flat[rows, columns], held.shape, pattern)
