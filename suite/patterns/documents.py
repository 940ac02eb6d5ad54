"""Packed documents: each sees itself alone, and a query at the end sees all of them.

What ranking documents in one prompt has: work grows with their number, not with its square, and the query's
weight on each says how it ranks. Gupta et al., "Scalable In-context Ranking with Generative Models", 2025.
"""

import numpy as np

from suite.pattern import Pattern, Positions, pattern
from suite.patterns.positions import from_templates, runs


@pattern("documents{documents}:{query}", family="packed documents")
class Documents(Pattern):
    """A mask of blocks: so many documents as alike in length as whole blocks allow, and a query of so many.

    The k rows of a head repeat for the next. Where k is less than the query, all of it is query. Nothing is
    random.
    """

    ops = ("attention", "attention_causal")

    documents: int
    query: int  # blocks

    def faults(self, m: int, k: int) -> list[str]:
        return [] if self.documents else [f"{self} has no documents"]

    def bounds(self, k: int) -> np.ndarray:
        """Where each document begins, and where the query does."""
        return np.arange(self.documents + 1) * max(0, k - self.query) // self.documents

    def count(self, m: int, k: int) -> int:
        _, lengths = self._seen(k)
        heads, more = divmod(m, k)
        return heads * int(lengths.sum()) + int(lengths[:more].sum())

    def positions(self, m: int, k: int, seed: int) -> Positions:
        firsts, lengths = self._seen(k)
        starts = np.concatenate(([0], np.cumsum(lengths)))
        return from_templates(starts, runs(firsts, lengths).astype(np.int32), np.arange(m) % k)

    def _seen(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each row: first column and number of them."""
        bounds = self.bounds(k)
        sizes = np.diff(bounds)
        query = k - bounds[-1]
        firsts = np.concatenate((np.repeat(bounds[:-1], sizes), np.zeros(query, np.int64)))
        return firsts, np.concatenate((np.repeat(sizes, sizes), np.full(query, k)))
