"""RAPL: the energy counters of x86 packages, as Linux shows them. No estimate ever stands in for them."""

import time
from collections.abc import Callable
from pathlib import Path

from suite.cpu.topology import ROOT, number, text

ZONES = "sys/class/powercap"
GRANT = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
LOAD = "sudo modprobe intel_rapl_msr"

# Counters tick every millisecond; one that stands still for this long is not connected to anything.
ALIVE_SECONDS = 0.02


def counter(zone: Path) -> int:
    """Microjoules of one zone."""
    return int((zone / "energy_uj").read_text())


class Rapl:
    """All packages' counters as one that only grows.

    A counter starts anew at its range. One such turn between two readings is seen, a second is not: at 200 W
    it takes minutes to hours, far more than a window lasts.
    """

    def __init__(self, zones: list[Path], read: Callable[[Path], int] = counter) -> None:
        self.zones = zones
        self.source = "RAPL " + " + ".join(text(zone / "name") or zone.name for zone in zones)
        self._read = read
        self._range = {zone: number(zone / "max_energy_range_uj") for zone in zones}
        self._last = {zone: read(zone) for zone in zones}
        self._sum = 0

    def joules(self) -> float:
        """Energy since this meter was made. Raises OSError where a counter cannot be read any more."""
        for zone in self.zones:
            try:
                value = self._read(zone)
            except (OSError, ValueError) as failed:
                raise OSError(f"{zone.name} stopped answering: {failed}") from failed
            grown = value - self._last[zone]
            if grown < 0:
                turn = self._range[zone]
                if not turn or grown + turn < 0:
                    raise OSError(
                        f"{zone.name} went backwards from {self._last[zone]} to {value} microjoules"
                    )
                grown += turn
            self._last[zone] = value
            self._sum += grown
        return self._sum / 1e6

    def watts(self) -> None:
        """It counts only."""


def packages(root: Path = ROOT) -> list[Path]:
    """The zones that count a whole package each; what lies inside one (cores, memory) would count twice."""
    zones = sorted((root / ZONES).glob("intel-rapl:*"))
    return [
        zone
        for zone in zones
        if zone.name.count(":") == 1 and (text(zone / "name") or "").startswith("package")
    ]


def find(
    root: Path = ROOT,
    hypervisor: bool | None = None,
    x86: bool = True,
    read: Callable[[Path], int] = counter,
    rest: Callable[[float], None] = time.sleep,
) -> tuple[Rapl | None, str]:
    """The meter, or None and the sentence that says why, with the command that grants it."""
    if not (root / "proc").is_dir():
        return (
            None,
            "no energy meter: this system shows no counter to programs; Linux on the same machine does",
        )
    if not x86:
        return None, "no energy meter: this CPU has no RAPL counters; only x86 CPUs do"
    zones = packages(root)
    if not zones and hypervisor:
        return None, "no energy meter: a virtual machine has no RAPL counters; run on the machine itself"
    if not zones:
        return None, f"no energy meter: /{ZONES} has no RAPL package; `{LOAD}` shows it where the CPU has one"
    try:
        meter = Rapl(zones, read)
        rest(ALIVE_SECONDS)
        moved = meter.joules() > 0
    except PermissionError:
        return (
            None,
            f"no energy meter: only root may read its counters; `{GRANT}` grants it until the next boot",
        )
    except (OSError, ValueError) as failed:
        return None, f"no energy meter: {failed}"
    if not moved:
        why = "as in most virtual machines" if hypervisor else "so it counts nothing"
        return None, f"no energy meter: {meter.source} does not move, {why}; run on the machine itself"
    return meter, ""
