"""Verdicts: what became of each kernel on each case between two versions, and how sure that is.

SLOWER and FASTER are established: the test finds them among all the cases it was asked about, and they are
large enough to matter. SAME is established too: whatever change there may be is smaller than `same`. What
lies between is AMBIGUOUS, and says what could have been seen.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from suite.comparing.discoveries import adjusted, bars
from suite.comparing.drift import Drift, Told
from suite.comparing.power import seen
from suite.comparing.side import Point, Side
from suite.comparing.welch import Difference, difference
from suite.reading.units import percent

BROKEN, SLOWER, GONE, FASTER = "BROKEN", "SLOWER", "GONE", "FASTER"
NEW, AMBIGUOUS, SAME = "NEW", "AMBIGUOUS", "SAME"

ORDER = (BROKEN, SLOWER, GONE, FASTER, NEW, AMBIGUOUS, SAME)  # as they are shown


@dataclass(frozen=True)
class Rule:
    """What a verdict takes."""

    effect: float = 0.01  # a change smaller than this is none
    same: float = 0.10  # SAME rules out changes larger than this
    level: float = 0.02  # share of the changes reported that may be false
    runs: int = 5  # visits a side below which nothing is decided


@dataclass(frozen=True)
class Change:
    """A kernel on a case. `change` is of its time: 0.05 is five percent slower; low and high hold 95 %."""

    point: Point
    verdict: str
    why: str = ""
    base: float | None = None  # seconds, the middle of the visits' medians
    head: float | None = None
    base_runs: int = 0
    head_runs: int = 0
    change: float | None = None
    low: float | None = None
    high: float | None = None
    by: str = ""  # "time" or "time over dense"
    found: Difference | None = None  # of logarithms: what was tested
    adjusted: float | None = None  # p once the number of tests is counted in
    seen: float | None = None  # the change that would have been seen four times in five

    @property
    def settled(self) -> bool:
        """Whether more runs would say no more."""
        return self.verdict != AMBIGUOUS


@dataclass(frozen=True)
class Mean:
    """The geometric mean of a kernel's changes over the cases of a workload."""

    workload: str
    kernel: str
    cases: int
    change: float
    low: float
    high: float


@dataclass(frozen=True)
class Tested:
    """A kernel with runs enough on both sides, and how its change is told."""

    point: Point
    told: Told
    found: Difference


def changes(base: Side, head: Side, drift: Drift, rule: Rule) -> tuple[list[Change], list[Mean]]:
    """Every kernel on every case that either side knows, in the order they are shown; and the means."""
    made: list[Change] = []
    tests: list[Tested] = []
    for point in dict.fromkeys((*base.rows, *head.rows)):
        if change := apart(base, head, point, rule):
            made.append(change)
        elif point in base.logs and point in head.logs:
            told = drift.told(point)
            tests.append(Tested(point, told, told.difference))
    made += decided(tests, base, head, rule)
    first = {verdict: at for at, verdict in enumerate(ORDER)}
    made.sort(key=lambda one: (first[one.verdict], -abs(math.log1p(one.change or 0.0))))
    return made, means(tests)


def apart(base: Side, head: Side, point: Point, rule: Rule) -> Change | None:
    """The verdict that needs no test; None where one is needed, or where neither side ever answered."""
    ran, runs = point in base.logs and not base.failure(point), point in head.logs
    about: dict[str, Any] = {
        "point": point,
        **times(base, point, "base"),
        **times(head, point, "head"),
    }
    failing = head.failure(point)
    if ran and failing:
        return Change(verdict=BROKEN, why=failing, **about)
    if ran and not runs:
        return Change(verdict=GONE, why="it is not among the results", **about)
    if point not in base.logs and runs and not failing:
        before = base.failure(point)
        return Change(verdict=NEW, why=f"before: {before}" if before else "", **about)
    fewest = min(about.get("base_runs", 0), about.get("head_runs", 0))
    if 0 < fewest < rule.runs:
        few = f"{fewest} {'run' if fewest == 1 else 'runs'} a side; a verdict takes {rule.runs}"
        middle = about["head"] / about["base"] - 1
        return Change(verdict=AMBIGUOUS, why=few, change=middle, by="time", **about)
    return None


def times(side: Side, point: Point, name: str) -> dict[str, Any]:
    """A side's time and how many runs it comes from."""
    logs = side.logs.get(point)
    return {name: math.exp(median(logs.values())), f"{name}_runs": len(logs)} if logs else {}


def decided(tests: Sequence[Tested], base: Side, head: Side, rule: Rule) -> Iterable[Change]:
    """The verdicts of all that were tested, together: how many tests there are is part of each."""
    ps = [one.found.p for one in tests]
    for one, corrected, level in zip(tests, adjusted(ps), bars(ps, rule.level), strict=True):
        low, high = (math.expm1(end) for end in one.found.interval())
        middle = math.expm1(one.found.middle)
        sight = seen(one.found, level, rule.effect)
        verdict, why = verdict_of(one.found, corrected, low, high, rule)
        yield Change(
            point=one.point,
            verdict=verdict,
            why=why,
            **times(base, one.point, "base"),
            **times(head, one.point, "head"),
            change=middle,
            low=low,
            high=high,
            by=one.told.by,
            found=one.found,
            adjusted=corrected,
            seen=sight,
        )


def verdict_of(found: Difference, corrected: float, low: float, high: float, rule: Rule) -> tuple[str, str]:
    """The verdict of a test, and a reason where it is none."""
    if corrected <= rule.level and abs(found.middle) > math.log1p(rule.effect):
        return (SLOWER if found.middle > 0 else FASTER), ""
    if -rule.same / (1 + rule.same) < low and high < rule.same:
        return SAME, ""
    return AMBIGUOUS, f"the runs differ too much among themselves to rule out {percent(rule.same)} %"


def means(tests: Sequence[Tested]) -> list[Mean]:
    """Per workload and kernel, over its cases. The unit is still the run: its mean over the cases."""
    groups: dict[tuple[str, str], list[Tested]] = {}
    for one in tests:
        groups.setdefault((one.point.workload, one.point.kernel), []).append(one)
    made = []
    for (workload, kernel), some in groups.items():
        middle = fmean(one.found.middle for one in some)
        sides = (departures([getattr(one.told, name) for one in some]) for name in ("base", "head"))
        reach = difference(*sides).reach()
        low, high = math.expm1(middle - reach), math.expm1(middle + reach)
        made.append(Mean(workload, kernel, len(some), math.expm1(middle), low, high))
    return made


def departures(cases: Sequence[Mapping[Any, float]]) -> list[float]:
    """For each run by how much it departs, on average over the cases, from what all runs come to."""
    found: dict[Any, list[float]] = {}
    for logs in cases:
        middle = fmean(logs.values())
        for at, log in logs.items():
            found.setdefault(at, []).append(log - middle)
    return [fmean(some) for some in found.values()]
