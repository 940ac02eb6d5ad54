"""Curves: the best sparse kernel's speed-up against sparsity, all else equal, and where it crosses dense."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean
from typing import NamedTuple

import pandas as pd

from suite.reading.crossover import Crossover, Point, crossover
from suite.reading.frame import Rows
from suite.reading.units import percent

GROUP = ["device", "workload", "op", "line", "sizes", "dtype", "scope", "cache", "threads", "data"]

NO_DENSE = "no dense kernel was run: --kernels takes several, with commas"

Verdict = bool | None
"""Faster, not faster, or not known."""


class Cell(NamedTuple):
    """Of a row of the frame, what makes a curve. There are too many curves to ask pandas for each."""

    case: str
    dense: bool
    best: bool
    sparsity: float
    speed_up: float
    speed_up_low: float
    speed_up_high: float


@dataclass(frozen=True)
class Group:
    """One curve: the same work at several sparsities, and where it crosses dense."""

    device: str
    workload: str
    op: str
    line: str  # the pattern without its sparsity: "block16x32", "N:M"
    family: str
    sizes: str
    regime: str
    dtype: str
    cache: str
    data: str
    crossover: Crossover
    points: tuple[Point, ...]
    missing: tuple[str, ...]  # sparsities that were tried, but have no speed-up
    rows: Rows

    @property
    def best(self) -> Point | None:
        """The point the verdict speaks of: where any is clearly faster, the fastest of those."""
        able = [point for point in self.points if point.side == 1] or self.points
        return max(able, key=lambda point: point.speed_up, default=None)

    @property
    def verdict(self) -> Verdict:
        """Whether any sparsity is clearly faster, or all are clearly slower. None: one cannot say."""
        sides = {point.side for point in self.points}
        return True if 1 in sides else False if sides == {-1} else None


def groups(frame: pd.DataFrame) -> list[Group]:
    """Every curve, in the order of the lines."""
    return [group(rows) for _, rows in frame.groupby(GROUP, sort=False, dropna=False)]


def group(rows: Rows) -> Group:
    """The curve of rows that differ in kernel, sparsity and seed alone."""
    cells = [Cell(*cell) for cell in zip(*(rows[name].tolist() for name in Cell._fields), strict=True)]
    winners = [cell for cell in cells if cell.best and not cell.dense and known(cell.speed_up)]
    same: dict[float, list[Cell]] = defaultdict(list)
    for cell in winners:
        if known(cell.sparsity):
            same[round(cell.sparsity, 4)].append(cell)
    points = tuple(point(same[at]) for at in sorted(same))
    reached = {cell.case for cell in winners if known(cell.sparsity)}
    missing = sorted({cell.sparsity for cell in cells if cell.case not in reached and known(cell.sparsity)})
    found = crossover(points) if points else unanswered(rows, rows["dtype"].iat[0])
    shown = [name for name in (*GROUP, "family", "regime") if name not in ("threads", "scope")]
    about = {name: rows[name].iat[0] for name in shown}
    return Group(
        **about,
        crossover=found,
        points=points,
        missing=tuple(f"{percent(one)} %" for one in missing),
        rows=rows,
    )


def point(cells: Sequence[Cell]) -> Point:
    """Cases at the same sparsity (seeds, other N and M): geometric mean, and the widest bounds."""
    bounded = all(known(cell.speed_up_low) for cell in cells)
    return Point(
        fmean(cell.sparsity for cell in cells),
        geometric_mean(cell.speed_up for cell in cells),
        min(cell.speed_up_low for cell in cells) if bounded else None,
        max(cell.speed_up_high for cell in cells) if bounded else None,
    )


def known(value: float) -> bool:
    """Whether a number of the frame is one."""
    return value == value


def unanswered(rows: Rows, dtype: str) -> Crossover:
    """Why a curve has no point."""
    done, sparse = rows[rows["visits"] > 0], rows[~rows["dense"]]
    if done["dense"].any() and not done["dense"].all():
        return Crossover("no dense", "no dense line", doubt="dense and sparse share no case and visit")
    if not done[~done["dense"]].empty:
        return Crossover("no dense", "no dense line", doubt=reasons(rows[rows["dense"]]) or NO_DENSE)
    return Crossover(
        "no sparse",
        f"no sparse kernel for {dtype} here",
        doubt=reasons(sparse) or "none was run on these cases, or its source has changed since",
    )


def reasons(rows: Rows) -> str:
    """Why rows have no times: the commonest of their notes first, each once."""
    failed = rows[rows["outcome"] != "ok"]
    said = Counter(f"{row.kernel} {row.outcome}: {row.note}" for row in failed.itertuples())
    return "; ".join(text for text, _ in said.most_common(3)) + ("; and more" if len(said) > 3 else "")
