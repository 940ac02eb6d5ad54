"""Cuda: an NVIDIA GPU as a device: its facts, cold caches, timers, energy, and what disturbs it."""

from collections.abc import Callable, Sequence
from functools import cached_property
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from suite import ceilings
from suite.cpu import topology
from suite.cuda import nvrtc, timers, windows
from suite.cuda.nvml import DISTURBED, IDLE, SUSTAINED, Gpu, named
from suite.cuda.stream import Stream
from suite.device import Ceiling, Meter, Noise, slug
from suite.measure import Contender, Timer
from suite.sparse import Sparse

ARCHITECTURES = (70, 75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121)

ROOM = 1 / 10  # of the memory, for the context, libraries' workspaces and the buffer that empties L2
LOW = 0.75  # of the highest clock: below, and not for want of power, the device is not itself
BUSY = 0.10  # share of the last moments: more, before anything was begun, is somebody else's work
RISE, STEP = 1.0, 0.005  # seconds: the longest to wait for the clock, and between looks at it
BURST = 0.05  # seconds of calls between two looks at the wall clock, in an energy window


class Cuda:
    """One GPU, by CUDA's index. `gpu` and `stream` are a script's in tests."""

    kind = "cuda"

    def __init__(
        self,
        index: int = 0,
        threads: int | None = None,
        properties: Any = None,
        gpu: Gpu | None = None,
        stream: Stream | None = None,
    ) -> None:
        self.index, self.spec = index, f"cuda:{index}"
        self.cpus = topology.pick(threads)
        self.threads = len(self.cpus)
        self._about = properties or torch.cuda.get_device_properties(index)
        self._gpu = gpu or Gpu(str(self._about.uuid))
        self.name = self._about.name
        self.key = slug(self.name)
        self.isa = architectures(self._about.major, self._about.minor)
        self.memory = int(self._about.total_memory * (1 - ROOM))
        self.meter: Meter | None
        self.meter, self.no_meter = meter(self._gpu)
        self._top = self._gpu.top_clock_mhz()
        self._clocks: list[float] = []
        self._reasons = 0
        if stream:
            self._stream = stream

    @cached_property
    def _stream(self) -> Stream:
        return Stream(self.index, self._about.L2_cache_size, 1e6 * (self._top or 1000.0))

    @property
    def flush_how(self) -> str:
        """How L2 is emptied."""
        return "twice L2 written and read"

    def fingerprint(self) -> dict[str, Any]:
        """What makes two GPUs alike. No serial number or UUID."""
        about, gpu = self._about, self._gpu
        return {
            "architecture": f"sm_{about.major}{about.minor}",
            "multiprocessors": about.multi_processor_count,
            "caches": {"L2": {"bytes": about.L2_cache_size}},
            "memory_gib": round(about.total_memory / 2**30),
            "clock_mhz": self._top,
            "power_limit_watts": gpu.power_limit(),
            "ecc": gpu.has("Ecc"),
            "mig": gpu.has("Mig"),
            "persistence": gpu.has("Persistence"),
            "driver": gpu.driver(),
            "cuda": torch.version.cuda,
        }

    def cautions(self) -> list[str]:
        """What about this GPU, right now, will be in the numbers."""
        said = []
        if others := self._gpu.others():
            said.append(
                f"Other processes compute on this GPU: {', '.join(others)}. Times grow and scatter; "
                "stop them, or wait."
            )
        elif (busy := self._gpu.busy() or 0.0) > BUSY:
            said.append(f"This GPU was busy {busy:.0%} of the last moments: see nvidia-smi who uses it.")
        if slowed := named(self._gpu.reasons(), DISTURBED):
            said.append(
                f"This GPU is {', '.join(slowed)}: samples are discarded as long as it is; see to its "
                "cooling and supply."
            )
        if self._gpu.has("Mig"):
            said.append(
                "This is a part of a GPU (MIG): its neighbours share caches, memory and power, so there is "
                "no energy, and ceilings are those of the part."
            )
        if self._gpu.has("Persistence") is False:
            said.append(
                "Persistence mode is off: the driver may start anew between processes; "
                "`sudo nvidia-smi -pm 1` keeps it."
            )
        return said

    def environment(self) -> dict[str, str]:
        """What a child must find in its environment: the host's threads, and modules loaded when wanted."""
        return {**topology.environment(self.threads), "CUDA_MODULE_LOADING": "LAZY"}

    def confine(self) -> None:
        """Keep this process's host side on its cores and its tensors on this GPU, within its memory."""
        topology.pin(self.cpus)
        torch.set_num_threads(self.threads)
        torch.cuda.set_device(self.index)
        torch.cuda.set_per_process_memory_fraction(1 - ROOM / 2, self.index)

    def place(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """Copied to the GPU, if they are not there."""
        return tuple(one.to(self.spec) if isinstance(one, Tensor | Sparse) else one for one in operands)

    def wait(self) -> None:
        """Until it has done all it was given."""
        self._stream.wait()

    def timer(self, one: Contender, cache: str) -> Timer:
        """By marks, by a graph, or by the wall clock: see suite.cuda.timers."""
        self.rise()
        return timers.choose(one, self._stream, cache == "cold", self._about.L2_cache_size, self.fit)

    def rotation(self, one: Contender) -> int:
        """As many copies as fill L2 five times, where they can be had; two are enough for large ones."""
        return timers.rotation(one, self._about.L2_cache_size, self._stream.free()) or 2

    def bursts(self, calls: Sequence[Callable[[], Any]]) -> list[tuple[Callable[[], Any], int]]:
        """One: a graph of the calls where they can be recorded, over and over for a twentieth of a second."""
        return [timers.burst(calls, self._stream, BURST)]

    def peak(self) -> Callable[[], int | None]:
        """Of what torch has allocated; other libraries' own memory is not in it."""
        torch.cuda.reset_peak_memory_stats(self.index)
        start = torch.cuda.memory_allocated(self.index)
        return lambda: max(0, torch.cuda.max_memory_allocated(self.index) - start)

    def fit(self) -> bool:
        """Whether the device was itself just now. What it says is kept for `noise`."""
        clock, reasons = self._gpu.clock_mhz(), self._gpu.reasons()
        self._reasons |= reasons
        if clock:
            self._clocks.append(clock)
        if named(reasons, DISTURBED):
            return False
        sustained = named(reasons & ~IDLE, SUSTAINED)  # the power limit, or clocks somebody set
        return not clock or not self._top or clock >= LOW * self._top or bool(sustained)

    def rise(self, now: Callable[[], float] = perf_counter) -> None:
        """Keep it busy until its clock has risen, as far as it does so soon."""
        end = now() + RISE
        while not self.fit() and now() < end:
            self._stream.hold(STEP)
            self._stream.wait()

    def noise(self) -> Callable[[], Noise]:
        """Start watching: clocks and their reasons at each sample, and who else computes here."""
        self._clocks, self._reasons = [], 0

        def seen() -> Noise:
            why = named(self._reasons & ~IDLE, DISTURBED, SUSTAINED)
            if others := self._gpu.others():
                why.append(f"{len(others)} other processes compute here")
            clock = sum(self._clocks) / len(self._clocks) if self._clocks else None
            return Noise(clock_mhz=clock, throttle="; ".join(why) or None)

        return seen

    def ceilings(self, seconds: float) -> Ceiling:
        """The best seen so far on such a GPU, after that many more seconds of looking."""
        file = ceilings.cache_file(self.fingerprint(), 0, windows.PROBES)
        about = self._about
        found = windows.windows(
            self.spec, about.L2_cache_size, self.isa, about.total_memory, about.multi_processor_count
        )
        reached = ceilings.keep_best(file, ceilings.measure(seconds, list(found)))
        torch.cuda.empty_cache()  # what the windows held is the kernels' again
        return reached


class NvmlMeter:
    """The driver's energy counter, its power reading, or both."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.counts, self.shows = gpu.joules() is not None, gpu.watts() is not None
        self._last = 0.0
        parts = [name for name, there in (("counter", self.counts), ("power", self.shows)) if there]
        self.source = f"NVML {' and '.join(parts)}"

    def joules(self) -> float | None:
        """The counter's, since the driver was loaded."""
        if not self.counts:
            return None
        counted = self._gpu.joules()
        if counted is None:
            raise OSError("NVML's energy counter stopped answering")
        if counted < self._last:
            raise OSError(f"NVML's energy counter went back from {self._last:g} J to {counted:g} J")
        self._last = counted
        return counted

    def watts(self) -> float | None:
        """The power now."""
        return self._gpu.watts() if self.shows else None


def meter(gpu: Gpu) -> tuple[NvmlMeter | None, str]:
    """The meter, or None and the sentence that says why."""
    if gpu.has("Mig"):
        return None, "no energy meter: the counter is the whole GPU's, and this is a part of it (MIG)"
    made = NvmlMeter(gpu)
    if not made.counts and not made.shows:
        said = gpu.refused.get("nvmlDeviceGetTotalEnergyConsumption", "no answer")
        return None, f"no energy meter: the driver shows neither an energy counter nor power: {said}"
    return made, ""


def architectures(major: int, minor: int) -> frozenset[str]:
    """Every architecture whose code or instructions such a chip has: "sm_80", ..., "sm_90a"."""
    number = 10 * major + minor
    older = {f"sm_{one}" for one in (*ARCHITECTURES, number) if one <= number}
    return frozenset(older | {nvrtc.closest(major, minor)})
