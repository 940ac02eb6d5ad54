"""Plausible: whether times could have been measured: no faster than the roofline, and no longer than the run.

A fault cannot be; what is only unusual is to be looked at, since sparse kernels are made to be fast.
"""

from collections.abc import Iterator
from datetime import datetime
from statistics import fmean

from suite.device import Ceiling
from suite.reading.bound import limit_in
from suite.reading.frame import best_of, ceilings_of, grouped, usable
from suite.reading.row import Row
from suite.reading.statistics import paired, reporting
from suite.reading.units import seconds as said
from suite.reading.units import times
from suite.record import Recorded, Result

SLACK = 1.05  # ceilings are measured too
KEPT = 1000  # samples a line keeps
UNUSUAL = 10.0  # times as fast as the best dense kernel
AROUND = 60.0  # seconds: moments are told to one, and a process takes some to start


def faults(line: Result, recorded: Recorded, ceiling: Ceiling) -> Iterator[str]:
    """What of a line's samples cannot be."""
    if len(line.seconds) > KEPT:
        yield f"{len(line.seconds)} samples kept; a line has {KEPT} at most"
    if line.calls < len(line.seconds):
        yield f"{len(line.seconds)} samples of {line.calls} calls"
    visits = recorded.run.options.get("visits") if recorded.run else None
    if isinstance(visits, int) and not 1 <= line.visit <= visits + (line.cache == "rotating"):
        yield f"visit {line.visit} of {visits}"
    if not line.seconds or line.cache == "rotating":
        return
    found, time = limit_in(line, recorded.run, ceiling), reporting(line.seconds)
    if found and time * SLACK < found.seconds:
        yield (
            f"{said(time)} a call, and {found.by} alone allows no less than {said(found.seconds)}: "
            "time, FLOPs, bytes or ceilings are wrong"
        )


def of_file(recorded: Recorded) -> Iterator[tuple[Result | None, str]]:
    """(line, what of it cannot be), of what only several lines together tell. None: the file itself."""
    if elsewhere := sum(score.imported for score in recorded.scores):
        yield None, f"{elsewhere} of its scores were imported from a table: nothing here measured them"
    if not recorded.results:
        if not recorded.scores:
            yield None, "no result in it"
        return
    ceilings = ceilings_of([recorded])
    if missing := {line.device for line in recorded.results} - ceilings.keys():
        yield None, f"no ceilings of {', '.join(sorted(missing))}: no time can be held against the roofline"
    ordered = sorted(recorded.results, key=lambda line: line.started)
    busy, latest = 0.0, ordered[-1].started
    for line in ordered:
        if line.started < latest and line.cache != "rotating" and line.seconds:
            busy += line.calls * fmean(line.seconds)
    first = recorded.run.started if recorded.run else ordered[0].started
    if ordered[0].started < first:
        yield ordered[0], f"started {ordered[0].started}, before the run did"
    if (passed := between(first, latest)) is None:
        yield ordered[-1], f"started {latest}, which is no moment"
    elif busy > passed + AROUND:
        yield None, f"{busy:.0f} s of calls, and {passed:.0f} s passed from the first line to the last"


def between(first: str, last: str) -> float | None:
    """Seconds from one moment to another; None where one is none."""
    try:
        moments = [datetime.fromisoformat(one) for one in (first, last)]
        return (moments[1] - moments[0]).total_seconds()
    except (ValueError, TypeError):  # a thirteenth month; one with a time zone and one without
        return None


def unusual(recorded: Recorded) -> Iterator[tuple[Result, str]]:
    """(line, what somebody should look at)."""
    for group in grouped(usable([recorded])).values():
        dense = best_of(group)[True]
        for row in group:
            gain = gained(row, dense)
            if gain and gain > UNUSUAL and row.first.execution == "sparse":
                yield row.first, f"{row.first.kernel} is {times(gain)} as fast as the best dense kernel"


def gained(row: Row, dense: Row | None) -> float | None:
    """The speed-up of a sparse row."""
    if row.first.dense or dense is None:
        return None
    gain = paired(dense.times, row.times)
    return gain.middle if gain else None
