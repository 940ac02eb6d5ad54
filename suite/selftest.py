"""Self-test: our timers beside others that people trust, on the same calls, each in that one's cache state.

A ratio of ours to theirs that is far from 1 says that one of the two measures something else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch.utils import benchmark

from suite.device import Device
from suite.measure import Contender, Timer

SIZES = {"cpu": (256, 1024, 2048), "cuda": (4096, 8192, 16384)}  # of square products: 0.2 ms to 50 ms
SECONDS = 0.5  # of sampling, each
LEAST = 5  # samples


@dataclass(frozen=True)
class Comparison:
    """Seconds of the same call by our timer and by another; None: the other is not to be had, and why."""

    call: str
    timer: str
    ours: float
    other: str
    theirs: float | None
    why: str = ""

    @property
    def ratio(self) -> float | None:
        """Of ours to theirs."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def beyond(self) -> float | None:
        """Seconds of ours beyond theirs: against calls replayed from a graph, what launching one costs."""
        return self.ours - self.theirs if self.theirs else None


def comparisons(device: Device) -> Iterator[Comparison]:
    """Products from short to long, by every pair of timers that can be compared on this device."""
    for size in SIZES[device.kind]:
        dtype = torch.float32 if device.kind == "cpu" else torch.bfloat16
        (left, right) = device.place(torch.randn(2, size, size).to(dtype).unbind())
        out = torch.empty_like(left)
        one = Contender(
            f"mm {size}", lambda a=left, b=right, to=out: torch.mm(a, b, out=to), (left, right, out)
        )
        yield from on_cpu(one, device) if device.kind == "cpu" else on_cuda(one, device)


def on_cpu(one: Contender, device: Device) -> Iterator[Comparison]:
    """Against torch's own timer, whose calls follow each other: hot."""
    hot = device.timer(one, "hot")
    theirs = benchmark.Timer("call()", globals={"call": one.call}, num_threads=device.threads)
    seconds = theirs.blocked_autorange(min_run_time=SECONDS).median
    yield Comparison(one.name, f"{hot.name}, hot", sampled(hot), "torch.utils.benchmark", seconds)


def on_cuda(one: Contender, device: Device) -> Iterator[Comparison]:
    """Against Triton's, which empties L2 before each call, and its replay of a graph, which does not."""
    cold, hot = device.timer(one, "cold"), device.timer(one, "hot")
    for timer, state, name in ((cold, "cold", "do_bench"), (hot, "hot", "do_bench_cudagraph")):
        try:
            from triton import testing

            theirs, why = getattr(testing, name)(one.call, return_mode="median") * 1e-3, ""
        except ImportError as absent:
            theirs, why = None, f"{absent}"
        yield Comparison(one.name, f"{timer.name}, {state}", sampled(timer), f"triton {name}", theirs, why)


def sampled(timer: Timer, now: Callable[[], float] = perf_counter) -> float:
    """The median of samples for a while."""
    seconds: list[float] = []
    end = now() + SECONDS
    while len(seconds) < LEAST or now() < end:
        if (one := timer.sample()) is not None:
            seconds.append(one)
        elif now() > end + 10 * SECONDS:
            raise RuntimeError("hardly any sample counts: the device is slowed; see its cautions")
    return median(seconds)
