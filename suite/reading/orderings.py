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
from typing import Any

from suite.reading.scores import Curve, Study, beaten, sign
from suite.reading.units import percent


@dataclass(frozen=True)
class Ordering:
    """A claim on one task, and (sparsity, whether it shows; None: the interval holds both) where tried."""

    id: str
    claim: str
    task: str
    better: str
    worse: str
    shown: Sequence[tuple[float, bool | None]]
    why: str = ""  # what may keep it from showing in studies such as these

    @property
    def verdict(self) -> bool | None:
        """Whether it shows: somewhere clearly, and nowhere the other way."""
        said = {one for _, one in self.shown}
        if False in said:
            return None if True in said else False
        return True if True in said else None

    def __str__(self) -> str:
        clear = [percent(at, 0) for at, one in self.shown if one]
        against = [percent(at, 0) for at, one in self.shown if one is False]
        if clear and not against:
            return f"yes, clearly at {', '.join(clear)} %"
        if clear:
            return f"at {', '.join(clear)} %; the other way at {', '.join(against)} %"
        if against:
            return f"not reproduced: the other way at {', '.join(against)} %"
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


def shows(one: dict[str, str], study: Study) -> list[tuple[float, bool | None]]:
    """Where in its range a claim was tried, and what came of it."""
    curves = {curve.method: curve for curve in study.curves if curve.line == one["line"]}
    if one["better"] not in curves:
        return []
    better = curves[one["better"]]
    if one["worse"] in curves:
        said = beaten(better, curves[one["worse"]])
    elif one["worse"] == "dense":
        said = [(point, sign(point.gain)) for point in better.points]
    elif one["worse"][:1].isdigit():
        said = [(point, reaches(better, point, float(one["worse"]))) for point in better.points]
    else:
        return []
    return [
        (point.asked, what) for point, what in said if float(one["from"]) <= point.asked <= float(one["to"])
    ]


def reaches(curve: Curve, point: Any, bound: float) -> bool | None:
    """Whether the mean reaches a value; by the mean, for a claim of a value names no interval."""
    higher = curve.first.better == "higher"
    return point.value.middle >= bound if higher else point.value.middle <= bound
