"""Duel: two versions measured in turn, a fresh process each time, in an order drawn for every two.

What the machine does over minutes then falls on both alike. After some pairs the verdicts are looked at, and
once all cases are decided there is no more to learn. Each look is another chance to be wrong, so each gets
its share of the level.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from time import monotonic

from msgspec import structs

from suite.comparing.comparison import Comparison, Gate, Incomparable, compare
from suite.comparing.side import side
from suite.comparing.verdicts import Rule
from suite.comparing.versions import Failed, Version
from suite.record import Result, Run, Writer, read

GROWTH = 1.4  # of the number of runs from one look to the next

Show = Callable[[str], None]
Words = Callable[[Version], Sequence[str]]  # what of a version to measure, as `sparsemark run` takes it


def unfounded(failed: Failed) -> Incomparable:
    """What it comes to that the base does not stand."""
    return Incomparable(f"there is nothing to hold the head against: {failed}")


def looks(rule: Rule, most: int) -> list[int]:
    """After how many pairs to look; the last is the last pair."""
    made, at = [], float(rule.runs)
    while round(at) < most:
        made.append(round(at))
        at *= GROWTH
    return [*made, most]


class Duel:
    """Two versions, and a file for each in which their runs are visits of one run."""

    def __init__(self, base: Version, head: Version, folder: Path, words: Words, show: Show) -> None:
        self.versions = {"base": base, "head": head}
        self.folder, self.words, self.show = folder, words, show
        self._order = random.Random(f"{base.commit} {head.commit} {folder.name}")

    def go(self, most: int, budget: float | None, rule: Rule, gate: Gate) -> Comparison:
        """Measure until every case is decided, `most` pairs are done, or another would exceed the budget."""
        planned, spent, began = looks(rule, most), [], monotonic()
        shared = replace(rule, level=rule.level / len(planned))
        for pair in range(1, most + 1):
            if spent and budget is not None and monotonic() - began + fmean(spent) > budget:
                break
            at = monotonic()
            for name in self._order.sample(tuple(self.versions), 2):
                self._run(name, pair)
            spent.append(monotonic() - at)
            self.show(f"{pair}/{most} pairs, {spent[-1]:.0f} s each")
            if pair in planned[:-1] and self.compared(shared, gate).settled:
                break
        return self.compared(shared, gate)

    def compared(self, rule: Rule, gate: Gate) -> Comparison:
        """By what was measured so far."""
        base, head = (side(self.file(name), str(version)) for name, version in self.versions.items())
        return compare(base, head, rule, gate)

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _run(self, name: str, pair: int) -> None:
        """One process of one version; its lines join the others of its side."""
        version, new = self.versions[name], self.folder / f"{name}-{pair}.jsonl"
        try:
            version.measure(
                "run", *self.words(version), "--visits", "1", "--energy", "off", "--out", str(new)
            )
        except Failed as failed:
            if name == "base":
                raise unfounded(failed) from failed
            raise
        found = read(new)
        if found.run is None:
            raise Failed(str(version), "reading its results", [str(fault) for fault in found.faults])
        measured = found.run.commit or ""
        if version.own and not measured.startswith(version.commit):
            raise Failed(
                str(version), "its environment", [f"commit {measured or 'unknown'} was measured instead"]
            )
        with Writer(self.file(name)) as kept:
            for line in found.lines:
                if isinstance(line, Run):
                    line = structs.replace(line, options={**line.options, "ref": str(version)})
                    if pair > 1:
                        continue
                kept.write(structs.replace(line, visit=pair) if isinstance(line, Result) else line)
        new.unlink()
