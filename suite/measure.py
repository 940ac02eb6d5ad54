"""Measuring: single calls of all kernels of a case in turn, each on the cache state that was asked for.

Interleaving makes kernels share whatever speed the machine has at the time. One visit's samples are
correlated, so the interval here only says when to stop; the intervals people see are across visits.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt
from statistics import median
from time import perf_counter
from typing import Any, Protocol

LONG = 0.1  # seconds; a call this long needs no other before it to wake threads and clock
MOST_DISCARDED = 50  # samples more than those that count, and a kernel is given up


@dataclass(frozen=True)
class Effort:
    """How much one visit samples a kernel."""

    cap: float = 0.1  # seconds, flushes and untimed calls included
    least: int = 2  # samples, cap or not: best dense is chosen on odd ones and reported on even ones
    most: int = 1000
    precise: float = 0.01  # half the median's interval over the median


class Timer(Protocol):
    """How a contender's calls are timed: what its device chose for it."""

    name: str  # "host", "events", "graph"

    def sample(self) -> float | None:
        """Seconds of one call; None if it does not count, for something disturbed the device."""
        ...


class Cold(Protocol):
    """How a processor's caches are emptied."""

    def flush(self, held: Any) -> None: ...

    def evict(self) -> None: ...


@dataclass
class Contender:
    """A prepared kernel in a race: how to call it, what it must not find in a cache, and its samples."""

    name: str
    call: Callable[[], Any]
    held: tuple[Any, ...] = ()  # its buffers and the operands; its answers join them at each call
    hidden: bool = False  # it holds what it cannot show, so the caches are emptied whole
    touched: int = 0  # bytes that a call may touch; 0: unknown
    again: Callable[[], "Contender"] | None = None  # another, on copies of everything
    timer: Timer | None = None
    seconds: list[float] = field(default_factory=list)
    discarded: int = 0  # samples that do not count
    recent: float = 0.0  # seconds of the call before, timed or not
    answer: Any = None  # of the last timed call
    spent: float = 0.0
    stopped: str | None = None
    failed: BaseException | None = None


class Disturbed(RuntimeError):
    """Hardly any sample counts: the device was never itself for long enough."""


@dataclass
class Host:
    """The wall clock around one call, on a processor that has done all it was given when a call returns."""

    one: Contender
    device: Cold
    cold: bool
    now: Callable[[], float] = perf_counter
    name: str = "host"

    def sample(self) -> float:
        """An idle gap can double a call's time, so what precedes the timed call follows without a pause."""
        one = self.one
        before = one.answer  # kept until the flush: the timed call may be given this memory for its answer
        if one.recent < LONG or not self.cold:
            one.answer = one.call()
        if self.cold:
            if one.hidden:
                self.device.evict()
            self.device.flush((*one.held, before, one.answer))
        del before
        start = self.now()
        one.answer = one.call()
        one.recent = self.now() - start
        return one.recent


def race(
    contenders: Sequence[Contender],
    effort: Effort,
    order: random.Random,
    beat: Callable[[Contender], None] = lambda _: None,
    now: Callable[[], float] = perf_counter,
) -> None:
    """Sample contenders in turn, in a new order each round, until all are precise or out of time.

    One that is precise stays while others are not: a kernel that left early would be paired with rivals that
    were measured at another moment, in smaller company.
    """
    running = list(contenders)
    while running and not all(precise(one, effort) for one in running):
        order.shuffle(running)
        for one in running:
            beat(one)
            began = now()
            try:
                sample(one)
            except KeyboardInterrupt:
                raise
            except BaseException as failed:  # SystemExit too: a kernel may fail in any way at all
                one.failed = failed
            one.spent += now() - began
        running = [one for one in running if not one.failed and not exhausted(one, effort)]
    for one in contenders:
        one.stopped = "precise" if precise(one, effort) else "cap"


def sample(one: Contender) -> None:
    """One timed call. One that does not count is counted as such."""
    if one.timer is None:
        raise ValueError(f"{one.name} has no timer")
    seconds = one.timer.sample()
    if seconds is not None:
        one.seconds.append(seconds)
        return
    one.discarded += 1
    if one.discarded > MOST_DISCARDED + len(one.seconds):
        raise Disturbed(
            f"{one.discarded} of {one.discarded + len(one.seconds)} samples do not count: "
            "the device was slowed, or its clock had not risen"
        )


def precise(one: Contender, effort: Effort) -> bool:
    """Whether its median is known well enough."""
    return len(one.seconds) >= effort.least and half_interval(one.seconds) <= effort.precise


def exhausted(one: Contender, effort: Effort) -> bool:
    """Whether it has had its share of the time."""
    count = len(one.seconds)
    return count >= effort.least and (one.spent >= effort.cap or count >= effort.most)


def half_interval(seconds: Sequence[float]) -> float:
    """Half the median's 95 % interval (order statistics), over the median; infinite below six samples."""
    count = len(seconds)
    if count < 6:
        return float("inf")
    ordered = sorted(seconds)
    reach = 0.98 * sqrt(count)
    low, high = max(0, int(count / 2 - reach)), min(count - 1, ceil(count / 2 + reach) - 1)
    return (ordered[high] - ordered[low]) / 2 / median(ordered)
