"""Running: passes over the cases in fresh child processes, each line on disk as soon as it exists."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import msgspec

from suite import __version__, provenance, registry, sources
from suite.case import from_id
from suite.child import Event, Job, Work
from suite.device import Device
from suite.isolate import Ending, Offspring
from suite.kernel import KERNELS
from suite.plan import Item
from suite.record import SCHEMA, Any_Line, Recorded, Result, Run, Writer, read
from suite.registry import Unusable
from suite.winners import winners
from suite.workload import WORKLOADS

VISITS = {"smoke": 3, "default": 3, "full": 5}
CAPS = {"smoke": 0.05, "default": 0.1, "full": 1.0}  # seconds of sampling a kernel gets in one visit

STRIKES = 3  # a kernel that hangs or kills its process on so many cases is not tried on more


@dataclass(frozen=True)
class Options:
    """How to measure; what the header of the file states."""

    extent: str = "default"
    visits: int | None = None
    cache: str = "cold"
    budget: float | None = None  # seconds
    limit: float = 60.0  # seconds one step of one kernel may take
    energy: str = "winners"
    plugins: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()

    @property
    def passes(self) -> int:
        return self.visits or VISITS[self.extent]


@dataclass
class Progress:
    """Where a run is, for whoever shows it."""

    done: int
    total: int
    visit: int
    case: str
    left: float | None  # seconds, once there is something to judge by


@dataclass
class Running:
    """A run: items times passes, one file."""

    items: Sequence[Item]
    device: Device
    options: Options
    file: Path
    show: Callable[[Progress], None] = lambda _: None
    resumed: Recorded | None = None
    _done: set[tuple] = field(default_factory=set)
    _failed: set[tuple[str, str]] = field(default_factory=set)  # (case, kernel) not to be tried again
    _strikes: dict[str, int] = field(default_factory=dict)
    _results: list[Result] = field(default_factory=list)

    def go(self) -> None:
        """Measure everything that the file does not hold yet, or as much as the budget allows."""
        with Writer(self.file) as self._writer:
            if self.resumed:
                for line in self.resumed.results:
                    self._remember(line)
            else:
                self._writer.write(self.header())
            self._began = monotonic()
            self._units, self._measured = len(self.items) * self.options.passes, 0
            order = list(self.items)
            visited: list[Item] = []
            for visit in range(1, self.options.passes + 1):
                until = self._share(visit)
                reached = self._pass(order, visit, until)
                if visit == 1:
                    visited = order[:reached]
                    self._units = len(visited) * self.options.passes
                order = list(visited)
                random.Random(f"{visit}").shuffle(order)
            self._meter()

    def header(self) -> Run:
        """The first line of the file."""
        names = dict.fromkeys(item.workload for item in self.items)
        return Run(
            schema=SCHEMA,
            version=__version__,
            commit=provenance.commit(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            workloads={name: WORKLOADS[name].version for name in names if name in WORKLOADS},
            planned=sum(len(item.kernels) for item in self.items),
            devices={
                self.device.key: {
                    "kind": self.device.kind,
                    "name": self.device.name,
                    **self.device.fingerprint(),
                }
            },
            libraries=provenance.libraries(),
            plugins=list(registry.PLUGINS),
            options={
                "extent": self.options.extent,
                "visits": self.options.passes,
                "cache": self.options.cache,
                "threads": self.device.threads,
                "budget": self.options.budget,
                "energy": self.options.energy,
                "set": list(self.options.axes),
                "limit": self.options.limit,
            },
        )

    def _share(self, visit: int) -> float | None:
        """When a pass must end so that all passes get the same share of the budget."""
        if self.options.budget is None:
            return None
        left = self.options.budget - (monotonic() - self._began)
        return monotonic() + left / (self.options.passes - visit + 1)

    def _pass(self, order: Sequence[Item], visit: int, until: float | None) -> int:
        """One visit of each item, in fresh processes; how many items were reached in time."""
        at = 0
        while at < len(order):
            if until is not None and monotonic() >= until and (at or visit > 1):
                break
            work = [(index, self._work(item, visit)) for index, item in enumerate(order[at:], at)]
            due = [(index, one) for index, one in work if one.kernels]
            if not due:
                return len(order)
            at = self._child(due, order, visit, until)
        return at

    def _work(self, item: Item, visit: int, metered: bool = False) -> Work:
        """What of an item is still to be measured in this visit."""
        cache = "rotating" if metered else self.options.cache
        work = Work(item.workload, str(item.case), [])
        for name in item.kernels:
            key = (work.case, name, KERNELS[name].hash, cache, self.device.threads, visit)
            if key in self._done or (work.case, name) in self._failed:
                continue
            if self._strikes.get(name, 0) < STRIKES:
                work.kernels.append(name)
            elif visit == 1:
                why = Ending(
                    "refused", f"not tried: it ended its process on {STRIKES} other cases", None, None
                )
                self._record(self._failure(work, name, visit, why, why.note, metered))
        return work

    def _child(
        self,
        due: Sequence[tuple[int, Work]],
        order: Sequence[Item],
        visit: int,
        until: float | None,
        metered: bool = False,
    ) -> int:
        """Run one child over what is due; the index in `order` from which to go on."""
        job = Job(
            work=[work for _, work in due],
            visit=visit,
            cache=self.options.cache,
            threads=self.device.threads,
            pipe=0,
            pulse="",
            metered=metered,
            effort={"cap": CAPS[self.options.extent]},
            plugins=list(self.options.plugins),
            matrices=dict(sources.known()),
        )
        begun = 0
        with Offspring(job, self.device.environment(), self.options.limit) as child:
            for event in child.events():
                self._heard(event)
                if event.done is None:
                    continue
                begun = event.done + 1
                index, work = due[event.done]
                self._tell(visit, work.case)
                if until is not None and monotonic() >= until:
                    return index + 1
        if child.ending is None or begun == len(due):
            return len(order)
        index, work = due[begun]
        self._lost(work, visit, child.ending, begun, metered)
        return index

    def _heard(self, event: Event) -> None:
        if event.line is not None:
            self._record(event.line)

    def _record(self, line: Any_Line) -> None:
        self._writer.write(line)
        if isinstance(line, Result):
            self._remember(line)

    def _remember(self, line: Result) -> None:
        self._done.add(line.key)
        self._results.append(line)
        if line.outcome != "ok":
            self._failed.add((line.case, line.kernel))

    def _lost(self, work: Work, visit: int, ending: Ending, at: int, metered: bool) -> None:
        """A child died: one line for the kernel it died in, or for all of the case if it was in none."""
        if ending.case is None and not self._results:
            raise Unusable(f"the measuring process does not start: {ending.note}.")
        if ending.kernel is None or ending.case != at:
            culprits, note = work.kernels, f"{ending.note}, before any kernel of this case ran"
        else:
            culprits, note = [work.kernels[ending.kernel]], ending.note
        for name in culprits:
            self._strikes[name] = self._strikes.get(name, 0) + 1
            self._record(self._failure(work, name, visit, ending, note, metered))

    def _failure(self, work: Work, name: str, visit: int, ending: Ending, note: str, metered: bool) -> Result:
        case, kernel = from_id(work.case), KERNELS[name]
        return Result(
            device=self.device.key,
            workload=work.workload,
            op=case.op,
            case=work.case,
            sizes=dict(case.sizes),
            pattern=str(case.pattern),
            dtype=case.dtype,
            seed=case.seed,
            data=case.data,
            phase=case.regime,
            kernel=name,
            kernel_hash=kernel.hash,
            dense=kernel.dense,
            ids=list(kernel.ids),
            execution="dense" if kernel.dense else "sparse",
            outcome=ending.outcome,
            note=note,
            visit=visit,
            cache="rotating" if metered else self.options.cache,  # pyright: ignore[reportArgumentType]
            threads=self.device.threads,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _tell(self, visit: int, case: str) -> None:
        self._measured += 1
        pace = (monotonic() - self._began) / self._measured
        left = pace * (self._units - self._measured)
        if self.options.budget is not None:
            left = min(left, self.options.budget - (monotonic() - self._began))
        self.show(Progress(self._measured, self._units, visit, case, max(0.0, left)))

    def _meter(self) -> None:
        """Energy windows of their own, after the passes, of those that the passes chose."""
        if self.device.meter is None or self.options.energy == "off":
            return
        chosen = winners(self._results, everything=self.options.energy == "all")
        visit = self.options.passes + 1
        order = [Item(workload, from_id(case), kernels) for (workload, case), kernels in chosen.items()]
        at = 0
        while at < len(order):
            work = [
                (index, self._work(item, visit, metered=True)) for index, item in enumerate(order[at:], at)
            ]
            due = [(index, one) for index, one in work if one.kernels]
            if not due:
                return
            at = self._child(due, order, visit, None, metered=True)


def resume(file: Path, device: Device) -> Recorded:
    """A file to go on with: of this commit and device, its torn last line dropped."""
    if not file.is_file():
        raise Unusable(f"--resume: there is no {file}. Name the file with --out, or leave --resume out.")
    found = read(file)
    if found.faults:
        raise Unusable(f"--resume: {found.faults[0]} Mend the file, or start another with --out.")
    assert found.run
    here = provenance.commit()
    if found.run.commit != here or found.run.version != __version__:
        raise Unusable(
            f"--resume: {file} was measured with {found.run.version} {found.run.commit}, this is "
            f"{__version__} {here}. Go back to that commit, or start another file with --out."
        )
    mine = {"kind": device.kind, "name": device.name, **device.fingerprint()}
    theirs = found.run.devices.get(device.key)
    if theirs is None or msgspec.json.encode(theirs) != msgspec.json.encode(mine):
        raise Unusable(f"--resume: {file} was measured on another device ({', '.join(found.run.devices)}).")
    if found.torn:
        raw = file.read_bytes()
        file.write_bytes(raw[: raw.rfind(b"\n") + 1])
    return found


def newest(folder: Path) -> Path | None:
    """The latest results file below a folder, by its name (runs are named by their start)."""
    return max(folder.rglob("*.jsonl"), key=lambda file: (file.stem, str(file)), default=None)


def default_file(folder: Path, device: Device) -> Path:
    """results/<device>/<start>.jsonl"""
    return folder / device.key / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.jsonl"
