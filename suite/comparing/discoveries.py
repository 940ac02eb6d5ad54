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


def bars(found: Sequence[float], level: float) -> list[float]:
    """For each test the p-value up to which it would be reported, the others being what they are.

    That is the share of the level which falls to as many as would be reported if its own were 0. The more of
    the others are, the higher it is.
    """
    count = len(found)
    order = sorted(range(count), key=found.__getitem__)
    reported = max((rank for rank, at in enumerate(order, 1) if found[at] <= level * rank / count), default=0)
    made, before = [0.0] * count, 1
    for rank, at in enumerate(order, 1):
        made[at] = level * (reported if rank <= reported else before) / count
        if found[at] <= level * (rank + 1) / count:
            before = rank + 1  # with one more in front of it, it would be among them
    return made
