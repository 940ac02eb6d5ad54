"""Noise: who else used the pinned cores while something was measured, and at what clock they ran."""

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from suite.cpu.topology import CPUS, ROOT, number, text
from suite.device import Noise

USER, NICE, SYSTEM, IDLE, WAITING, INTERRUPT, SOFT_INTERRUPT, STEAL = range(8)
TICKS = 5  # over fewer, one tick more or less is most of the answer

BUSY = (USER, NICE, SYSTEM, INTERRUPT, SOFT_INTERRUPT)  # guests are counted in USER already


@dataclass(frozen=True)
class Reading:
    """Counters at one moment, in seconds summed over the pinned CPUs; None where the system hides them."""

    at: float
    own: float
    busy: float | None
    steal: float | None
    throttled: int | None


def ticks_per_second() -> float:
    """The unit of /proc/stat."""
    return os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100.0


def cpu_times(root: Path, cpus: Collection[int]) -> tuple[float, float] | None:
    """(busy, stolen) seconds of these CPUs since boot."""
    names = {f"cpu{cpu}" for cpu in cpus}
    rows = [line.split() for line in (text(root / "proc/stat") or "").splitlines()]
    found = [[int(value) for value in row[1:9]] for row in rows if row and row[0] in names]
    if len(found) != len(names) or any(len(row) < 8 for row in found):
        return None
    tick = ticks_per_second()
    return sum(row[kind] for row in found for kind in BUSY) / tick, sum(row[STEAL] for row in found) / tick


def throttles(root: Path, cpus: Collection[int]) -> int | None:
    """How often these CPUs were slowed for heat since boot; Intel's count it, most others do not."""
    folders = [root / CPUS / f"cpu{cpu}" / "thermal_throttle" for cpu in cpus]
    names = ("core_throttle_count", "package_throttle_count")
    counts = [number(folder / name) for folder in folders for name in names]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def reading(root: Path, cpus: Collection[int], now: Callable[[], float], own: Callable[[], float]) -> Reading:
    """All counters now."""
    busy, steal = cpu_times(root, cpus) or (None, None)
    return Reading(now(), own(), busy, steal, throttles(root, cpus))


def watch(
    cpus: Collection[int],
    clock: Callable[[], float | None] = lambda: None,
    root: Path = ROOT,
    now: Callable[[], float] = time.monotonic,
    own: Callable[[], float] = time.process_time,
) -> Callable[[], Noise]:
    """Start watching; the returned function says what was seen since."""
    before_clock = clock()
    before = reading(root, cpus, now, own)

    def seen() -> Noise:
        after = reading(root, cpus, now, own)
        clocks = [mhz for mhz in (before_clock, clock()) if mhz]
        return between(before, after, len(cpus), sum(clocks) / len(clocks) if clocks else None)

    return seen


def between(before: Reading, after: Reading, cpus: int, clock_mhz: float | None) -> Noise:
    """What happened from one reading to the next."""
    elapsed = after.at - before.at
    time_of_all = elapsed * cpus if elapsed * ticks_per_second() >= TICKS else 0.0
    foreign = steal = throttle = None
    if time_of_all > 0 and before.busy is not None and after.busy is not None:
        others = after.busy - before.busy - (after.own - before.own)
        foreign = share(others, time_of_all)
    if time_of_all > 0 and before.steal is not None and after.steal is not None:
        steal = share(after.steal - before.steal, time_of_all)
    if before.throttled is not None and after.throttled is not None and after.throttled > before.throttled:
        throttle = f"slowed for heat {after.throttled - before.throttled} times"
    return Noise(foreign, steal, clock_mhz, throttle)


def share(part: float, whole: float) -> float:
    """Within 0 and 1: ticks are coarser than the clock they are compared with."""
    return min(1.0, max(0.0, part / whole))
