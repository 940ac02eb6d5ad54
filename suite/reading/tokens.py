"""Tokens: rows of ops whose calls have n tokens, with the part of their sizes that is not n."""

from collections.abc import Collection, Sequence

import pandas as pd

from suite.reading.about import sizes_of
from suite.reading.frame import Rows
from suite.reading.row import Row

SHARED = ["device", "op", "shape", "dtype", "cache", "threads", "scope"]


def by_tokens(frame: pd.DataFrame, rows: Sequence[Row], ops: Collection[str]) -> tuple[Rows, list[Row]]:
    """The frame's rows of these ops that were timed, and those of `rows`, which are in the same order.

    shape: all sizes but n, in words.
    """
    at = [
        number
        for number, row in enumerate(rows)
        if row.first.op in ops and row.timed and "n" in row.first.sizes
    ]
    kept = [rows[number] for number in at]
    shapes = [sizes_of({name: size for name, size in row.first.sizes.items() if name != "n"}) for row in kept]
    return frame.iloc[at].reset_index(drop=True).assign(shape=shapes), kept


def share_of(structure: dict[str, float | None], name: str) -> float | None:
    """A share that a line states of its operand; None if it states none."""
    value = structure.get(name)
    return value if value is not None and 0 <= value <= 1 else None
