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
from statistics import fmean

from suite.reading.scores import Curve, Mean, Point, Study, clear, gaps, lost, mean, sign
from suite.reading.units import percent


@dataclass(frozen=True)
class Tried:
    """A claim at one sparsity, by itself."""

    sparsity: float
    shows: bool | None  # None: the interval holds both

    def __str__(self) -> str:
        return f"{percent(self.sparsity, 0)} %"


@dataclass(frozen=True)
class Ordering:
    """A claim on one task, where it was tried.

    gap: what the better method loses less of the dense value, on the mean over all sparsities where it was
    tried, seed by seed; None of a value to be reached.
    """

    id: str
    claim: str
    task: str
    better: str
    worse: str
    tried: Sequence[Tried]
    gap: Mean | None
    why: str = ""  # what may keep it from showing in studies such as these

    @property
    def verdict(self) -> bool | None:
        """Whether it shows. It is tested once: of six sparsities one may say anything by luck."""
        if self.gap:
            return sign(self.gap)
        return any(one.shows for one in self.tried)

    def __str__(self) -> str:
        shown = ", ".join(str(one) for one in self.tried if one.shows)
        against = ", ".join(str(one) for one in self.tried if one.shows is False)
        if self.verdict:
            return f"yes, clearly at {shown}" if shown else "yes, on the mean"
        if self.verdict is False:
            return f"not reproduced: the other way {f'at {against}' if against else 'on the mean'}"
        if not shown and not against:
            return "not reproduced: no interval excludes chance"
        said = [f"clearly at {shown}" if shown else "", f"the other way at {against}" if against else ""]
        return f"not reproduced on the mean: {'; '.join(filter(None, said))}"


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
                made.append(Ordering(*parts, *shown, one["why"] or ""))
    return made


def shows(one: dict[str, str], study: Study) -> tuple[list[Tried], Mean | None] | None:
    """Where in its range a claim was tried, what came of it, and the gap over all; None: nowhere."""
    curves = {curve.method: curve for curve in study.curves if curve.line == one["line"]}
    if one["better"] not in curves:
        return None
    better = curves[one["better"]]
    if one["worse"] in curves:
        found = gaps(better, curves[one["worse"]])
    elif one["worse"] == "dense":
        found = [(each, {seed: -lost(its) for seed, its in each.scores.items()}) for each in better.points]
    elif one["worse"][:1].isdigit():
        found = [(each, {}) for each in better.points]
    else:
        return None
    found = [(each, won) for each, won in found if float(one["from"]) <= each.asked <= float(one["to"])]
    if not found:
        return None
    if one["worse"][:1].isdigit():
        bound = float(one["worse"])
        return [Tried(each.asked, reaches(better, each, bound)) for each, _ in found], None
    tried = [Tried(each.asked, clear(won)) for each, won in found]
    seeds = set.intersection(*(set(won) for _, won in found))
    return tried, mean([fmean(won[seed] for _, won in found) for seed in sorted(seeds)] or [0.0])


def reaches(curve: Curve, point: Point, bound: float) -> bool | None:
    """Whether the mean reaches a value; by the mean, for a claim of a value names no interval."""
    higher = curve.first.better == "higher"
    return point.value.middle >= bound if higher else point.value.middle <= bound
