"""Running: passes over the cases in fresh child processes, each line on disk as soon as it exists."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Protocol

import msgspec

from suite import __version__, models, provenance, recordings, sources
from suite.case import from_id
from suite.child import Work, WorkJob
from suite.device import Device
from suite.energy import IDLE, WINDOW
from suite.isolate import Ending, Offspring
from suite.journal import OUT, Journal
from suite.kernel import KERNELS, Kernel
from suite.op import MODELS
from suite.plan import Item
from suite.record import Any_Line, Result, Run, header, read
from suite.recordings import Asked
from suite.registry import Unusable
from suite.selector import entries
from suite.stated import describe, heading
from suite.version import VERSIONS, Version
from suite.winners import winners
from suite.workload import WORKLOADS

IMPORTED = "imported"  # the folder, beside a device's runs, of scores that were made elsewhere
VISITS = {"smoke": 3, "default": 3, "full": 5}
CAPS = {"smoke": 0.05, "default": 0.06, "full": 1.0}  # seconds of sampling a kernel gets in one visit

SLACK = 0.1  # of a pass
METERED_SHARE = 0.3  # of a budget, kept for energy windows where there is a meter


@dataclass(frozen=True)
class Options:
    """How to measure; the header of the file states it, and a resumed run must have the same."""

    extent: str = "default"
    visits: int | None = None
    spread: float = 0.0  # seconds from the first visit's end to the last one's beginning, at least
    cap: float | None = None  # seconds of sampling a kernel gets in one visit; by default its extent's
    cache: str = "cold"
    budget: float | None = None  # seconds
    limit: float = 60.0  # seconds one step of one kernel may take
    energy: str = "winners"
    plugins: tuple[str, ...] = ()
    kernels: str = "*"
    cases: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    races: tuple[str, ...] = ()  # whose cases these are; a race is no leaderboard
    asked: Asked | None = None  # what cases are recorded from

    @property
    def passes(self) -> int:
        return self.visits or VISITS[self.extent]

    def stated(self, device: Device) -> dict[str, Any]:
        """As the header has it."""
        return {
            "extent": self.extent,
            "visits": self.passes,
            "spread": self.spread,
            "cap": self.cap or CAPS[self.extent],
            "cache": self.cache,
            "threads": device.threads,
            "flush": device.flush_how,
            "budget": self.budget,
            "energy": self.energy,
            "kernels": self.kernels.split(","),
            "case": list(self.cases),
            "set": list(self.axes),
            "race": list(self.races),
            "limit": self.limit,
            **(self.asked.stated() if self.asked else {"model": None}),
        }


class Stating(Protocol):
    """Options that a header states: a run's, or a study's."""

    def stated(self, device: Device) -> dict[str, Any]: ...


@dataclass
class Progress:
    """Where a run is, for whoever shows it."""

    done: int
    total: int
    visit: int
    case: str
    left: float  # seconds


class Running:
    """A run: items times passes, one file."""

    def __init__(
        self,
        items: Sequence[Item],
        device: Device,
        options: Options,
        file: Path,
        show: Callable[[Progress], None] = lambda _: None,
        earlier: Sequence[Any_Line] = (),
    ) -> None:
        self.items, self.device, self.options, self.show = items, device, options, show
        self.entries: dict[str, Kernel | Version] = {**entries(), **VERSIONS}
        header = None if earlier else self.header()  # before there is a file, so that no file lacks it
        self.journal = Journal(file, earlier)
        if header:
            self.journal.add(header)
        self._began = monotonic()
        self._units = len(items) * options.passes
        self._measured = 0

    def go(self) -> None:
        """Measure everything that the file does not hold yet, or as much as the budget allows."""
        try:
            order = list(self.items)
            first_ended = monotonic()
            for visit in range(1, self.options.passes + 1):
                self._wait(visit, first_ended)
                reached = self._pass(order, visit, self._deadline(visit))
                if visit == 1:
                    order = order[:reached]
                    first_ended = monotonic()
                    self._units = reached * self.options.passes
                random.Random(visit).shuffle(order)
            if self.device.meter and self.options.energy != "off":
                self._meter()
        finally:
            self.journal.close()

    def header(self) -> Run:
        """The first line of the file."""
        names = dict.fromkeys(item.workload for item in self.items)
        return heading(
            self.device,
            workloads={name: WORKLOADS[name].version for name in names},
            planned=sum(len(item.kernels) for item in self.items),
            elsewhere=Counter(one.on for one in KERNELS.values() if one.on != self.device.kind),
            options=self.options.stated(self.device),
        )

    def _wait(self, visit: int, first_ended: float) -> None:
        """Until a visit may begin, so that they are spread evenly from the first one's end on."""
        due = first_ended + self.options.spread * (visit - 1) / max(1, self.options.passes - 1)
        sleep(max(0.0, due - monotonic()))

    def _deadline(self, visit: int) -> float | None:
        """When a pass must end so that all passes get the same share of the budget; None: whenever."""
        if self.options.budget is None:
            return None
        metered = self.device.meter is not None and self.options.energy != "off"
        budget = self.options.budget * (1 - METERED_SHARE if metered else 1)
        left = budget - (monotonic() - self._began)
        slack = SLACK if visit == 1 else 0  # later passes repeat what the first reached, and may be slower
        return monotonic() + left / (self.options.passes - visit + 1 + slack)

    def _pass(self, order: Sequence[Item], visit: int, until: float | None, metered: bool = False) -> int:
        """One visit of each item, in fresh processes; how many items were reached in time."""
        at = 0
        while at < len(order):
            if until is not None and monotonic() >= until and (at or visit > 1):
                break
            work = [(index, self._work(item, visit, metered)) for index, item in enumerate(order[at:], at)]
            due = [(index, one) for index, one in work if one.kernels]
            self._measured += len(work) - len(due)
            if not due:
                return len(order)
            at = self._child(due, order, visit, until, metered)
        return at

    def _work(self, item: Item, visit: int, metered: bool) -> Work:
        """What of an item is still to be measured in this visit."""
        work = Work(item.workload, str(item.case), [], [])
        versions = VERSIONS if item.case.data in MODELS and not metered else ()
        for names, due in ((item.kernels, work.kernels), (versions, work.versions)):
            due.extend(name for name in names if self._is_due(name, work, visit, metered))
        return work

    def _is_due(self, name: str, work: Work, visit: int, metered: bool) -> bool:
        """Whether an entry is to be measured; one that is tried no more gets a line that says so."""
        of, cache = self.entries[name], "rotating" if metered else self.options.cache
        if not self.journal.is_due((work.case, name, of.hash, cache, self.device.threads, visit, of.scope)):
            return False
        out = self.journal.is_out(name)
        if out and visit == 1:
            self.journal.add(self._failure(work, name, visit, OUT, metered))
        return not out

    def _child(
        self,
        due: Sequence[tuple[int, Work]],
        order: Sequence[Item],
        visit: int,
        until: float | None,
        metered: bool,
    ) -> int:
        """Run one child over what is due; the index in `order` from which to go on."""
        job = WorkJob(
            work=[work for _, work in due],
            visit=visit,
            cache=self.options.cache,
            threads=self.device.threads,
            device=self.device.spec,
            metered=metered,
            effort={"cap": self.options.cap or CAPS[self.options.extent]},
            plugins=list(self.options.plugins),
            matrices=dict(sources.known()),
            recordings=recordings.known(),
            brought=models.used(self.options.asked),
        )
        done = 0
        with Offspring(job, self.device.environment(), self.options.limit) as child:
            for event in child.events():
                if event.line is not None:
                    self.journal.add(event.line)
                if event.done is None:
                    continue
                done = event.done + 1
                index, work = due[event.done]
                if not metered:
                    self._tell(visit, work.case)
                if until is not None and monotonic() >= until:
                    return index + 1
        if child.ending is None or done == len(due):
            return len(order)
        index, work = due[done]
        self._lost(work, visit, child.ending, done, metered)
        return index

    def _lost(self, work: Work, visit: int, ending: Ending, at: int, metered: bool) -> None:
        """A child died: a line for the entry it died in, or for all kernels of the case if it was in none."""
        if ending.case is None and not self.journal.results:
            raise Unusable(
                f"the measuring process does not start: {ending.note}. `sparsemark devices` may say more."
            )
        culprits = work.kernels
        if ending.entry is not None and ending.case == at:
            culprits = [ending.entry]
            self.journal.struck(ending.entry)
        for name in culprits:
            self.journal.add(self._failure(work, name, visit, ending, metered))

    def _failure(self, work: Work, name: str, visit: int, ending: Ending, metered: bool) -> Result:
        """The line of an entry that cannot tell itself what became of it."""
        cache = "rotating" if metered else self.options.cache
        about = describe(work.workload, from_id(work.case), self.entries[name], self.device, visit, cache)
        return Result(**about, outcome=ending.outcome, note=ending.note)

    def _tell(self, visit: int, case: str) -> None:
        self._measured += 1
        elapsed = monotonic() - self._began
        left = elapsed / self._measured * (self._units - self._measured)
        if self.options.budget is not None:
            left = min(left, self.options.budget - elapsed)
        self.show(Progress(self._measured, self._units, visit, case, max(0.0, left)))

    def _meter(self) -> None:
        """Energy windows of their own, after the passes, of those that the passes chose."""
        chosen = winners(self.journal.results, everything=self.options.energy == "all")
        order = [Item(workload, from_id(case), kernels) for (workload, case), kernels in chosen.items()]
        until = None
        if self.options.budget is not None:
            until = self._began + self.options.budget - 2 * (WINDOW + 2 * IDLE)  # a case has two windows
        self._pass(order, self.options.passes + 1, until, metered=True)


def resume(file: Path, device: Device, options: Stating) -> list[Any_Line]:
    """The lines of a file to go on with, its torn last one dropped; none if it holds nothing yet.

    It must be of this commit, device and options, for its lines and the new ones will be shown as one run.
    """
    if not file.is_file():
        raise Unusable(f"--resume: there is no {file}. Name the file with --out, or leave --resume out.")
    found = read(file)
    if found.torn:
        raw = file.read_bytes()
        with file.open("r+b") as open_file:
            open_file.truncate(raw.rfind(b"\n") + 1)
    if not file.stat().st_size:
        return []
    if found.faults or found.run is None:
        raise Unusable(f"--resume: {found.faults[0]}. Mend the file, or start another with --out.")
    for name, theirs, mine in differences(found.run, device, options):
        raise Unusable(
            f"--resume: {file} was measured with {name} {theirs}, this is {mine}. "
            "Go back to that, or start another file with --out."
        )
    return found.lines


def differences(run: Run, device: Device, options: Stating) -> list[tuple[str, Any, Any]]:
    """(what, in the file, here) of all that must be the same in one file."""
    here = provenance.commit()
    pairs = [("version", run.version, __version__), ("commit", run.commit, here)]
    mine = {"kind": device.kind, "name": device.name, **device.fingerprint()}
    theirs = run.devices.get(device.key)
    if theirs is None:
        pairs.append(("device", ", ".join(run.devices), device.key))
    else:
        mine = msgspec.json.decode(msgspec.json.encode(mine))
        pairs += [(name, theirs.get(name), mine.get(name)) for name in {*mine, *theirs}]
    stated = options.stated(device)
    pairs += [
        (name if name == "flush" else f"--{name}", run.options.get(name), stated[name])
        for name in stated
        if name != "budget"
    ]
    return [pair for pair in pairs if pair[1] != pair[2]]


def newest(folder: Path, study: bool = False) -> Path | None:
    """The latest run below a folder, or study, by its name: they are named by their start.

    Races and imported scores are none.
    """
    files = [file for file in folder.rglob("*.jsonl") if file.parent.name not in ("races", IMPORTED)]
    for file in sorted(files, key=lambda file: (file.stem, str(file)), reverse=True):
        run = header(file)
        if study == (run is not None and "study" in run.options):
            return file
    return None


def default_file(folder: Path, device: Device, kind: str = "") -> Path:
    """results/<device>/<start>.jsonl, or within a folder of that for runs of another kind."""
    return folder / device.key / kind / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.jsonl"
