"""Agreement: whether two runs of the same commit on the same device say the same.

A kernel on a case agrees when the 95 % intervals of its time overlap. A case agrees when that holds for its
best dense time and for its best sparse one, whichever kernel's they were in each run: the page says no more
of a case than that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from suite.reading.frame import Rows, tidy
from suite.reading.statistics import overlap
from suite.record import Recorded

CASE = ["workload", "case", "cache", "threads", "scope"]
SAME = [*CASE, "kernel", "kernel_hash", "selector"]


@dataclass(frozen=True)
class Agreement:
    """Two files, and how much of what both have agrees. Only what has intervals in both is counted."""

    files: tuple[str, str]
    device: str
    commit: str
    rows: int
    agreeing: int
    cases: int
    cases_agreeing: int

    def __str__(self) -> str:
        pair = f"Two runs of commit {self.commit} on {self.device} ({' and '.join(self.files)})"
        if not self.rows:
            return f"{pair} cannot be compared: no kernel has intervals in both."
        said = (
            f"{pair}: the 95 % intervals overlap for {share(self.agreeing, self.rows)} "
            f"of the {self.rows} kernels on cases that both have"
        )
        if not self.cases:
            return f"{said}; no case has a best dense and a best sparse kernel in both."
        return (
            f"{said}, and for {share(self.cases_agreeing, self.cases)} of the {self.cases} cases: "
            "those whose best dense and best sparse times, whichever kernel's, both overlap."
        )


def share(some: int, of: int) -> str:
    return f"{100 * some / of:.0f} %"


def agreements(recorded: Sequence[Recorded]) -> list[Agreement]:
    """One for every two files of the same commit, and device they share."""
    runs = [
        (one, one.run.commit, {line.device for line in one.results})
        for one in recorded
        if one.run and one.run.commit
    ]
    frames: dict[int, Rows] = {}
    made = []
    for (one, commit, devices), (other, same, others) in combinations(runs, 2):
        if commit != same or not devices & others:
            continue
        left, right = (frames.setdefault(id(file), tidy([file])) for file in (one, other))
        for device in sorted(set(left["device"]) & set(right["device"])):
            files = (one.file.name, other.file.name)
            made.append(
                agreement(left[left["device"] == device], right[right["device"] == device], files, commit)
            )
    return made


def agreement(left: Rows, right: Rows, files: tuple[str, str], commit: str) -> Agreement:
    """Of two runs' rows on one device."""
    rows = overlapping(left, right, SAME)
    best = overlapping(left[left["best"]], right[right["best"]], [*CASE, "dense"])
    cases = [list(kinds) for _, kinds in best.groupby(best.index.droplevel("dense"))]
    whole = [kinds for kinds in cases if len(kinds) == 2]  # dense and sparse
    return Agreement(
        *(files, left["device"].iloc[0], commit),
        rows=len(rows),
        agreeing=int(rows.sum()),
        cases=len(whole),
        cases_agreeing=sum(all(kinds) for kinds in whole),
    )


def overlapping(left: Rows, right: Rows, on: Sequence[str]) -> Rows:
    """Whether the intervals overlap, for what has one in both; by what the rows have in common."""
    both = left.merge(right, on=list(on), suffixes=("", "_other")).dropna(subset=["low", "low_other"])
    bounds = both.set_index(list(on))[["low", "high", "low_other", "high_other"]]
    return bounds.apply(lambda row: overlap(*row), axis=1, result_type="reduce").astype(bool)
