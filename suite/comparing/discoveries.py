"""Discoveries: many tests at once. Of a hundred equal kernels one looks changed at p < 0.01.

Benjamini and Hochberg (JRSS B 1995): of the changes reported, no more than `level` are expected to be false.
"""

from collections.abc import Sequence


def adjusted(found: Sequence[float]) -> list[float]:
    """For each p-value the lowest level at which it would be reported."""
    count, made, least = len(found), [1.0] * len(found), 1.0
    for rank, at in reversed(list(enumerate(sorted(range(count), key=found.__getitem__), 1))):
        least = min(least, found[at] * count / rank)
        made[at] = least
    return made


def bar(found: Sequence[float], level: float) -> float:
    """The p-value that one more change would have had to stay below to be reported."""
    reported = sum(one <= level for one in adjusted(found))
    return level * min(len(found), reported + 1) / max(1, len(found))
