"""Turns: what each question about one context got for an answer: rows whose input judges answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from suite.reading.row import Row
from suite.reading.selected import SAME, selected
from suite.record import Result

FULL = " in full"  # ends the names of what attention in full got right
USED = "cache used"
MISCOUNT = "miscount"  # ends the names of what is better the less there is of it
NOT_ASKED = ("recall", "error", "cosine", USED)
TABLE = [*SAME, "pattern"]


@dataclass(frozen=True)
class Line:
    """A selector with its fastest kernel, or attention in full, which has no selector.

    worth: question -> the share of right answers, or how far off a count is; used: the share of the cache
    that some question looks at; read, seconds: bytes and time of one question; work: FLOPs, choosing
    included, over those of attention in full, None if they are not stated.
    """

    selector: str
    kernel: str
    worth: dict[str, float]
    used: float
    read: float | None
    seconds: float
    work: float | None
    speed_up: float | None = None
    control: str = ""


@dataclass(frozen=True)
class Asked:
    """One case: its questions, and a line for each method. extent: its sizes."""

    about: dict[str, Any]
    extent: dict[str, int]
    questions: list[str]
    lines: list[Line]


def asked(frame: pd.DataFrame, rows: Sequence[Row]) -> Iterator[Asked]:
    """Each judged case: attention in full, then selectors, the best at later questions first."""
    table = selected(frame, rows)
    known = {identity(row.first): row for row in rows}
    for _, same in table.groupby(TABLE, sort=False):
        fastest: Any = same.sort_values("median").groupby("selector", sort=False).head(1).itertuples()
        found = [(one, known[identity(one)]) for one in fastest]
        judged = [(one, row) for one, row in found if USED in quality_of(row)]
        if not judged:
            continue
        one, row = judged[0]
        questions = [name for name in worth(row) if not name.endswith(FULL)]
        lines = sorted((line(*pair) for pair in judged), key=lambda line: -later(line, questions))
        dense = known.get(identity(one, one.best_dense))
        yield Asked(
            same[TABLE].iloc[0].to_dict(),
            row.first.sizes,
            questions,
            ([in_full(row, dense, one.best_dense_median)] if dense else []) + lines,
        )


def identity(one: Any, entry: str | None = None) -> tuple:
    """By which a row of the frame and its lines know each other; of another entry, on the same case."""
    own = one.entry if isinstance(one, Result) else one.kernel
    return one.device, one.case, entry or own, one.cache, one.threads


def line(one: Any, row: Row) -> Line:
    """Of a selector, by its row of the frame and its lines."""
    n = row.first.sizes["n"]
    gain = None if pd.isna(one.speed_up) else one.speed_up
    used = quality_of(row)[USED]
    work = None if pd.isna(one.executed) or not one.whole else one.executed / one.whole
    return Line(
        one.selector, one.kernel, worth(row), used, read(row), one.median / n, work, gain, one.control
    )


def in_full(row: Row, dense: Row, seconds: float) -> Line:
    """Of the best dense kernel; what its answers are worth, every selector's lines say."""
    told = {name.removesuffix(FULL): value for name, value in worth(row).items() if name.endswith(FULL)}
    return Line("", dense.first.kernel, told, 1.0, read(dense), seconds / dense.first.sizes["n"], 1.0)


def quality_of(row: Row) -> dict[str, float]:
    """The same in every visit: answers are judged before any is timed."""
    return next(iter(row.timed.values())).quality


def worth(row: Row) -> dict[str, float]:
    """What answers to each question are worth."""
    return {name: value for name, value in quality_of(row).items() if name not in NOT_ASKED}


def read(row: Row) -> float | None:
    """Bytes of keys, values and of what finding them took, of one question."""
    told = next(iter(row.timed.values()))
    values, beside = told.bytes_values, told.bytes_metadata
    return None if values is None or beside is None else (values + beside) / told.sizes["n"]


def later(line: Line, questions: Sequence[str]) -> float:
    """Right answers to what was asked after the first question; to it, where there was no other."""
    right = [line.worth[name] for name in questions if not name.endswith(MISCOUNT)]
    after = right[1:] or right
    return sum(after) / len(after) if after else 0.0
