"""State: who stands behind a results file, and whether it is old.

    ours       its content is listed in results/OURS, which only this project's own changes touch
    re-run     a file of another machine of the same kind (another fingerprint, the same name) agrees with it:
               of the sparse kernels on cases that both have, the intervals of most speed-ups overlap
    reported   nobody but its author has said so yet

The list is what `sha256sum` prints, so that `cd results && sha256sum --check OURS` holds it against the disk.
It tells by content, not by name: a listed file that is changed is reported again. That two files agree does
not prove that two people measured.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from suite.reading.about import is_old
from suite.reading.agreement import SAME, overlapping
from suite.reading.frame import Rows, tidy
from suite.record import Recorded

LIST = "OURS"
LEAST, MOST_OFTEN = 10, 0.8  # rows that both have, and the share of them that must agree


@dataclass(frozen=True)
class State:
    """Of a file. why: in a sentence. old: begun more than a year ago."""

    name: Literal["ours", "re-run", "reported"]
    why: str
    old: bool


def states(recorded: Sequence[Recorded], today: date | None = None) -> list[State]:
    """One for each file, in their order."""
    frames: dict[int, Rows] = {}
    made = []
    for one in recorded:
        name, why = told(one, recorded, frames)
        made.append(State(name, why, old=one.run is not None and is_old(one.run.started, today)))
    return made


def told(
    one: Recorded, among: Iterable[Recorded], frames: dict[int, Rows]
) -> tuple[Literal["ours", "re-run", "reported"], str]:
    """A file's state, and why."""
    if is_listed(one.file):
        return "ours", "measured by this project"
    for other in among:
        if not are_alike(one, other):
            continue
        left, right = (frames.setdefault(id(each), tidy([each])) for each in (one, other))
        agreeing = agree(left, right)
        if len(agreeing) >= LEAST and agreeing.mean() >= MOST_OFTEN:
            return "re-run", f"{agreeing.sum()} of {len(agreeing)} speed-ups agree with {other.file.name}"
    return "reported", "not yet measured again by anybody"


def is_listed(file: Path) -> bool:
    """Whether the list above a file holds its content."""
    for folder in file.resolve().parents[1:3]:
        if (listing := folder / LIST).is_file():
            listed = {line.split()[0] for line in listing.read_text().splitlines() if line.strip()}
            return hashlib.sha256(file.read_bytes()).hexdigest() in listed
    return False


def are_alike(one: Recorded, other: Recorded) -> bool:
    """Whether they are of two machines that go by the same name."""
    if one is other or one.run is None or other.run is None:
        return False
    theirs = other.run.devices
    return any(key in theirs and theirs[key] != about for key, about in one.run.devices.items())


def agree(left: Rows, right: Rows) -> Rows:
    """Whether the speed-ups' intervals overlap, for each sparse kernel on a case that has one in both."""
    bounds = ["speed_up_low", "speed_up_high"]
    names = dict(zip(bounds, ("low", "high"), strict=True))
    mine, theirs = (
        rows.loc[~rows["dense"], [*SAME, *bounds]].rename(columns=names) for rows in (left, right)
    )
    return overlapping(mine, theirs, SAME)
