"""Side: the runs of one version, and its kernels by what two versions have in common."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import NamedTuple

from suite.reading.frame import current, grouped, usable
from suite.reading.opened import ENDINGS, opened
from suite.reading.row import Row, Visit
from suite.record import Recorded, Run
from suite.registry import Unusable

BAD = ("wrong", "broken", "timeout", "memory", "refused")


class Point(NamedTuple):
    """What is measured alike on both sides: a case in its circumstances, and a kernel by its name."""

    device: str
    workload: str
    case: str
    scope: str
    cache: str
    threads: int
    kernel: str
    selector: str | None

    @property
    def circumstances(self) -> tuple:
        """Without the kernel: those that share it took turns."""
        return self[:-2]


Logs = Mapping[Visit, float]  # of the median seconds of each visit: the unit that is counted


@dataclass(frozen=True)
class Side:
    """Files of one version: each visit of each is a process of its own."""

    name: str
    recorded: Sequence[Recorded]
    placed: bool = False  # compared across devices: which one it was does not tell kernels apart

    @cached_property
    def runs(self) -> list[Run]:
        return [one.run for one in self.recorded if one.run]

    @cached_property
    def devices(self) -> dict[str, dict]:
        return {key: about for run in self.runs for key, about in run.devices.items()}

    @cached_property
    def commits(self) -> list[str]:
        """Of the refs that were built, or of sparsemark itself."""
        told = (run.options.get("ref") or run.commit for run in self.runs)
        return list(dict.fromkeys(str(one) for one in told if one))

    @cached_property
    def rows(self) -> dict[Point, Row]:
        found = grouped(current(usable(self.recorded)))
        return {
            Point._make(
                ("" if self.placed else about[0], *about[1:], row.first.kernel, row.first.selector)
            ): row
            for about, rows in found.items()
            for row in rows
        }

    @cached_property
    def logs(self) -> dict[Point, Logs]:
        """Of every kernel that answered rightly, in those visits that timed it."""
        return {
            point: {at: math.log(median(line.seconds)) for at, line in row.timed.items()}
            for point, row in self.rows.items()
            if row.timed
        }

    def failure(self, point: Point) -> str | None:
        """How the kernel fails there, once being enough; None where it does not."""
        if point not in self.rows or not (failures := self.rows[point].failures):
            return None
        worst = min(failures, key=lambda line: BAD.index(line.outcome))
        often = f" in {len(failures)} of {len(self.rows[point].lines)} runs" if self.rows[point].timed else ""
        return f"{worst.outcome}{often}: {worst.note}"

    @property
    def faults(self) -> list[str]:
        return [str(fault) for one in self.recorded for fault in one.faults]

    def __str__(self) -> str:
        others = [one for one in self.commits if one != self.name]
        return f"{self.name} ({', '.join(others)})" if others else self.name


def side(text: Path, name: str = "") -> Side:
    """A results file, or a folder of them: runs of one version."""
    files = [text]
    if text.is_dir():
        files = sorted(file for file in text.iterdir() if file.suffix in ENDINGS)
        if not files:
            raise Unusable(f"no results file in {text}. Name a folder of .jsonl or .json files, or a file.")
    if not files[0].is_file():
        raise Unusable(f"no results file {text}. `sparsemark run --out {text}` writes one.")
    return Side(name or text.name, [opened(file) for file in files])
