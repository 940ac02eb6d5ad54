"""Positions: what patterns share to turn random draws into compressed rows, never into a dense mask."""

from itertools import combinations
from math import comb

import numpy as np

from suite.pattern import Positions

TOSSED = 1 / 64  # density from which tossing a coin for each position beats drawing positions
TABLE_MOST = 2**18  # entries of a table of all combinations; it stays in the cache
AT_ONCE = 2**22  # random numbers in memory at a time


def choose(among: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` distinct numbers below `among`, ascending; every such set is equally likely."""
    if count == among:
        return np.arange(among)
    chosen = toss(among, count, rng) if count >= TOSSED * among else draw(among, count, rng)
    excess = rng.choice(len(chosen), len(chosen) - count, replace=False)
    return np.delete(chosen, excess)


def toss(among: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """A uniform set of at least `count`: a coin for each number, weighted to give a few too many."""
    weight = (count + 5 * count**0.5 + 5) / among
    while True:
        parts = []
        for first in range(0, among, AT_ONCE):
            coins = rng.random(min(AT_ONCE, among - first), np.float32)
            parts.append(np.flatnonzero(coins < weight) + first)
        chosen = np.concatenate(parts)
        if len(chosen) >= count:
            return chosen


def draw(among: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """A uniform set of at least `count`: numbers drawn until there are enough different ones."""
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:
        more = int((count - len(drawn)) * 1.05) + 16
        drawn = distinct(np.concatenate((drawn, rng.integers(0, among, more))))
    return drawn


def distinct(numbers: np.ndarray) -> np.ndarray:
    """The different numbers, ascending; by sorting, for np.unique hashes and takes many times as long."""
    numbers = np.sort(numbers)
    return numbers[np.diff(numbers, prepend=-1) > 0]


def pick(groups: int, keep: int, of: int, rng: np.random.Generator) -> np.ndarray:
    """For each group, `keep` distinct numbers below `of`, ascending: int32[groups, keep]."""
    if not groups or not keep:
        return np.empty((groups, keep), np.int32)
    if comb_at_most(of, keep, TABLE_MOST):
        table = np.array(list(combinations(range(of), keep)), np.int32).reshape(-1, keep)
        return table[rng.integers(0, len(table), groups, np.uint32)]
    if keep**2 <= of:
        return pick_few(groups, keep, of, rng)
    step = max(1, AT_ONCE // of)
    return np.concatenate(
        [pick_by_rank(min(step, groups - first), keep, of, rng) for first in range(0, groups, step)]
    )


def comb_at_most(of: int, keep: int, entries: int) -> bool:
    """Whether a table of all choices has no more than so many entries, found without giant numbers."""
    if min(keep, of - keep) > 1 and of > 64:
        return comb(of, 2) * keep <= entries and comb(of, keep) * keep <= entries
    return comb(of, keep) * keep <= entries


def pick_few(groups: int, keep: int, of: int, rng: np.random.Generator) -> np.ndarray:
    """Draw, and draw a group anew where a number came twice: with few of many, that is seldom."""
    picked = np.empty((groups, keep), np.int32)
    left = np.arange(groups)
    while len(left):
        drawn = np.sort(rng.integers(0, of, (len(left), keep), np.int32), axis=1)
        picked[left] = drawn
        left = left[(drawn[:, 1:] == drawn[:, :-1]).any(axis=1)]
    return picked


def pick_by_rank(groups: int, keep: int, of: int, rng: np.random.Generator) -> np.ndarray:
    """Give each number a random key and keep the smallest keys."""
    keys = rng.random((groups, of), np.float32)
    edge = np.partition(keys, keep - 1, axis=1)[:, keep - 1 : keep]
    chosen = keys <= edge
    for group in np.flatnonzero(chosen.sum(axis=1) != keep):  # two keys alike, just at the edge
        chosen[group] = False
        chosen[group, np.argsort(keys[group], kind="stable")[:keep]] = True
    return (np.flatnonzero(chosen) % of).astype(np.int32).reshape(groups, keep)


def from_flat(flat: np.ndarray, m: int, k: int) -> Positions:
    """Compressed rows of positions numbered row by row, ascending."""
    ends = np.arange(m + 1, dtype=np.int64) * k
    starts = np.searchsorted(flat, ends)
    return starts, (flat - np.repeat(ends[:-1], np.diff(starts))).astype(np.int32)


def to_flat(starts: np.ndarray, columns: np.ndarray, k: int) -> np.ndarray:
    """Positions of compressed rows of k columns numbered row by row: what `from_flat` takes back."""
    return np.repeat(np.arange(len(starts) - 1, dtype=np.int64) * k, np.diff(starts)) + columns


def from_equal_rows(columns: np.ndarray) -> Positions:
    """Compressed rows of a table of columns: every row has as many."""
    m, width = columns.shape
    return np.arange(m + 1, dtype=np.int64) * width, columns.reshape(-1)


def runs(firsts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """first, first + 1, ... for each length, one after another."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(firsts - (ends - lengths), lengths)


def from_templates(starts: np.ndarray, columns: np.ndarray, which: np.ndarray) -> Positions:
    """Compressed rows where row i is a copy of template row `which[i]`."""
    lengths = np.diff(starts)[which]
    return np.concatenate(([0], np.cumsum(lengths))), columns[runs(starts[which], lengths)].astype(
        np.int32, copy=False
    )
