"""Monarch: two block-diagonal factors with a permutation between them, one standing upon the other.

Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate Training", ICML 2022. The
weight has no zeros; its factors have. There, blocks times groups is the number of columns.
"""

import numpy as np

from suite.pattern import Pattern, Positions, pattern
from suite.patterns.positions import from_equal_rows


@pattern("monarch{blocks}x{groups}")
class Monarch(Pattern):
    """Of the op `factored`: k rows that read the k inputs, and below them m that read what those answer.

    Of the upper rows, each block meets a block of the inputs. Of the lower ones, row i is of group i modulo
    groups, and meets the part of its number from every block. So the upper factor keeps 1 / blocks of its
    positions, the lower one 1 / groups. Nothing is random: the seed draws values only.
    """

    blocks: int
    groups: int
    ops = ("factored",)

    def faults(self, m: int, k: int) -> list[str]:
        if min(self.blocks, self.groups) < 2:
            return [f"{self} has {self.blocks} blocks and {self.groups} groups; there are at least 2 of each"]
        lower, parts = m - k, self.blocks * self.groups
        said = [f"{self} cuts inputs into {parts} parts, got {k}"] if k % parts else []
        if lower < 1 or lower % self.groups:
            said.append(f"{self} deals outputs to {self.groups} groups, got {lower}")
        return said

    def count(self, m: int, k: int) -> int:
        return k * (k // self.blocks) + (m - k) * (k // self.groups)

    def positions(self, m: int, k: int, seed: int) -> Positions:
        width, lower = k // self.blocks, m - k
        part = width // self.groups
        each = np.arange(k, dtype=np.int32)
        upper = each // width * width
        below = each.reshape(self.blocks, self.groups, part).swapaxes(0, 1).reshape(self.groups, -1)
        first = from_equal_rows(upper[:, None] + np.arange(width, dtype=np.int32))
        second = from_equal_rows(below[np.arange(lower) % self.groups])
        starts = np.concatenate((first[0], first[0][-1] + second[0][1:]))
        return starts, np.concatenate((first[1], second[1]))
