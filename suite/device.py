"""Device: a place kernels run: what it is, its clock, how its caches are emptied, and its energy meter."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Noise:
    """What disturbed a stretch of measuring. None: this system does not tell."""

    foreign: float | None = None  # share of the pinned cores' time taken by other processes
    steal: float | None = None  # share taken by other guests of the hypervisor
    clock_mhz: float | None = None
    throttle: str | None = None


class Meter(Protocol):
    """An energy counter."""

    source: str

    def joules(self) -> float:
        """Energy since some fixed moment; grows only."""
        ...


@dataclass(frozen=True)
class Ceiling:
    """The best this device was seen to do: FLOP/s by dtype, byte/s by cache level."""

    flops: dict[str, float] = field(default_factory=dict)
    bandwidth: dict[str, float] = field(default_factory=dict)


class Device(Protocol):
    """What the measuring loop and the kernels' terms ask of a device."""

    kind: str  # "cpu" or "cuda"
    key: str  # names its folder of results: "amd-epyc-2-cores"
    name: str  # as its maker calls it
    isa: frozenset[str]  # features: "avx512f", "amx_bf16", "sm_90"
    threads: int
    memory: int  # bytes a run may use
    timer: str  # "host", "events", "graph"
    meter: Meter | None
    no_meter: str  # why there is no meter, and how to get one

    @property
    def flush_how(self) -> str:
        """What empties its caches, such as "clflushopt"."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What makes two devices alike: model, cores, caches, memory, driver. No serial numbers."""
        ...

    def environment(self) -> dict[str, str]:
        """Variables a child must have before it imports torch, so that every kernel gets the same threads."""
        ...

    def pin(self) -> None:
        """Keep this process on the device's cores."""
        ...

    def place(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The operands where its kernels take them."""
        ...

    def flush(self, held: Iterable[Any]) -> None:
        """Drop tensors and arrays (and whatever is nested in tuples) from every cache."""
        ...

    def evict(self) -> None:
        """Empty the caches whole: for a kernel that keeps buffers it cannot show."""
        ...

    def time(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds of one call from idle to idle, and what it returned."""
        ...

    def noise(self) -> Callable[[], Noise]:
        """Start watching; the returned function says what was seen since."""
        ...

    def ceilings(self, seconds: float) -> Ceiling:
        """Measure what it reaches, for about that long."""
        ...
