"""Limits: the least time in which a kernel could do the work it states, and what of the machine sets it.

    FLOPs    what it executes, at the ceiling of its dtype
    a level  what the levels nearer to the core cannot hold, at this level's bandwidth. A cold call finds
             everything in memory; of a hot one, each level may still hold its own size, and no more
    loads    compressed rows load a row of b for every nonzero: a number for each multiplication, from L1

The largest is the bound. All of it comes from the line, the ceilings and the sizes of the caches; a kernel
that does not say how many bytes it moves has none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

import pandas as pd

from suite.case import DTYPES
from suite.device import Ceiling
from suite.reading.about import identity
from suite.reading.frame import ceilings_of, current, grouped, usable
from suite.reading.row import Row
from suite.reading.statistics import estimate
from suite.record import Recorded, Result

LEVELS = ("L1", "L2", "L3", "memory")

COLUMNS = (
    *("device", "workload", "op", "case", "dtype", "cache", "threads", "line", "family", "n", "sizes"),
    *("sparsity", "kernel", "dense", "median", "bound", "fraction", "by", "level", "loads", "from_level"),
)


@dataclass(frozen=True)
class Limit:
    """Seconds no call can undercut, what sets them, and the nearest level that holds all it touches."""

    seconds: float
    by: str
    level: str


def sizes(device: Mapping[str, Any], threads: int) -> dict[str, int]:
    """Bytes of each cache level that so many threads have, one a core, by the device's fingerprint."""
    caches = device.get("caches") or {}
    of_a_core = caches.get("L1d", {}).get("shared_by", 1)
    return {
        name.removesuffix("d"): one["bytes"] * ceil(threads * of_a_core / one["shared_by"])
        for name, one in caches.items()
    }


def limit(line: Result, ceiling: Ceiling, held: Mapping[str, int]) -> Limit | None:
    """The bound of a line's kernel. None: the line does not state its bytes, or a ceiling is not measured."""
    flops = line.flops_executed if line.flops_executed is not None else line.flops_useful
    if flops is None or line.bytes_values is None or line.bytes_live is None:
        return None
    moved = line.bytes_values + (line.bytes_metadata or 0) + line.bytes_live
    peak = ceiling.flops.get(line.dtype)
    delivered = dict(deliveries(moved, ceiling.bandwidth, held, line.cache))
    if not peak or not delivered:
        return None
    terms = {"FLOPs": flops / peak, **delivered}
    if (loaded := loads(line)) and "L1" in ceiling.bandwidth:
        terms["loads"] = loaded / ceiling.bandwidth["L1"]
    by = max(terms, key=terms.__getitem__)
    return Limit(terms[by], by, "memory" if line.cache == "cold" else home(moved, held))


def deliveries(
    moved: int, bandwidth: Mapping[str, float], held: Mapping[str, int], cache: str
) -> Iterator[tuple[str, float]]:
    """(level, seconds it needs for what it alone can deliver)."""
    nearer = 0
    for level in LEVELS[-1:] if cache == "cold" else LEVELS:
        if level in bandwidth:
            yield level, max(0, moved - nearer) / bandwidth[level]
            if not held:  # by all that is known, this level may hold everything
                return
        nearer += held.get(level, 0)


def home(moved: int, held: Mapping[str, int]) -> str:
    """The nearest level that holds so many bytes, with what is nearer; nothing where sizes are not known."""
    room = 0
    for level in LEVELS[:-1]:
        room += held.get(level, 0)
        if moved <= room:
            return level
    return LEVELS[-1] if held else ""


def loads(line: Result) -> float | None:
    """Bytes of b that compressed rows load: a number for each multiplication. None: another format.

    Formats that share a loaded row of b among rows of a may load less, and how much no line says.
    """
    if f"{line.op}_csr_" not in f"{line.kernel}_" or line.flops_executed is None:
        return None
    return line.flops_executed / 2 * DTYPES[line.dtype].itemsize


def source(rate: float, bandwidth: Mapping[str, float]) -> str:
    """The farthest level that can deliver at this rate; registers where none can."""
    able = [level for level in LEVELS if bandwidth.get(level, 0) >= rate]
    return able[-1] if able else "registers"


def limits(recorded: Sequence[Recorded]) -> pd.DataFrame:
    """A row for each kernel with times on each case; `fraction` of its bound, where it has one."""
    ceilings = ceilings_of(recorded)
    told = [
        tell(row, ceilings.get(row.first.device, Ceiling()))
        for group in grouped(current(usable(recorded))).values()
        for row in group
        if row.times
    ]
    numbers = dict.fromkeys(("n", "sparsity", "median", "bound", "fraction", "loads"), float)
    return pd.DataFrame(told, columns=list(COLUMNS)).astype(numbers)


def tell(row: Row, ceiling: Ceiling) -> dict[str, Any]:
    """What the table says of a kernel on a case. `loads` is a rate, in bytes a second."""
    line, latency = row.first, estimate(list(row.times.values()))
    seconds = latency.middle if latency else inf
    found = limit_of(row, ceiling)
    rate = loaded / seconds if (loaded := loads(line)) else None
    return {name: value for name, value in identity(line).items() if name in COLUMNS} | {
        "median": seconds,
        "bound": found.seconds if found else None,
        "fraction": found.seconds / seconds if found else None,
        "by": found.by if found else "",
        "level": found.level if found else "",
        "loads": rate,
        "from_level": source(rate, ceiling.bandwidth) if rate and ceiling.bandwidth else "",
    }


def limit_of(row: Row, ceiling: Ceiling) -> Limit | None:
    """The bound of a kernel on a case, with the caches as the header of its file has them."""
    line = row.first
    fingerprint = row.run.devices.get(line.device, {}) if row.run else {}
    return limit(line, ceiling, sizes(fingerprint, line.threads))


def leaders(rows: pd.DataFrame, most: int = 3) -> list[str]:
    """The kernels that are fastest on most cases; among equals, those that are nearest to the fastest."""
    times = rows.pivot_table(index=["case", "threads"], columns="kernel", values="median", sort=False)
    behind = times.div(times.min(axis=1), axis=0)
    order = pd.DataFrame({"wins": -(behind == 1).sum(), "behind": behind.median(), "name": behind.columns})
    return list(order.sort_values(["wins", "behind", "name"]).index[:most])
