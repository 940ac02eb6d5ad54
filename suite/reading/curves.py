"""Curves: the best sparse kernel's speed-up against sparsity, all else equal, and where it crosses dense."""

from collections import Counter
from dataclasses import dataclass
from statistics import geometric_mean

import pandas as pd

from suite.reading.crossover import Crossover, Point, crossover
from suite.reading.frame import Rows
from suite.reading.units import percent

GROUP = ["device", "workload", "op", "line", "sizes", "dtype", "scope", "cache", "threads", "data"]

Verdict = bool | None
"""Faster, not faster, or not known."""


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
    first = rows.iloc[0]
    winners = rows[~rows["dense"] & rows["best"] & rows["speed_up"].notna() & rows["sparsity"].notna()]
    points = tuple(point(same) for _, same in winners.groupby(winners["sparsity"].round(4)))
    reached = set(winners["case"])
    missing = sorted(
        {row.sparsity for row in rows.itertuples() if row.case not in reached and pd.notna(row.sparsity)}
    )
    found = crossover(points) if points else unanswered(rows, first["dtype"])
    about = {name: first[name] for name in (*GROUP, "family", "regime") if name not in ("threads", "scope")}
    return Group(
        **about,
        crossover=found,
        points=points,
        missing=tuple(f"{percent(one)} %" for one in missing),
        rows=rows,
    )


def point(rows: Rows) -> Point:
    """Cases at the same sparsity (seeds, other N and M): geometric mean, and the widest bounds."""
    low, high = rows["speed_up_low"], rows["speed_up_high"]
    known = bool(low.notna().all())
    return Point(
        float(rows["sparsity"].mean()),
        geometric_mean(rows["speed_up"]),
        float(low.min()) if known else None,
        float(high.max()) if known else None,
    )


def unanswered(rows: Rows, dtype: str) -> Crossover:
    """Why a curve has no point."""
    done, sparse = rows[rows["visits"] > 0], rows[~rows["dense"]]
    if done["dense"].any() and not done["dense"].all():
        return Crossover("no dense", "no dense line", doubt="dense and sparse share no case and visit")
    if not done[~done["dense"]].empty:
        return Crossover(
            "no dense", "no dense line", doubt=reasons(rows[rows["dense"]]) or "no dense kernel was run"
        )
    return Crossover(
        "no sparse",
        f"no sparse kernel for {dtype} here",
        doubt=reasons(sparse) or "none was run on these cases",
    )


def reasons(rows: Rows) -> str:
    """Why rows have no times: the commonest of their notes first, each once."""
    failed = rows[rows["outcome"] != "ok"]
    said = Counter(f"{row.kernel} {row.outcome}: {row.note}" for row in failed.itertuples())
    return "; ".join(text for text, _ in said.most_common(3)) + ("; and more" if len(said) > 3 else "")
