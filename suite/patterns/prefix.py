"""Shared prefix: one prompt and two answers behind it, which do not see each other.

What training on preferences has: a prompt, an answer that was preferred, and one that was not. Packed into
one sequence, the prompt is worked through once instead of twice, and nothing is approximated.
Wang and Hegde, "Accelerating Direct Preference Optimization with Prefix Sharing", 2024.
"""

import numpy as np

from suite.pattern import Pattern, Positions, pattern
from suite.patterns.positions import from_templates, runs


@pattern("prefix{prompt}:{first}:{second}", family="shared prefix")
class Prefix(Pattern):
    """A mask of blocks: the prompt sees itself, each answer the prompt and itself.

    Lengths are to each other as these numbers, up to whole blocks. The k rows of a head repeat for the next.
    Nothing is random.
    """

    ops = ("attention", "attention_causal")

    prompt: int
    first: int
    second: int

    def faults(self, m: int, k: int) -> list[str]:
        least = min(self.prompt, self.first, self.second)
        return [] if least else [f"{self} has a part of no length"]

    def ends(self, k: int) -> tuple[int, int]:
        """Where the prompt ends, and the first answer."""
        whole = self.prompt + self.first + self.second
        return k * self.prompt // whole, k * (self.prompt + self.first) // whole

    def count(self, m: int, k: int) -> int:
        lengths = self._own(k)[1] + self.ends(k)[0]
        heads, more = divmod(m, k)
        return heads * int(lengths.sum()) + int(lengths[:more].sum())

    def positions(self, m: int, k: int, seed: int) -> Positions:
        prompt, _ = self.ends(k)
        own, lengths = self._own(k)
        firsts = np.stack((np.zeros(k, np.int64), own), axis=1)
        parts = np.stack((np.full(k, prompt), lengths), axis=1)
        starts = np.concatenate(([0], np.cumsum(parts.sum(axis=1))))
        columns = runs(firsts.ravel(), parts.ravel()).astype(np.int32)
        return from_templates(starts, columns, np.arange(m) % k)

    def _own(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each row, beside the prompt: first column and number of them."""
        prompt, first = self.ends(k)
        firsts = np.repeat((0, prompt, first), (prompt, first - prompt, k - first))
        lengths = np.repeat((0, first - prompt, k - first), (prompt, first - prompt, k - first))
        return firsts, lengths
