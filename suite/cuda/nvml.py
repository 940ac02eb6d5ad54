"""NVML: a GPU as its driver shows it: energy, power, clocks, why they are low, and who else computes on it.

A GPU is named by its UUID, as torch gives it: indices of the driver and of CUDA need not agree. What the
driver will not tell is None here, and `refused` has its words.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pynvml

from suite.registry import Unusable

# Reasons by bit, in nvml.h's order. These are the device's own limits; its samples are what users get.
SUSTAINED = {
    0x0000000000000001: "idle",
    0x0000000000000002: "clocks set by the user",
    0x0000000000000004: "power limit",
    0x0000000000000010: "synchronised with another GPU",
    0x0000000000000100: "display clocks",
}
# And these mean that something is wrong with cooling or supply: such samples are not the device's.
DISTURBED = {
    0x0000000000000008: "slowed by hardware",
    0x0000000000000020: "slowed for heat by the driver",
    0x0000000000000040: "slowed for heat by hardware",
    0x0000000000000080: "slowed by the power supply",
}
IDLE = 0x0000000000000001


def drivers(nvml: Any = pynvml) -> tuple[str, list[str]] | None:
    """The driver's version and the names of its GPUs; None where there is no driver."""
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(nvml.nvmlDeviceGetCount())]
        return text(nvml.nvmlSystemGetDriverVersion()), [text(nvml.nvmlDeviceGetName(one)) for one in handles]
    except nvml.NVMLError:
        return None


def text(said: str | bytes) -> str:
    """Older bindings answer in bytes."""
    return said.decode() if isinstance(said, bytes) else said


class Gpu:
    """One GPU, by UUID. Quantities in SI units, clocks in MHz; None is "the driver does not tell"."""

    def __init__(self, uuid: str, nvml: Any = pynvml) -> None:
        self._nvml = nvml
        self.refused: dict[str, str] = {}  # question -> what the driver said instead of an answer
        try:
            nvml.nvmlInit()
            self._handle = self._find(uuid)
        except nvml.NVMLError as failed:
            raise Unusable(
                f"the driver does not find the GPU that CUDA calls {uuid[:13]}: {failed}. "
                "See whether nvidia-smi lists it; a lost GPU wants a restart of the machine."
            ) from None

    def _find(self, uuid: str) -> Any:
        """CUDA tells the number alone; the driver's name for it says whether it is all of a GPU."""
        try:
            return self._nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
        except self._nvml.NVMLError:
            return self._nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")

    def _ask(self, question: str, *more: Any) -> Any:
        function = getattr(self._nvml, question, None)
        if function is None:
            self.refused[question] = "this nvidia-ml-py does not know the question"
            return None
        try:
            return function(self._handle, *more)
        except self._nvml.NVMLError as failed:
            self.refused[question] = str(failed)
            return None

    def joules(self) -> float | None:
        """Energy since the driver was loaded, from a counter that moves about ten times a second."""
        counted = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if counted is None else counted * 1e-3

    def watts(self) -> float | None:
        """Power now; where the driver only has it so, the mean of its last second."""
        return self._instant_watts() or self._mean_watts()

    def _instant_watts(self) -> float | None:
        values = self._ask("nvmlDeviceGetFieldValues", [self._nvml.NVML_FI_DEV_POWER_INSTANT])
        if values is None or values[0].nvmlReturn != self._nvml.NVML_SUCCESS:
            return None
        return values[0].value.uiVal * 1e-3

    def _mean_watts(self) -> float | None:
        drawn = self._ask("nvmlDeviceGetPowerUsage")
        return drawn * 1e-3 if drawn else None  # 0 is what a sensor without a reading says

    def clock_mhz(self) -> float | None:
        """Of the multiprocessors, now."""
        return self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)

    def top_clock_mhz(self) -> float | None:
        """The highest it can have."""
        return self._ask("nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_SM)

    def reasons(self) -> int:
        """Why the clock is not the highest, as bits; 0 where the driver does not tell."""
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # as drivers before 535 call it
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return bits or 0

    def power_limit(self) -> float | None:
        """Watts."""
        limit = self._ask("nvmlDeviceGetPowerManagementLimit")
        return None if limit is None else limit * 1e-3

    def has(self, mode: str) -> bool | None:
        """Whether "Ecc", "Mig" or "Persistence" mode is on."""
        current = self._ask(f"nvmlDeviceGet{mode}Mode")
        return None if current is None else bool(current[0] if isinstance(current, list | tuple) else current)

    def driver(self) -> str:
        """Its version."""
        return text(self._nvml.nvmlSystemGetDriverVersion())

    def others(self, family: Callable[[int], bool] | None = None) -> list[str]:
        """Processes that compute on it and are none of ours. A display draws; it does not compute."""
        ours = family or is_ours
        found = self._ask("nvmlDeviceGetComputeRunningProcesses") or []
        return [describe(one.pid) for one in found if not ours(one.pid)]

    def busy(self) -> float | None:
        """Share of the last moments in which anything ran on it."""
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        return None if rates is None else rates.gpu / 100


def named(bits: int, *tables: dict[int, str]) -> list[str]:
    """What the bits mean, of those in the tables."""
    return [name for table in tables for bit, name in table.items() if bits & bit]


def is_ours(pid: int) -> bool:
    """Whether a process is this one, an ancestor or a descendant of it, as far as the system tells."""
    return os.getpid() in (pid, *ancestors(pid)) or pid in ancestors(os.getpid())


def ancestors(pid: int) -> Iterator[int]:
    """Parents of a process, nearest first."""
    while pid > 1:
        try:
            with open(f"/proc/{pid}/stat") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return
        yield pid


def describe(pid: int) -> str:
    """A process by number and, where it can be seen, its program's name."""
    with suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return f"{file.read().strip()} ({pid})"
    return str(pid)
