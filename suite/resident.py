"""Resident: how much memory a stretch of work takes at its highest."""

from pathlib import Path

STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """Counts from its making: `bytes()` is the highest resident size since, above that at the start."""

    def __init__(self) -> None:
        try:
            REFS.write_text("5")  # resets the high-water mark; Linux lets a process do this to itself
        except OSError:
            self._start = None
        else:
            self._start = field("VmRSS")

    def bytes(self) -> int | None:
        """None where the system does not tell."""
        highest = field("VmHWM")
        if self._start is None or highest is None:
            return None
        return max(0, highest - self._start)


def field(name: str) -> int | None:
    """A size from this process's status, in bytes."""
    try:
        for line in STATUS.read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None
