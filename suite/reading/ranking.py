"""Ranking: which kernels lead in which slice, by rules that leave nothing to win but speed.

slice      device, op, dtype, pattern, regime, cache state and threads, over one version of a workload's
           case set: those of its cases that have a best dense time
speed-up   the geometric mean over the cases of best dense time over the kernel's, paired by visit; its
           interval is across visits. The worst case stands beside it
failed     wrong, broken, timeout or memory, in any visit: the case counts as twice the dense time, or as
           what the other visits reached if that is worse
refused    costs nothing, but does not cover the case. A rank needs 80 % of them
rank       one more than the kernels whose whole interval lies above this one's. The others are ties
left out   lines of --set, --case, --matrix, --model, and older versions of a case set: nobody picks his cases
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, fsum, inf, log, sqrt
from typing import get_args

from scipy.special import stdtrit

from suite.reading.about import identity, pattern_of
from suite.reading.frame import Line, best_of, current, grouped, usable
from suite.reading.row import Row, Visit
from suite.reading.statistics import LEVEL, Estimate
from suite.record import Outcome, Recorded

COVERED = 0.8  # of a slice's cases, to have a rank
FAILED = 0.5  # the speed-up of a kernel that did not answer, or not rightly

FAILURES = frozenset(get_args(Outcome)) - {"ok", "refused"}

SLICE = ("device", "workload", "op", "dtype", "family", "regime", "cache", "threads", "scope")


@dataclass(frozen=True)
class Worst:
    """The case in which a kernel does least well, and how it came out there."""

    case: str
    speed_up: float
    outcome: str


@dataclass(frozen=True)
class Place:
    """A kernel in a slice. Its rank is None where it has none, and `why` says why not."""

    kernel: str
    covered: int
    refused: int
    failed: Mapping[str, int]  # outcome -> cases
    speed_up: Estimate | None  # None: it covers no case
    worst: Worst | None
    coverage: float
    rank: int | None = None
    tied: bool = False
    why: str = ""
    old: bool = False  # every line of it is

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval; without visits to tell one, anything."""
        if self.speed_up is None or self.speed_up.low is None or self.speed_up.high is None:
            return 0, inf
        return self.speed_up.low, self.speed_up.high

    @property
    def verdict(self) -> bool | None:
        """Whether it is clearly faster than the best dense kernels, or clearly slower."""
        low, high = self.bounds
        return True if low > 1 else False if high < 1 else None


@dataclass(frozen=True)
class Slice:
    """Kernels that may be held against each other: the first rank first, those without one last."""

    device: str
    workload: str
    op: str
    dtype: str
    family: str
    regime: str
    cache: str
    threads: int
    scope: str
    version: int  # of the workload's case set
    cases: int
    places: tuple[Place, ...]


def ranking(recorded: Sequence[Recorded]) -> list[Slice]:
    """Every slice of the files that may rank, in the order of the lines."""
    lines = current(rankable(usable(recorded)))
    versions = {(found[2].device, found[2].workload): version(found) for found in lines}
    slices: dict[tuple, list[list[Row]]] = defaultdict(list)
    for rows in grouped(lines).values():
        about = identity(rows[0].first) | {"scope": rows[0].first.scope}
        slices[tuple(about[name] for name in SLICE)].append(rows)
    return [
        Slice(*key, version=versions[key[:2]], cases=len(raced), places=tuple(places(raced)))
        for key, cases in slices.items()
        if (raced := [rows for rows in cases if best_of(rows)[True]])
    ]


def rankable(lines: Iterable[Line]) -> list[Line]:
    """Lines of whole case sets, of the newest version of each that a device has run."""
    whole = [found for found in lines if is_whole(found)]
    newest: dict[tuple[str, str], int] = {}
    for found in whole:
        key = found[2].device, found[2].workload
        newest[key] = max(newest.get(key, 0), version(found))
    return [found for found in whole if version(found) == newest[found[2].device, found[2].workload]]


def is_whole(found: Line) -> bool:
    """Whether a line's case was the workload's choice, not that of who ran it, and speed alone decides in it.

    What selectors choose differs in worth: a rank by time would crown the one that looks least.
    """
    _, run, line = found
    if (pattern := pattern_of(line.pattern)) and pattern.at_run_time:
        return False
    picked = run is None or any(run.options.get(one) for one in ("set", "case", "race", "model"))
    return not picked and line.pattern != "given" and line.workload in (run.workloads if run else ())


def version(found: Line) -> int:
    """Of the case set that a line belongs to."""
    _, run, line = found
    return run.workloads[line.workload] if run else 0


def places(cases: Sequence[Sequence[Row]]) -> list[Place]:
    """How the sparse kernels of a slice stand. Each case is the rows that compete in it."""
    entered: dict[str, list[tuple[Row, Row]]] = defaultdict(list)
    for rows in cases:
        dense = best_of(rows)[True]
        for row in rows:
            if dense and row.first.execution == "sparse" and not row.first.dense:
                entered[row.first.entry].append((row, dense))
    return ranked([place(name, pairs, len(cases)) for name, pairs in entered.items()])


def place(kernel: str, pairs: Sequence[tuple[Row, Row]], cases: int) -> Place:
    """One kernel over its cases, each with the best dense row there."""
    reached: dict[str, Mapping[Visit, float]] = {}
    worst: list[Worst] = []
    failed: Counter[str] = Counter()
    for row, dense in pairs:
        ratios, failure = ratios_of(row, dense)
        if failure:
            failed[failure] += 1
        if ratios:
            reached[row.first.case] = ratios
            least = exp(fsum(map(log, ratios.values())) / len(ratios))
            worst.append(Worst(row.first.case, least, failure or "ok"))
    mean = together(list(reached.values()))
    coverage = len(reached) / cases
    why = ""
    if coverage < COVERED:
        why = f"covers {100 * coverage:.0f} % of the cases; a rank needs {100 * COVERED:.0f} %"
    elif mean and mean.low is None:
        why = "a case has one visit only: no interval"
    return Place(
        kernel=kernel,
        covered=len(reached),
        refused=sum(row.outcome == "refused" for row, _ in pairs),
        failed=dict(failed),
        speed_up=mean,
        worst=min(worst, key=lambda one: one.speed_up, default=None),
        coverage=coverage,
        why=why,
        old=all(row.old for row, _ in pairs),
    )


def ratios_of(row: Row, dense: Row) -> tuple[dict[Visit, float], str]:
    """(speed-up in each visit that both have, how it failed). A failure never makes the speed-up better."""
    ratios = {visit: dense.times[visit] / row.times[visit] for visit in row.times if visit in dense.times}
    failure = next((line.outcome for line in row.failures if line.outcome in FAILURES), "")
    if not failure:
        return ratios, ""
    least = min([FAILED, *ratios.values()])
    return dict.fromkeys(dense.times, least), failure


def together(cases: Sequence[Mapping[Visit, float]]) -> Estimate | None:
    """The geometric mean over cases, with an interval across visits. None: no case.

    What a visit does to one case it may do to all, so visits, not cases, are what is counted: each adds how
    far it lies from the means of the cases it has. Where every visit has every case, that is the t-interval
    over the visits' own means.
    """
    if not cases:
        return None
    logs = [{visit: log(ratio) for visit, ratio in one.items()} for one in cases]
    means = [fsum(one.values()) / len(one) for one in logs]
    middle = fsum(means) / len(means)
    visits = min(len(one) for one in logs)
    if visits == 1:
        return Estimate(exp(middle), None, None, 1)
    apart: dict[Visit, float] = defaultdict(float)
    for one, mean in zip(logs, means, strict=True):
        for visit, value in one.items():
            apart[visit] += (value - mean) / sqrt(len(one) * (len(one) - 1)) / len(logs)
    reach = float(stdtrit(visits - 1, (1 + LEVEL) / 2)) * math.hypot(*apart.values())
    return Estimate(exp(middle), exp(middle - reach), exp(middle + reach), visits)


def ranked(unordered: Sequence[Place]) -> list[Place]:
    """With ranks and ties: first those that have one, the fastest first; then those that cover most."""
    able = [one for one in unordered if not one.why]
    ranks = [1 + sum(other.bounds[0] > one.bounds[1] for other in able) for one in able]
    shared = Counter(ranks)
    made = [replace(one, rank=at, tied=shared[at] > 1) for one, at in zip(able, ranks, strict=True)]
    return sorted(
        [*made, *(one for one in unordered if one.why)],
        key=lambda one: (one.rank or inf, -one.coverage if one.why else 0, -middle(one), one.kernel),
    )


def middle(one: Place) -> float:
    return one.speed_up.middle if one.speed_up else 0
