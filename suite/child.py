"""Child: the process that measures. It can crash, hang or be killed; its parent then starts another.

`python -P -m suite.child JOB` tells events by its job's pipe: result and ceilings lines as they will stand in
the file, and the number of each case that is done.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from suite.apart import Job, told
from suite.pulse import NOBODY, STAGES, Pulse, trying
from suite.record import Any_Line, Ceilings
from suite.registry import Unusable
from suite.studying.child import Brought

PULSE = "pulse"  # the file in the job's folder by which the parent knows where the child is
BETWEEN = 20.0  # seconds of measuring after which the device's ceilings are looked at again


class Work(msgspec.Struct):
    """A case, the kernels to measure on it, and versions of the model that it is of, by name."""

    workload: str
    case: str
    kernels: list[str]
    versions: list[str]

    @property
    def entries(self) -> list[str]:
        """What a pulse may be of."""
        return [*self.kernels, *self.versions]

    @property
    def stages(self) -> list[str]:
        """What it may say of one."""
        return [*STAGES, *map(trying, self.kernels)]


class WorkJob(Job):
    """All a child needs to know."""

    work: list[Work]
    visit: int
    cache: str
    threads: int
    device: str = "cpu"
    metered: bool = False
    effort: dict[str, float] = {}
    plugins: list[str] = []
    matrices: dict[str, str] = {}  # data id -> path
    recordings: dict[str, str] = {}  # likewise
    brought: Brought | None = None  # a model of the user's, to be timed as a whole


class Event(msgspec.Struct, omit_defaults=True):
    """What a child tells its parent."""

    line: Any_Line | None = None  # as it will stand in the results file
    done: int | None = None  # all lines of this case are written
    fatal: str | None = None  # why no case at all can be measured


def main(file: str) -> None:
    """Measure the job of this file."""
    job = told(file, WorkJob)

    def tell(event: Event) -> None:
        os.write(job.pipe, msgspec.json.encode(event) + b"\n")

    try:
        work(job, tell)
    except Unusable as mistake:
        tell(Event(fatal=str(mistake)))
    os._exit(0)  # a plug-in's threads and exit hooks are none of ours


def work(job: WorkJob, tell) -> None:
    """Visit the cases in order."""
    from suite import devices, selector, sources
    from suite.case import from_id
    from suite.measure import Effort
    from suite.op import discover_parts
    from suite.registry import discover, pick
    from suite.version import VERSIONS
    from suite.visit import Visit

    device = devices.of(job.device, job.threads)
    device.confine()
    discover_parts()
    discover([Path(plugin) for plugin in job.plugins], folders=("kernels", "workloads"))
    there = selector.entries()
    sources.use(job.matrices)
    if job.recordings:
        from suite import recordings

        recordings.use(job.recordings)
    if job.brought:
        from suite import models

        models.use(job.brought)
    pulse = Pulse(Path(job.folder) / PULSE)

    looked = float("-inf")
    for at, one in enumerate(job.work):
        if os.times().elapsed - looked > BETWEEN:
            pulse.beat(NOBODY, NOBODY, 0)
            reached = device.ceilings(0.3)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            seen = Ceilings(device=device.key, flops=reached.flops, bandwidth=reached.bandwidth, started=now)
            tell(Event(line=seen))
            looked = os.times().elapsed
        entries = {"": NOBODY} | {name: number for number, name in enumerate(one.entries)}
        stages = {name: number for number, name in enumerate(one.stages)}

        def beat(entry: str, stage: str, at=at, entries=entries, stages=stages) -> None:
            pulse.beat(at, entries[entry], stages[stage])

        visit = Visit(device, job.visit, job.cache, Effort(**job.effort), job.metered, beat)  # pyright: ignore
        kernels = [pick("kernel", name, there) for name in one.kernels]
        versions = [VERSIONS[name] for name in one.versions]
        for result in visit.results(one.workload, from_id(one.case), kernels, versions):
            tell(Event(line=result))
        tell(Event(done=at))


if __name__ == "__main__":
    main(sys.argv[1])
