"""Energy: the joules of one call, over a window of many, for meters tick slowly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any

from suite.device import Meter

WINDOW = 5.0  # seconds; a counter that ticks every 0.1 s is then wrong by 2 % at most
IDLE = 1.0


@dataclass(frozen=True)
class Energy:
    """Joules and seconds of one call in a window without flushes, and the idle power around it."""

    joules: float
    seconds: float
    calls: int
    idle_watts: float


def meter_calls(
    calls: Sequence[Callable[[], Any]],
    meter: Meter,
    window: float = WINDOW,
    idle: float = IDLE,
    now: Callable[[], float] = perf_counter,
    rest: Callable[[float], None] = sleep,
    beat: Callable[[], None] = lambda: None,
) -> Energy:
    """Run `calls` in turn (the same kernel over rotating live operands) for at least `window` seconds.

    Idle power is the mean of a rest before and one after. Raises OSError where the meter stops answering.
    """
    before = idle_watts(meter, idle, now, rest)
    beat()
    done = 0
    start, first = now(), meter.joules()
    while (elapsed := now() - start) < window:
        calls[done % len(calls)]()
        done += 1
        beat()
    joules = meter.joules() - first
    after = idle_watts(meter, idle, now, rest)
    if joules <= 0:
        raise OSError(f"{meter.source} did not move in {elapsed:.1f} s")
    return Energy(joules / done, elapsed / done, done, (before + after) / 2)


def idle_watts(
    meter: Meter, seconds: float, now: Callable[[], float], rest: Callable[[float], None]
) -> float:
    """Mean power while this process does nothing."""
    start, first = now(), meter.joules()
    rest(seconds)
    return (meter.joules() - first) / (now() - start)
