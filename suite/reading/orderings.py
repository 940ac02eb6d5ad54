"""Orderings: what is known of methods from papers, and whether the scores here show it.

The project's table (workloads/accuracy/orderings.csv) names two methods and the sparsities at which one is
said to lose less: budgets, where a token uses a part of a model. In place of the worse one may stand "dense",
or a value of the metric to be reached. "Not reproduced" is an answer; a row may end with why that is to be
expected of studies such as these.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pathlib import Path

from suite.reading.scores import Curve, Mean, Point, Study, gaps, lost, mean, sign
from suite.reading.units import percent


@dataclass(frozen=True)
class Tried:
    """A claim at one sparsity. gap: what the better method loses less of the dense value; None of a bound."""

    sparsity: float
    shows: bool | None  # None: the interval holds both
    gap: Mean | None

    def __str__(self) -> str:
        return f"{percent(self.sparsity, 0)} %"


@dataclass(frozen=True)
class Ordering:
    """A claim on one task, where it was tried."""

    id: str
    claim: str
    task: str
    better: str
    worse: str
    tried: Sequence[Tried]
    why: str = ""  # what may keep it from showing in studies such as these

    @property
    def verdict(self) -> bool | None:
        """Whether it shows: somewhere clearly, and nowhere the other way."""
        said = {one.shows for one in self.tried}
        if False in said:
            return None if True in said else False
        return True if True in said else None

    @property
    def widest(self) -> Tried | None:
        """Where the gap is widest of those that say what the verdict does; None of a bound."""
        told = [one for one in self.tried if one.gap and one.shows is self.verdict]
        return max(told, key=lambda one: abs(one.gap.middle), default=None)  # pyright: ignore

    def __str__(self) -> str:
        clear = ", ".join(str(one) for one in self.tried if one.shows)
        against = ", ".join(str(one) for one in self.tried if one.shows is False)
        if clear and not against:
            return f"yes, clearly at {clear}"
        if clear:
            return f"at {clear}; the other way at {against}"
        if against:
            return f"not reproduced: the other way at {against}"
        return "not reproduced: no interval excludes chance"


@cache
def claimed() -> list[dict[str, str]]:
    """The table."""
    (folder,) = import_module("suite.workloads").__path__
    with (Path(folder) / "accuracy" / "orderings.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def orderings(found: Sequence[Study]) -> list[Ordering]:
    """Each claim on each task that tried both sides of it."""
    made = []
    for one in claimed():
        for study in found:
            if fnmatchcase(study.task, one["task"]) and (shown := shows(one, study)):
                parts = (one["id"], one["claim"], study.task, one["better"], one["worse"])
                made.append(Ordering(*parts, shown, one["why"] or ""))
    return made


def shows(one: dict[str, str], study: Study) -> list[Tried]:
    """Where in its range a claim was tried, and what came of it.

    A claim is tried at several sparsities and holds if it shows at one: so intervals are as wide as it takes
    for all of them to hold at once.
    """
    curves = {curve.method: curve for curve in study.curves if curve.line == one["line"]}
    if one["better"] not in curves:
        return []
    better = curves[one["better"]]
    points = [each for each in better.points if float(one["from"]) <= each.asked <= float(one["to"])]
    if one["worse"] in curves:
        found = {point.pattern: less for point, less in gaps(better, curves[one["worse"]])}
    elif one["worse"] == "dense":
        found = {point.pattern: [-lost(each) for each in point.scores.values()] for point in points}
    elif one["worse"][:1].isdigit():
        return [Tried(point.asked, reaches(better, point, float(one["worse"])), None) for point in points]
    else:
        return []
    points = [each for each in points if each.pattern in found]
    means = [mean(found[each.pattern], len(points)) for each in points]
    return [Tried(each.asked, sign(gap), gap) for each, gap in zip(points, means, strict=True)]


def reaches(curve: Curve, point: Point, bound: float) -> bool | None:
    """Whether the mean reaches a value; by the mean, for a claim of a value names no interval."""
    higher = curve.first.better == "higher"
    return point.value.middle >= bound if higher else point.value.middle <= bound
