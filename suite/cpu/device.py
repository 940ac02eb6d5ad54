"""Cpu: this machine's processor as a device: pinned cores, cold caches, measured ceilings, noise, energy."""

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from suite import ceilings
from suite.apart import limit_memory
from suite.cpu import cautions, flush, info, noise, probes, rapl, topology, windows
from suite.device import Ceiling, Meter, Noise
from suite.held import ranges
from suite.measure import Contender, Host, Timer
from suite.resident import Peak

LOOK = 0.2  # seconds of watching who else is here, before the first screen

UNKNOWN_MEMORY = 4 << 30  # what any machine that runs torch has


class Cpu:
    """The performance cores of one NUMA node, as far as this process may use them.

    `root` is where /proc and /sys are found; a test gives another machine's.
    """

    kind = spec = "cpu"

    def __init__(self, threads: int | None = None, root: Path = topology.ROOT) -> None:
        self.root = root
        self.cpus = topology.pick(threads, root)
        self.facts = info.facts(self.cpus, root)
        if threads is None:
            self.cpus = self.cpus[: self.facts.performance_cores]
        self.key = self.facts.key
        self.name = self.facts.name
        self.isa = self.facts.isa
        self.threads = len(self.cpus)
        self.memory = topology.memory(root) or self.facts.memory or UNKNOWN_MEMORY
        self.meter: Meter | None
        self.meter, self.no_meter = rapl.find(root, self.facts.hypervisor, x86="sse2" in self.isa)

    def pin(self) -> None:
        """Keep this process on its cores, torch's threads included."""
        topology.pin(self.cpus)
        torch.set_num_threads(self.threads)

    def confine(self) -> None:
        """Pinned, and an allocation that the machine cannot hold fails before the system kills somebody."""
        self.pin()
        limit_memory(self.memory)

    def environment(self) -> dict[str, str]:
        """What a child must find in its environment before it imports torch."""
        return topology.environment(self.threads)

    def fingerprint(self) -> dict[str, Any]:
        """What makes two machines alike. No serial number, host name or microcode."""
        return {
            "model": self.name,
            "family": self.facts.family,
            "cores": self.facts.cores,
            "isa": sorted(self.isa),
            "caches": {
                level: {"bytes": one.bytes, "shared_by": one.shared_by} for level, one in self._caches.items()
            },
            "memory_gib": round(self.memory / 2**30),
            "quota": topology.quota(self.root),
            "hypervisor": self.facts.hypervisor,
            "system": f"{platform.system()} {platform.release()}",
        }

    @cached_property
    def _caches(self) -> dict[str, info.Cache]:
        """As the default choice of cores sees them, so that --threads makes no other machine of it."""
        return info.facts(topology.pick(None, self.root), self.root).caches

    def cautions(self) -> list[str]:
        """What about this machine, right now, will be in the numbers; each says what to do."""
        seen = noise.watch(self.cpus, root=self.root)
        time.sleep(LOOK)
        _, no_native = probes.load()
        return list(cautions.cautions(self.cpus, topology.quota(self.root), seen(), no_native, self.root))

    def place(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """Where they are is where kernels take them."""
        return tuple(operands)

    @property
    def flush_how(self) -> str:
        """How caches are emptied here."""
        library, _ = probes.load()
        if library is None:
            return "overwritten with twice the last level"
        if "sse2" not in self.isa:
            return "dc civac"
        return "clflushopt" if "clflushopt" in self.isa else "clflush"

    @cached_property
    def _evictor(self) -> flush.Evictor:
        return flush.Evictor(windows.last_level(self.facts.caches))

    def evict(self) -> None:
        """Empty the caches whole, for what nobody can name: slow, but nothing stays."""
        self._evictor()

    def flush(self, held: Iterable[Any]) -> None:
        """Drop whatever is held from every cache; the threads that do it are those of the next call."""
        library, _ = probes.load()
        if library is None or probes.flush(library, ranges(held), "clflushopt" in self.isa, self.threads) < 0:
            self.evict()

    def wait(self) -> None:
        """A call that has returned is done."""

    def timer(self, one: Contender, cache: str) -> Timer:
        """The wall clock."""
        return Host(one, self, cache == "cold")

    def rotation(self, one: Contender) -> int:
        """Two: no call finds its own operands just used."""
        return 2

    def bursts(self, calls: Sequence[Callable[[], Any]]) -> list[tuple[Callable[[], Any], int]]:
        """Each call by itself: there is no gap to fill."""
        return [(call, 1) for call in calls]

    def peak(self) -> Callable[[], int | None]:
        """Of this process's resident memory."""
        return Peak().bytes

    def clock_mhz(self) -> float | None:
        """The clock right now; None where no chain of instructions tells it."""
        return probes.clock_mhz(self.facts.vendor)

    def noise(self) -> Callable[[], Noise]:
        """Start watching; the returned function says what was seen since."""
        return noise.watch(self.cpus, self.clock_mhz, self.root)

    def ceilings(self, seconds: float) -> Ceiling:
        """The best seen so far on this machine, after that many more seconds of looking."""
        file = ceilings.cache_file(self.fingerprint(), self.threads, probes.SOURCE)
        library, _ = probes.load()
        with ExitStack() as keep:
            found = windows.windows(keep, library, self.threads, self.isa, self.facts.caches, self.memory)
            return ceilings.keep_best(file, ceilings.measure(seconds, list(found)))
