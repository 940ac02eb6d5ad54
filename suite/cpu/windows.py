"""Windows of what a CPU reaches: reading each level of its caches, and multiplying in each type."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from ctypes import CDLL
from typing import Any

import torch

from suite.ceilings import Window
from suite.cpu import probes
from suite.cpu.info import Cache

WINDOW = 0.002  # seconds: long against starting the threads, short against what disturbs

# First guesses, near a window on a laptop; from there each window learns from the quickest before it.
FIRST_STEPS = 50_000
FIRST_BYTES = 32 << 20

# Well inside a level, yet more than the level below holds. Which of the two is quicker differs by design.
INSIDE = (1 / 4, 1 / 2)
BEYOND = 4  # memory is measured over this many times the last level
MOST = 1 << 30
UNKNOWN_LAST_LEVEL = 32 << 20

# Where no instruction computes in a type, torch converts every element: that is the speed of converting.
COMPUTED_BY = {
    "float32": (),
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "asimdhp"),
}


def windows(
    keep: ExitStack,
    library: CDLL | None,
    threads: int,
    isa: Collection[str],
    caches: Mapping[str, Cache],
    memory: int,
) -> Iterator[Window]:
    """Everything that can be measured here. What it holds on to is released with `keep`."""
    if library:
        for dtype, names in probes.ARITHMETIC.items():
            for name in names:
                yield "flops", dtype, arithmetic(library, name, threads)
        sizes = working_sets(caches, threads, memory)
        address = keep.enter_context(probes.buffer(library, max(each for _, each in sizes), threads))
        for level, each in sizes:
            yield "bandwidth", level, reading(library, address, each, threads)
    else:
        # Without a compiler the caches stay unmeasured: torch's calls cost more than a pass over them.
        size = beyond(caches, memory)
        source, target = torch.ones(size // 8), torch.empty(size // 8)
        yield "bandwidth", "memory", timed(source.sum, source.nbytes)
        yield "bandwidth", "memory", timed(lambda: target.copy_(source), 2 * source.nbytes)
    for dtype, features in COMPUTED_BY.items():
        if any(feature in isa for feature in features) or (dtype == "float32" and not library):
            yield "flops", dtype, product(dtype, threads)


def arithmetic(library: CDLL, name: str, threads: int) -> Callable[[], float]:
    """A window of one instruction, its length found by the windows before."""
    length = Length(FIRST_STEPS)

    def rate() -> float:
        start = time.perf_counter()
        reached = probes.arithmetic(library, name, length.count, threads)
        length.took(time.perf_counter() - start)
        return reached

    return rate


def reading(library: CDLL, address: int, each: int, threads: int) -> Callable[[], float]:
    """A window of reading `each` bytes per thread over and over."""
    length = Length(max(1, FIRST_BYTES // each))

    def rate() -> float:
        seconds = library.read_window(address, each, length.count, threads)
        reached = each * length.count * threads / seconds
        length.took(seconds)
        return reached

    return rate


class Length:
    """How many steps fill a window, by the quickest yet: a slow one was held up, not short of steps."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._step = math.inf

    def took(self, seconds: float) -> None:
        self._step = min(self._step, max(seconds, 1e-9) / self.count)
        self.count = max(1, min(16 * self.count, round(WINDOW / self._step)))


def timed(call: Callable[[], Any], amount: float) -> Callable[[], float]:
    """The rate of a call that does a fixed amount."""

    def rate() -> float:
        start = time.perf_counter()
        call()
        return amount / (time.perf_counter() - start)

    return rate


def product(dtype: str, threads: int) -> Callable[[], float]:
    """torch's dense product, large enough to be all arithmetic."""
    size = 1024 if threads <= 16 else 2048
    left, right = torch.randn(2, size, size).to(getattr(torch, dtype)).unbind()
    out = torch.empty_like(left)
    return timed(lambda: torch.mm(left, right, out=out), 2.0 * size**3)


def working_sets(caches: Mapping[str, Cache], threads: int, memory: int) -> list[tuple[str, int]]:
    """(level, bytes that each thread reads). A shared level is divided among the threads."""
    made, below = [], 0
    for level in ("L1d", "L2", "L3"):
        if level not in caches:
            continue
        mine = caches[level].total // threads
        for part in INSIDE:
            each = max(int(part * mine), min(2 * below, 3 * mine // 4)) // probes.GRAIN * probes.GRAIN
            if each > below:
                made.append((level.removesuffix("d"), each))
        below = mine
    return [*made, ("memory", max(1, beyond(caches, memory) // threads // probes.GRAIN) * probes.GRAIN)]


def beyond(caches: Mapping[str, Cache], memory: int) -> int:
    """Bytes that no cache holds, as far as the machine has them to spare."""
    return min(BEYOND * last_level(caches), MOST, max(memory // 8, 1 << 20))


def last_level(caches: Mapping[str, Cache]) -> int:
    """Bytes of the largest cache level."""
    return max((one.total for one in caches.values()), default=UNKNOWN_LAST_LEVEL)
