"""Check: every fault of a file that is to be shared, by line, and what a person should look at."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from suite.device import Ceiling
from suite.op import discover_parts
from suite.reading.frame import ceilings_of
from suite.record import Fault, Recorded, Result
from suite.submitting import header, ledger, plausible


@dataclass(frozen=True)
class Checked:
    """faults: it cannot be published so. unusual: it can, once somebody has looked at them."""

    recorded: Recorded
    faults: list[Fault]
    unusual: list[Fault]


def check(recorded: Recorded, now: datetime | None = None) -> Checked:
    """Everything that is wrong with a file that somebody wants to publish. Nothing is run for it."""
    discover_parts()
    places = {id(line): number for line, number in zip(recorded.lines, recorded.at, strict=True)}

    def at(line: Result | None, says: str) -> Fault:
        return Fault(str(recorded.file), places[id(line)] if line else 1, says)

    found = [at(line, says) for line, says in faults(recorded, now)]
    looked = [at(line, says) for line, says in plausible.unusual(recorded)]
    ordered = sorted([*recorded.faults, *found], key=lambda fault: fault.line)
    return Checked(recorded, ordered, sorted(looked, key=lambda fault: fault.line))


def faults(recorded: Recorded, now: datetime | None) -> Iterator[tuple[Result | None, str]]:
    """(line, what is wrong with it), beyond what every reader checks. None: the header."""
    run = recorded.run
    if run is None:
        return
    yield from ((None, says) for says in header.faults(run, now))
    folder = recorded.file.resolve().parent
    if folder.parent.name == "results" and folder.name not in run.devices:
        yield None, f"in the folder {folder.name}, and of {', '.join(run.devices)}"
    ceilings, latest = ceilings_of([recorded]), header.latest(now)
    for line in recorded.results:
        if line.device not in run.devices:
            yield line, f"device {line.device} is not in the header"
        if line.workload not in run.workloads:
            yield line, f"workload {line.workload} is not in the header"
        if line.started > latest:
            yield line, f"started {line.started}, which is still to come"
        yield from ((line, says) for says in ledger.faults(line))
        ceiling = ceilings.get(line.device, Ceiling())
        yield from ((line, says) for says in plausible.faults(line, recorded, ceiling))
    yield from plausible.of_file(recorded)
