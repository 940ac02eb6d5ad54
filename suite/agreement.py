"""Agreement: whether two runs of the same commit on the same device say the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from suite.frame import Rows, tidy
from suite.record import Recorded
from suite.statistics import overlap

SAME = ["workload", "case", "kernel", "kernel_hash", "cache", "threads", "scope"]


@dataclass(frozen=True)
class Agreement:
    """Two files, and how many of the rows both have agree: their 95 % intervals of the time overlap."""

    files: tuple[str, str]
    device: str
    commit: str
    rows: int
    agreeing: int

    def __str__(self) -> str:
        pair = f"Two runs of commit {self.commit} on {self.device} ({' and '.join(self.files)})"
        if not self.rows:
            return f"{pair} cannot be compared: no kernel has intervals in both."
        return (
            f"{pair}: the 95 % intervals overlap for {100 * self.agreeing / self.rows:.0f} % "
            f"of the {self.rows} kernels and cases both have."
        )


def agreements(recorded: Sequence[Recorded]) -> list[Agreement]:
    """One for every two files of the same commit, and device they share."""
    runs = [(one, one.run.commit) for one in recorded if one.run and one.run.commit]
    if len(runs) < 2:
        return []
    frames: dict[int, Rows] = {id(one): tidy([one]) for one, _ in runs}
    made = []
    for (one, commit), (other, same) in combinations(runs, 2):
        if commit != same:
            continue
        left, right = frames[id(one)], frames[id(other)]
        for device in sorted(set(left["device"]) & set(right["device"])):
            files = (one.file.name, other.file.name)
            made.append(
                agreement(left[left["device"] == device], right[right["device"] == device], files, commit)
            )
    return made


def agreement(left: Rows, right: Rows, files: tuple[str, str], commit: str) -> Agreement:
    """Of two runs' rows on one device."""
    both = left.merge(right, on=SAME, suffixes=("", "_other")).dropna(subset=["low", "low_other"])
    agree = [
        overlap(*bounds)
        for bounds in both[["low", "high", "low_other", "high_other"]].itertuples(index=False, name=None)
    ]
    return Agreement(files, left["device"].iloc[0], commit, len(agree), sum(agree))
