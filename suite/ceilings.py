"""Ceilings: the best a device was seen to do, from many short windows. Nothing is taken from a data sheet.

A single window can hit a moment when a neighbour had the memory or the clock was low, so the best is kept: of
this call's windows and of all before on the same kind of device.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from suite.cache import folder, keep
from suite.device import Ceiling

ROUNDS = 3  # at least: on a busy machine one round may all be bad luck

Window = tuple[str, str, Callable[[], float]]  # "flops" or "bandwidth", of what, one window's rate


def merge(*seen: Ceiling) -> Ceiling:
    """The best of each."""
    made = Ceiling()
    for one in seen:
        for best, rates in ((made.flops, one.flops), (made.bandwidth, one.bandwidth)):
            for name, rate in rates.items():
                best[name] = max(rate, best.get(name, 0.0))
    return made


def measure(
    seconds: float, windows: Collection[Window], now: Callable[[], float] = time.perf_counter
) -> Ceiling:
    """Round after round of all windows until the time is over."""
    best: dict[str, dict[str, float]] = {"flops": {}, "bandwidth": {}}
    windows, end, rounds = list(windows), now() + seconds, 0
    while windows and (rounds < ROUNDS or now() < end):
        for window in list(windows):
            kind, name, rate = window[0], window[1], window[2]()
            if rate > 0:
                best[kind][name] = max(rate, best[kind].get(name, 0.0))
            else:
                windows.remove(window)  # this CPU has no such instructions
        rounds += 1
    return Ceiling(**best)


def cache_file(fingerprint: Mapping[str, Any], threads: int, probes: Path) -> Path:
    """Where the best so far of this machine, this many threads and probes of this source is kept."""
    made = hashlib.sha256(json.dumps([fingerprint, threads], sort_keys=True).encode())
    made.update(probes.read_bytes())
    return folder("ceilings") / f"{made.hexdigest()[:16]}.json"


def recall(file: Path) -> Ceiling:
    """What was kept; nothing if there is nothing whole."""
    try:
        kept = json.loads(file.read_text())
        return Ceiling(rates(kept["flops"]), rates(kept["bandwidth"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Ceiling()


def rates(kept: Mapping[str, Any]) -> dict[str, float]:
    """Those that can be rates."""
    return {str(name): float(rate) for name, rate in kept.items() if 0 < float(rate) < math.inf}


def keep_best(file: Path, ceiling: Ceiling) -> Ceiling:
    """Merge with what is kept and keep that; a reader sees the old file or the new, never half of one."""
    best = merge(recall(file), ceiling)
    with suppress(OSError):  # a folder that cannot be written costs the next run its head start, no more
        keep(file, json.dumps({"flops": best.flops, "bandwidth": best.bandwidth}).encode())
    return best
