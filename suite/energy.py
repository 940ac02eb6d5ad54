"""Energy: the joules of one call, over a window of many, for meters tick slowly."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, pairwise
from threading import Event, Thread
from time import perf_counter, sleep
from typing import Any

from suite.device import Meter

WINDOW = 5.0  # seconds; a counter that ticks every 0.1 s is then wrong by 2 % at most
IDLE = 1.0
LOOK = 0.02  # seconds between looks at the power: sensors move every 25 to 100 ms
APART = 0.1  # a counter and integrated power that differ by more contradict each other

Burst = tuple[Callable[[], Any], int]  # what to launch, and how many calls it makes


@dataclass(frozen=True)
class Energy:
    """Joules and seconds of one call in a window without flushes, and the idle power around it.

    counter: by the meter's counter; integral: by its power over the window. None: it has no such thing.
    """

    counter: float | None
    integral: float | None
    seconds: float
    calls: int
    idle_watts: float | None

    @property
    def note(self) -> str:
        """What is wrong with it; empty if nothing is."""
        if not self.counter or not self.integral:
            return ""
        apart = abs(self.counter - self.integral) / max(self.counter, self.integral)
        return f"the counter and integrated power are {apart:.0%} apart" if apart > APART else ""


def meter_calls(
    bursts: Sequence[Burst],
    meter: Meter,
    window: float = WINDOW,
    idle: float = IDLE,
    now: Callable[[], float] = perf_counter,
    rest: Callable[[float], None] = sleep,
    beat: Callable[[], None] = lambda: None,
    wait: Callable[[], None] = lambda: None,
) -> Energy:
    """Launch `bursts` in turn (the same kernel over rotating operands) for at least `window` seconds.

    `wait` returns once the device is done with a burst, which is long against the gap that this leaves. Idle
    power is the mean of a rest before and one after. Raises OSError where the meter stops answering, or does
    not move.
    """
    wait()
    before = idle_watts(meter, idle, now, rest)
    beat()
    done, turns = 0, cycle(bursts)
    with integrating(meter, now) as drawn:
        start, first = now(), meter.joules()
        while now() - start < window:
            launch, count = next(turns)
            launch()
            wait()
            done += count
            beat()
        last, elapsed = meter.joules(), now() - start
    integral = drawn(elapsed)
    after = idle_watts(meter, idle, now, rest)
    counter = None if first is None or last is None else last - first
    if not counter and (first is not None or not integral):
        raise OSError(f"{meter.source} did not move in {elapsed:.1f} s")
    idles = [watts for watts in (before, after) if watts is not None]
    return Energy(
        counter and counter / done,
        integral and integral / done,
        elapsed / done,
        done,
        sum(idles) / len(idles) if idles else None,
    )


def idle_watts(
    meter: Meter, seconds: float, now: Callable[[], float], rest: Callable[[float], None]
) -> float | None:
    """Mean power while this process does nothing."""
    with integrating(meter, now) as drawn:
        start, first = now(), meter.joules()
        rest(seconds)
        last, elapsed = meter.joules(), now() - start
    if first is not None and last is not None:
        return (last - first) / elapsed
    integral = drawn(elapsed)
    return None if integral is None else integral / elapsed


@contextmanager
def integrating(meter: Meter, now: Callable[[], float]) -> Iterator[Callable[[float], float | None]]:
    """Look at the power all along; afterwards the given function says the joules of so many seconds."""
    seen: list[tuple[float, float]] = []
    over = Event()

    def look() -> None:
        while not over.is_set():
            try:
                watts = meter.watts()
            except OSError:
                return
            if watts is None:
                return
            seen.append((now(), watts))
            over.wait(LOOK)

    looking = Thread(target=look, daemon=True)
    looking.start()
    try:
        yield lambda seconds: integrate(seen, seconds)
    finally:
        over.set()
        looking.join()


def integrate(seen: Sequence[tuple[float, float]], seconds: float) -> float | None:
    """Joules by the trapezoidal rule over (moment, watts), its mean taken over all of the seconds."""
    if len(seen) < 2:
        return None
    span = seen[-1][0] - seen[0][0]
    if span <= 0:
        return None
    area = sum((one + other) / 2 * (later - at) for (at, one), (later, other) in pairwise(seen))
    return area / span * seconds
