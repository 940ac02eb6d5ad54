"""Device: a place kernels run: what it is, its clock, how its caches are emptied, and its energy meter."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from suite.measure import Contender, Timer


def slug(name: str) -> str:
    """A name as that of a folder: "NVIDIA H200" is "nvidia-h200"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@dataclass(frozen=True)
class Noise:
    """What disturbed a stretch of measuring. None: this system does not tell."""

    foreign: float | None = None  # share of the pinned cores' time taken by other processes
    steal: float | None = None  # share taken by other guests of the hypervisor
    clock_mhz: float | None = None
    throttle: str | None = None


class Meter(Protocol):
    """What tells energy: a counter, the power drawn now, or both."""

    source: str

    def joules(self) -> float | None:
        """Energy since some fixed moment; grows only. None: it has no counter."""
        ...

    def watts(self) -> float | None:
        """Power now; None: it does not show it."""
        ...


@dataclass(frozen=True)
class Ceiling:
    """The best this device was seen to do: FLOP/s by dtype, byte/s by cache level."""

    flops: dict[str, float] = field(default_factory=dict)
    bandwidth: dict[str, float] = field(default_factory=dict)


class Device(Protocol):
    """What the measuring loop and the kernels' terms ask of a device."""

    kind: str  # "cpu" or "cuda"
    spec: str  # how a command line names it: "cpu", "cuda:0"
    key: str  # names its folder of results: "amd-epyc-2-cores"
    name: str  # as its maker calls it
    isa: frozenset[str]  # features: "avx512f", "amx_bf16", "sm_90"
    threads: int  # of the host
    memory: int  # bytes a run may use
    meter: Meter | None
    no_meter: str  # why there is no meter, and how to get one

    @property
    def flush_how(self) -> str:
        """What empties its caches, such as "clflushopt"."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What makes two devices alike: model, cores, caches, memory, driver. No serial numbers."""
        ...

    def cautions(self) -> list[str]:
        """What about it, right now, will be in the numbers; each says what to do."""
        ...

    def environment(self) -> dict[str, str]:
        """Variables a child must have before it imports torch, so that every kernel gets the same threads."""
        ...

    def confine(self) -> None:
        """Keep this process, which is to measure, on the device and within its memory."""
        ...

    def place(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The operands where its kernels take them."""
        ...

    def wait(self) -> None:
        """Until it has done all it was given."""
        ...

    def timer(self, one: Contender, cache: str) -> Timer:
        """How this contender's calls are to be timed, on the cache state asked for."""
        ...

    def rotation(self, one: Contender) -> int:
        """How many copies of a contender take turns in a window that empties no cache."""
        ...

    def bursts(self, calls: Sequence[Callable[[], Any]]) -> list[tuple[Callable[[], Any], int]]:
        """What to launch, in turn, for a window of these calls without gaps, and how many calls each is."""
        ...

    def peak(self) -> Callable[[], int | None]:
        """Start watching memory; the returned function says how much more was in use at its highest since."""
        ...

    def noise(self) -> Callable[[], Noise]:
        """Start watching; the returned function says what was seen since."""
        ...

    def ceilings(self, seconds: float) -> Ceiling:
        """Measure what it reaches, for about that long."""
        ...
