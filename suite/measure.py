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
from typing import Any

from suite.device import Device

LONG = 0.1  # seconds; a call this long needs no other before it to wake threads and clock


@dataclass(frozen=True)
class Effort:
    """How much one visit samples a kernel."""

    cap: float = 0.1  # seconds, flushes and untimed calls included
    least: int = 2  # samples, cap or not: best dense is chosen on odd ones and reported on even ones
    most: int = 1000
    precise: float = 0.01  # half the median's interval over the median


@dataclass
class Contender:
    """A prepared kernel in a race: how to call it, what it must not find in a cache, and its samples."""

    name: str
    call: Callable[[], Any]
    held: tuple[Any, ...] = ()  # its buffers and the operands; its answers join them at each call
    hidden: bool = False  # it holds what it cannot show, so the caches are emptied whole
    seconds: list[float] = field(default_factory=list)
    recent: float = 0.0  # seconds of the call before, timed or not
    answer: Any = None  # of the last timed call
    spent: float = 0.0
    stopped: str | None = None
    failed: BaseException | None = None


def race(
    contenders: Sequence[Contender],
    device: Device,
    effort: Effort,
    cache: str,
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
                one.seconds.append(sample(one, device, cache))
            except KeyboardInterrupt:
                raise
            except BaseException as failed:  # SystemExit too: a kernel may fail in any way at all
                one.failed = failed
            one.spent += now() - began
        running = [one for one in running if not one.failed and not exhausted(one, effort)]
    for one in contenders:
        one.stopped = "precise" if precise(one, effort) else "cap"


def sample(one: Contender, device: Device, cache: str) -> float:
    """One timed call. An idle gap can double a call's time, so what precedes it follows without a pause."""
    before = one.answer  # kept until the flush: the timed call may be given this memory for its answer
    if one.recent < LONG or cache == "hot":
        one.answer = one.call()
    if cache == "cold":
        if one.hidden:
            device.evict()
        device.flush((*one.held, before, one.answer))
    del before
    one.recent, one.answer = device.time(one.call)
    return one.recent


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
