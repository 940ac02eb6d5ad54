"""Child: the process that measures. It can crash, hang or be killed; its parent then starts another.

`python -P -m suite.child JOB` reads a Job and writes events, one JSON line each, to the job's pipe: result
and ceilings lines as they will stand in the file, and the number of each case that is done.
"""

import contextlib
import ctypes
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from suite.record import Any_Line, Ceilings

BETWEEN = 20.0  # seconds of measuring after which the device's ceilings are looked at again


class Work(msgspec.Struct):
    """A case and the kernels to measure on it, by name."""

    workload: str
    case: str
    kernels: list[str]


class Job(msgspec.Struct):
    """All a child needs to know."""

    work: list[Work]
    visit: int
    cache: str
    threads: int
    pipe: int = 0  # these three are the parent's to fill in
    pulse: str = ""
    parent: int = 0
    metered: bool = False
    effort: dict[str, float] = {}
    plugins: list[str] = []
    matrices: dict[str, str] = {}  # data id -> path
    ceilings: bool = True


class Event(msgspec.Struct, omit_defaults=True):
    """What a child tells its parent."""

    line: Any_Line | None = None  # as it will stand in the results file
    done: int | None = None  # all lines of this case are written
    fatal: str | None = None  # why no case at all can be measured


def die_with(parent: int) -> None:
    """A parent that is killed takes its child with it, and the system's memory killer starts here."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it was gone before that
            os._exit(1)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


def limit_memory(most: int) -> None:
    """Let an allocation fail that the machine cannot hold, rather than have the system kill somebody."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main(file: str) -> None:
    """Measure the job of this file."""
    job = msgspec.json.decode(Path(file).read_bytes(), type=Job)
    die_with(job.parent)

    def tell(event: Event) -> None:
        os.write(job.pipe, msgspec.json.encode(event) + b"\n")

    from suite.registry import Unusable

    try:
        work(job, tell)
    except Unusable as mistake:
        tell(Event(fatal=str(mistake)))
    os._exit(0)  # a plug-in's threads and exit hooks are none of ours


def work(job: Job, tell) -> None:
    """Visit the cases in order."""
    from suite import sources
    from suite.case import from_id
    from suite.cpu import Cpu
    from suite.kernel import KERNELS
    from suite.measure import Effort
    from suite.op import discover_parts
    from suite.pulse import NOBODY, Pulse
    from suite.registry import discover, pick
    from suite.visit import STAGES, Visit

    device = Cpu(threads=job.threads)
    device.pin()
    limit_memory(device.memory)
    discover_parts()
    discover([Path(plugin) for plugin in job.plugins], folders=("kernels",))
    sources.use(job.matrices)
    pulse = Pulse(Path(job.pulse))

    def line(record: Any_Line) -> None:
        tell(Event(line=record))

    def look() -> None:
        reached = device.ceilings(0.3)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line(Ceilings(device=device.key, flops=reached.flops, bandwidth=reached.bandwidth, started=now))

    last = None
    for at, one in enumerate(job.work):
        clock = os.times().elapsed
        if job.ceilings and (last is None or clock - last > BETWEEN):
            pulse.beat(NOBODY, NOBODY, 0)
            look()
            last = clock

        places = {"": NOBODY} | {name: place for place, name in enumerate(one.kernels)}

        def beat(kernel: str, stage: str, at: int = at, places: dict[str, int] = places) -> None:
            pulse.beat(at, places[kernel], STAGES.index(stage))

        visit = Visit(device, job.visit, job.cache, Effort(**job.effort), job.metered, beat)  # pyright: ignore
        kernels = [pick("kernel", name, KERNELS) for name in one.kernels]
        for result in visit.results(one.workload, from_id(one.case), kernels):
            line(result)
        tell(Event(done=at))


if __name__ == "__main__":
    main(sys.argv[1])
