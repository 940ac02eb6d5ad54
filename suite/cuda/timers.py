"""Timers: how a call on a GPU is timed, chosen for each kernel by looking at it.

events: marks around a single call. The host must have queued the call before the device gets there, else the
    launch is timed too; so the device is held for as long as that takes.
graph: short calls, where an event's tick and the gap between launches show. A graph of calls over copies of
    everything they touch is replayed; copies that fill L2 several times find it cold.
host: calls that wait for the device themselves (they plan, or loop on what they find): no holding makes the
    host get ahead, and what they cost is the wall clock's time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import Any

from suite.cuda.stream import Call, Stream
from suite.measure import Contender, Timer

SHORT = 50e-6  # seconds: below, half a microsecond of an event's tick is a percent
FIRST_LEAD, LONGEST_LEAD = 30e-6, 4e-3  # seconds that the device is held for the host to get ahead
TIMES_L2 = 5  # that copies fill it, for none to be left when their turn comes again
MOST_COPIES = 64
PATIENCE = 3.0  # seconds of making copies that a graph may cost
STRETCH = 200e-6  # seconds of calls in a graph of hot ones: an event's tick is then nothing
PROBES = 3  # calls by which a kernel is looked at

Fit = Callable[[], bool]


@dataclass
class Events:
    """Marks around a single call."""

    one: Contender
    stream: Stream
    cold: bool
    fit: Fit
    lead: float = FIRST_LEAD
    name: str = "events"

    def sample(self) -> float | None:
        seconds, ahead = self.timed()
        if not ahead:
            self.lead = min(2 * self.lead, LONGEST_LEAD)
        return seconds if ahead and self.fit() else None

    def timed(self) -> tuple[float, bool]:
        """Seconds between the marks, and whether the host had queued it all before the device began."""
        if self.cold:
            self.stream.flush()
        else:
            self.one.call()
        self.stream.hold(self.lead)
        start = self.stream.mark()
        self.one.answer = self.one.call()
        end = self.stream.mark()
        ahead = not start.query()
        self.stream.wait()
        return start.elapsed_time(end) * 1e-3, ahead


@dataclass
class Host:
    """The wall clock, from idle to idle."""

    one: Contender
    stream: Stream
    cold: bool
    fit: Fit
    now: Callable[[], float] = perf_counter
    name: str = "host"

    def sample(self) -> float | None:
        if self.cold:
            self.stream.flush()
        else:
            self.one.call()
        self.stream.wait()
        start = self.now()
        self.one.answer = self.one.call()
        self.stream.wait()
        seconds = self.now() - start
        return seconds if self.fit() else None


@dataclass
class Replay:
    """A graph of many calls; seconds are those of one of them."""

    one: Contender
    stream: Stream
    calls: int
    replay: Call
    answer: Any
    kept: Sequence[Contender]  # whose memory the graph reads
    fit: Fit
    name: str = "graph"

    def sample(self) -> float | None:
        self.stream.hold(FIRST_LEAD)
        start = self.stream.mark()
        self.replay()
        end = self.stream.mark()
        self.stream.wait()
        self.one.answer = self.answer
        return start.elapsed_time(end) * 1e-3 / self.calls if self.fit() else None


def choose(one: Contender, stream: Stream, cold: bool, l2: int, fit: Fit) -> Timer:
    """The timer for a contender: by whether the host gets ahead of it, and by how long it takes."""
    events = Events(one, stream, cold, fit)
    seconds, probes = float("inf"), 0
    while probes < PROBES:
        took, ahead = events.timed()
        if ahead:
            seconds, probes = min(seconds, took), probes + 1
        elif events.lead >= LONGEST_LEAD:
            return Host(one, stream, cold, fit)
        else:
            events.lead = min(2 * events.lead, LONGEST_LEAD)
    if seconds >= SHORT:
        return events
    return replayed(one, stream, cold, l2, seconds, fit) or events


def replayed(one: Contender, stream: Stream, cold: bool, l2: int, seconds: float, fit: Fit) -> Replay | None:
    """A graph of so short a call; None where it cannot be recorded, or its copies cannot be had."""
    if cold:
        copies = copied(one, l2, stream.free())
        if copies is None:
            return None
        calls = [each.call for each in copies]
    else:
        copies, calls = [one], [one.call] * max(2, ceil(STRETCH / seconds))
    made = stream.graph(calls)
    if made is None:
        return None
    replay, answer = made
    replay()  # the first launch sends the graph to the device
    stream.wait()
    return Replay(one, stream, len(calls), replay, answer, copies, fit)


def rotation(one: Contender, l2: int, free: int) -> int:
    """How many copies of what a call touches fill L2 five times; 0 if they are too many to have."""
    if not one.touched:
        return 0
    count = max(2, ceil(TIMES_L2 * l2 / one.touched) + 1)
    return count if count <= MOST_COPIES and count * one.touched <= free // 2 else 0


def copied(
    one: Contender, l2: int, free: int, now: Callable[[], float] = perf_counter
) -> list[Contender] | None:
    """The contender and as many copies as a rotation takes; None where that is too many or takes too long."""
    count, copies, began = rotation(one, l2, free), [one], now()
    if not count or one.again is None:
        return None
    while len(copies) < count:
        copies.append(one.again())
        if (now() - began) / len(copies) * count > PATIENCE:
            return None
    return copies


def burst(calls: Sequence[Call], stream: Stream, seconds: float) -> tuple[Call, int]:
    """What launches the calls in turn, again and again for about so long, and how many calls that is.

    Recorded where they can be: launches that the device waits for would be in the energy of short calls.
    """
    made = stream.graph(calls)
    each = len(calls)

    def eager() -> None:
        for call in calls:
            call()

    once = made[0] if made else eager
    once()
    stream.wait()
    start = stream.mark()
    once()
    end = stream.mark()
    stream.wait()
    turns = max(1, round(seconds / max(start.elapsed_time(end) * 1e-3, 1e-6)))

    def launch() -> None:
        for _ in range(turns):
            once()

    return launch, turns * each
