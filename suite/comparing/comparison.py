"""Comparison: two sides, what was found between them, and whether a gate should let that through."""

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from suite.comparing.drift import Drift
from suite.comparing.side import Point, Side
from suite.comparing.terms import terms
from suite.comparing.verdicts import AMBIGUOUS, BROKEN, GONE, ORDER, SLOWER, Change, Mean, Rule, changes
from suite.comparing.welch import Difference

FINE, REGRESSION, INCOMPARABLE = 0, 1, 3  # exit statuses


class Incomparable(Exception):
    """There is nothing to hold against each other, and why. Exit status 3."""


@dataclass(frozen=True)
class Gate:
    """What lets a comparison fail beside SLOWER and BROKEN."""

    allow_gone: bool = False
    strict: bool = False  # AMBIGUOUS fails too

    def stops(self, change: Change) -> bool:
        failing = (
            {SLOWER, BROKEN}
            | (set() if self.allow_gone else {GONE})
            | ({AMBIGUOUS} if self.strict else set())
        )
        return change.verdict in failing


@dataclass(frozen=True)
class Comparison:
    """What came of it. `dense` is how the dense kernels moved, which is the machine's doing."""

    base: Side
    head: Side
    rule: Rule
    gate: Gate
    changes: list[Change]
    means: list[Mean]
    dense: Difference | None = None
    moved: bool = False
    noted: list[str] = field(default_factory=list)

    @cached_property
    def counts(self) -> dict[str, int]:
        """verdict -> how many, in the order they are shown."""
        counted = Counter(one.verdict for one in self.changes)
        return {verdict: counted[verdict] for verdict in ORDER if counted[verdict]}

    @property
    def stopping(self) -> list[Change]:
        return [one for one in self.changes if self.gate.stops(one)]

    @property
    def status(self) -> int:
        return REGRESSION if self.stopping else FINE

    @property
    def settled(self) -> bool:
        """Whether every case is decided."""
        return all(one.settled for one in self.changes)

    @property
    def runs(self) -> tuple[int, int]:
        """How many a side, at most."""
        pairs = [(one.base_runs, one.head_runs) for one in self.changes] or [(0, 0)]
        return max(base for base, _ in pairs), max(head for _, head in pairs)

    @property
    def remarks(self) -> list[str]:
        """What a reader must know beside the verdicts."""
        said = list(self.noted)
        if self.dense is None:
            said.append(
                "no dense kernel is alike on both sides: a change of the machine's speed would look like "
                "one of the code's"
            )
        elif self.moved:
            low, high = (f"{math.expm1(end):+.1%}" for end in self.dense.interval())
            said.append(
                "the machine changed between the sides: dense kernels by "
                f"{math.expm1(self.dense.middle):+.1%} ({low} to {high}); every case is told by its time "
                "over theirs"
            )
        for each in (self.base, self.head):
            if each.faults:
                said.append(f"{each.name}: {len(each.faults)} faults, the first: {each.faults[0]}")
        return said

    def told(self) -> dict[str, Any]:
        """For a program."""
        return {
            "base": about(self.base),
            "head": about(self.head),
            "rule": asdict(self.rule),
            "gate": asdict(self.gate),
            "status": self.status,
            "counts": self.counts,
            "remarks": self.remarks,
            "changes": [flat(one) for one in self.changes],
            "means": [asdict(one) for one in self.means],
        }


def compare(
    base: Side, head: Side, rule: Rule | None = None, gate: Gate | None = None, across: bool = False
) -> Comparison:
    """Hold two sides against each other. Raises Incomparable where that makes no sense.

    across: even where they were measured on unlike devices.
    """
    rule, gate = rule or Rule(), gate or Gate()
    for each in (base, head):
        if not each.rows:
            why = "".join(f" {fault}." for fault in each.faults[:1])
            raise Incomparable(f"{each.name} holds no usable result.{why}")
    agreed = terms(base, head)
    if agreed.refused and not across:
        raise Incomparable(
            f"{base.name} and {head.name} are not of like devices: {'; '.join(agreed.refused)}. "
            "A difference would be the machines'; --across insists."
        )
    if across and len(base.devices) == len(head.devices) == 1:
        base, head = (Side(one.name, one.recorded, placed=True) for one in (base, head))
    if not base.rows.keys() & head.rows.keys():
        raise Incomparable(f"{base.name} and {head.name} have no kernel on a case in common.")
    drift = Drift(base, head, alike(base, head))
    found, means = changes(base, head, drift, rule)
    return Comparison(
        base, head, rule, gate, found, means, drift.whole, drift.moved, [*agreed.noted, *agreed.refused]
    )


def alike(base: Side, head: Side):
    """Whether a kernel is the same code on both sides: its own and torch's."""
    torch = [{run.libraries.get("torch") for run in each.runs} for each in (base, head)]

    def same(point: Point) -> bool:
        return torch[0] == torch[1] and (
            base.rows[point].first.kernel_hash == head.rows[point].first.kernel_hash
        )

    return same


def about(side: Side) -> dict[str, Any]:
    """A side in few words, for a program."""
    files = [one.file.name for one in side.recorded]
    return {"name": side.name, "commits": side.commits, "files": files, "devices": list(side.devices)}


def flat(change: Change) -> dict[str, Any]:
    """A change as one level of names."""
    whole = asdict(change)
    del whole["point"]
    return change.point._asdict() | whole
