"""Flat block butterfly: the factors of a butterfly matrix added up, in blocks, instead of multiplied.

Dao et al., "Pixelated Butterfly: Simple and Efficient Sparse Training for Neural Network Models", ICLR 2022.
A fixed pattern: after as many layers as a block's number has bits, every input has reached every output.
"""

import numpy as np

from suite.pattern import Pattern, Positions, pattern
from suite.patterns.block import block_rows
from suite.patterns.positions import from_templates, runs


@pattern("butterfly{size}")
class Butterfly(Pattern):
    """Block i meets block i and every block whose number differs from i in one bit.

    Of b x b blocks, b a power of two, (1 + log2 b) / b are kept. For another b the partners that do not
    exist fall out. In a rectangle the shorter side sets b, and the longer side's blocks share its partners
    evenly. Blocks at a ragged edge hold what is left of them. Nothing is random: the seed draws values only.
    """

    size: int

    def faults(self, m: int, k: int) -> list[str]:
        return (
            []
            if self.size > 0
            else [f"{self} has blocks of {self.size} x {self.size}; the side is at least 1"]
        )

    def count(self, m: int, k: int) -> int:
        starts, _ = self._templates(m, k)
        heights = np.minimum(self.size, m - np.arange(len(starts) - 1) * self.size)
        return int(heights @ np.diff(starts))

    def positions(self, m: int, k: int, seed: int) -> Positions:
        starts, columns = self._templates(m, k)
        return from_templates(starts, columns, np.arange(m) // self.size)

    def _templates(self, m: int, k: int) -> Positions:
        """One row for each row of blocks."""
        down, across = -(-m // self.size), -(-k // self.size)
        short = min(down, across)
        partners = butterfly(short)
        upper, left = partners // short, partners % short
        if down > across:  # each partner of a short row stands in several long ones
            firsts, upto = stretch(upper, short, down)
            lengths = upto - firsts
            flat = runs(firsts, lengths) * across + np.repeat(left, lengths)
        else:
            firsts, upto = stretch(left, short, across)
            flat = runs(upper * across + firsts, upto - firsts)
        return block_rows(np.sort(flat), down, across, self.size, k)


def butterfly(blocks: int) -> np.ndarray:
    """Pairs (i, i) and (i, i xor 2^t), numbered row by row."""
    each = np.arange(blocks)
    partners = [each, *(each ^ (1 << bit) for bit in range((blocks - 1).bit_length()))]
    pairs = [each[other < blocks] * blocks + other[other < blocks] for other in partners]
    return np.concatenate(pairs)


def stretch(block: np.ndarray, short: int, long: int) -> tuple[np.ndarray, np.ndarray]:
    """The blocks of the longer side that stand for a block of the shorter: first, and one past the last."""
    return -(-block * long // short), -(-(block + 1) * long // short)
