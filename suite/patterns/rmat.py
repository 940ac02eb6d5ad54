"""R-MAT: a few rows and columns hold most nonzeros, as in social networks and the web.

Chakrabarti, Zhan and Faloutsos, "R-MAT: A Recursive Model for Graph Mining", SDM 2004; with the probabilities
of the Graph500 benchmark.
"""

from math import comb

import numpy as np

from suite.pattern import Pattern, Positions, pattern, rounded, sparsity_faults
from suite.patterns.positions import AT_ONCE, distinct, from_flat

A, B, C, D = 0.57, 0.19, 0.19, 0.05  # of the quadrants: upper left, upper right, lower left, lower right
TOSS_COST = 8  # positions that are tossed for in the time of one draw


@pattern("rmat@{sparsity}", family="power-law")
class Rmat(Pattern):
    """Positions drawn quadrant by quadrant until enough different ones are there.

    Sides are rounded up to powers of two, and draws outside the matrix do not count. Where m and k differ,
    the last levels halve the longer side only.
    """

    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        return sparsity_faults(self.sparsity)

    def count(self, m: int, k: int) -> int:
        return rounded(self.sparsity, m * k)

    def positions(self, m: int, k: int, seed: int) -> Positions:
        count, rng = self.count(m, k), np.random.default_rng([seed, 0])
        draws = draws_needed(count, m, k)
        rare = draws * TOSS_COST < m * k
        return from_flat(draw(count, m, k, rng) if rare else toss(count, m, k, draws, rng), m, k)


def levels(m: int, k: int) -> tuple[int, int, int]:
    """Halvings of both sides, then of the rows alone, then of the columns alone."""
    rows, columns = (m - 1).bit_length(), (k - 1).bit_length()
    both = min(rows, columns)
    return both, rows - both, columns - both


def draws_needed(count: int, m: int, k: int) -> float:
    """About how many draws give `count` different positions; rather too many."""
    both, rows, columns = levels(m, k)
    single = rows + columns  # the rarer half has probability C + D, and B + D is the same
    weights, positions = [], []
    for twice in range(both + 1):  # levels that went to D
        for once in range(both - twice + 1):  # levels that went to B or C
            for alone in range(single + 1):
                weights.append(
                    A ** (both - twice - once)
                    * B**once
                    * D**twice
                    * (A + B) ** (single - alone)
                    * (C + D) ** alone
                )
                positions.append(
                    comb(both, twice) * comb(both - twice, once) * 2.0**once * comb(single, alone)
                )
    weight, number = np.array(weights), np.array(positions)
    wanted = count / (m * k) * number.sum()
    low, high = 0.0, 200.0  # base-2 logarithms
    while high - low > 0.01:
        middle = (low + high) / 2
        enough = -(number * np.expm1(-weight * 2.0**middle)).sum() >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return 2.0**high


def draw(count: int, m: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Draw what is missing until nothing is."""
    drawn = np.empty(0, np.int64)
    while missing := count - len(drawn):
        parts = [quadrants(min(AT_ONCE, missing - first), m, k, rng) for first in range(0, missing, AT_ONCE)]
        fresh = distinct(np.concatenate(parts))
        if len(drawn):
            at = np.searchsorted(drawn, fresh)
            new = drawn[np.minimum(at, len(drawn) - 1)] != fresh
            fresh = np.insert(drawn, at[new], fresh[new])
        drawn = fresh
    return drawn


def quadrants(draws: int, m: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of so many draws, numbered row by row; those outside are dropped."""
    first, second, third = (round(edge * 2**16) for edge in (A, A + B, A + B + C))
    half = round((A + B) * 2**16)
    both, more_rows, more_columns = levels(m, k)
    rows, columns = np.zeros(draws, np.int64), np.zeros(draws, np.int64)
    for level in range(both + more_rows + more_columns):
        number = np.frombuffer(rng.bytes(2 * draws), np.uint16)
        if level < both:
            lower = number >= second
            right = (number >= first) ^ lower ^ (number >= third)
        else:
            lower = right = number >= half
        if level < both or more_rows:
            rows = rows << 1 | lower
        if level < both or more_columns:
            columns = columns << 1 | right
    inside = (rows < m) & (columns < k)
    return rows[inside] * k + columns[inside]


def toss(count: int, m: int, k: int, draws: float, rng: np.random.Generator) -> np.ndarray:
    """The first `count` positions to come up, by when each first comes up.

    That moment is exponential, with the position's probability as its rate. Drawing until rare positions have
    come up would never end; the moments can be had directly.
    """
    if count == m * k:
        return np.arange(count)
    rates = Rates(m, k)
    step = max(1, AT_ONCE // k)
    while True:
        found: list[np.ndarray] = []
        when: list[np.ndarray] = []
        for top in range(0, m, step):
            rate = rates.rows(top, min(m, top + step))
            moment = rng.standard_exponential(rate.size, np.float32)
            at = np.flatnonzero(moment < rate * np.float32(draws))
            found.append(at + top * k)
            when.append(moment[at] / rate[at])
        flat, moments = np.concatenate(found), np.concatenate(when)
        if len(flat) >= count:
            late = np.argpartition(moments, count)[count:] if len(flat) > count else []
            return np.delete(flat, late)
        draws *= 1.5


class Rates:
    """The probability of each position: factors of its row, of its column, and of each bit both have set."""

    def __init__(self, m: int, k: int) -> None:
        both, more_rows, more_columns = levels(m, k)
        self.row = (A**both * share(m, both, more_rows)).astype(np.float32)
        self.column = share(k, both, more_columns).astype(np.float32)
        self.row_high, self.row_low = np.divmod(np.arange(m) >> more_rows, 1 << both // 2)
        column_high, column_low = np.divmod(np.arange(k) >> more_columns, 1 << both // 2)
        self.high = shared_bits(both - both // 2)[:, column_high]
        self.low = shared_bits(both // 2)[:, column_low] * self.column

    def rows(self, first: int, last: int) -> np.ndarray:
        """Of rows first to last (exclusive), flat."""
        rate = self.high[self.row_high[first:last]]
        rate *= self.low[self.row_low[first:last]]
        rate *= self.row[first:last, None]
        return rate.reshape(-1)


def share(size: int, both: int, more: int) -> np.ndarray:
    """What a row's or column's own bits contribute, that both sides' bits are zero taken as one."""
    number = np.arange(size)
    ones = sum((number >> bit & 1 for bit in range(more, more + both)), np.zeros(size, np.int64))
    lone = sum((number >> bit & 1 for bit in range(more)), np.zeros(size, np.int64))
    return (B / A) ** ones * (A + B) ** (more - lone) * (C + D) ** lone


def shared_bits(bits: int) -> np.ndarray:
    """(A D / B C) to the power of how many bits i and j both have set, for all i and j of so many bits."""
    table = np.ones((1, 1), np.float32)
    for _ in range(bits):
        table = np.kron(table, np.array([[1, 1], [1, A * D / (B * C)]], np.float32))
    return table
