"""Bound: the least time in which a kernel could do the work it states, and what of the machine sets it.

    FLOPs    what it executes, at the ceiling of its dtype
    a level  what the levels nearer to the core cannot hold, at this level's bandwidth. A cold call finds
             everything in memory; of a hot one, each level may still hold its own size, and no more
    loads    compressed rows load a row of b for every nonzero: a number for each multiplication, from L1

The largest is the bound. All of it comes from the line, the ceilings and the sizes of the caches; a kernel
that does not say how many bytes it moves has none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from suite.case import DTYPES, multiplied_as
from suite.device import Ceiling
from suite.record import Result, Run

LEVELS = ("L1", "L2", "L3", "memory")


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
        name.removesuffix("d"): one["bytes"] * (ceil(threads * of_a_core / shared) if shared else 1)
        for name, one in caches.items()
        for shared in [one.get("shared_by")]  # a GPU's is shared by all of it
    }


def limit(line: Result, ceiling: Ceiling, held: Mapping[str, int]) -> Limit | None:
    """The bound of a line's kernel. None: the line does not state its bytes, or a ceiling is not measured."""
    flops = line.work
    touched = moved(line)
    if flops is None or touched is None:
        return None
    dtype = multiplied_as(line.dtype)
    peak = ceiling.flops.get(f"{dtype} {line.executed_pattern}") or ceiling.flops.get(dtype)
    delivered = dict(deliveries(touched, ceiling.bandwidth, held, line.cache))
    if not peak or not delivered:
        return None
    terms = {"FLOPs": flops / peak, **delivered}
    if (loaded := loads(line)) and "L1" in ceiling.bandwidth:
        terms["loads"] = loaded / ceiling.bandwidth["L1"]
    by = max(terms, key=terms.__getitem__)
    return Limit(terms[by], by, "memory" if line.cache == "cold" else home(touched, held))


def moved(line: Result) -> int | None:
    """Bytes that a call touches, each once: values, metadata, live operands and answer. None: not stated."""
    if line.bytes_values is None or line.bytes_live is None:
        return None
    return line.bytes_values + (line.bytes_metadata or 0) + line.bytes_live


def deliveries(
    touched: int, bandwidth: Mapping[str, float], held: Mapping[str, int], cache: str
) -> Iterator[tuple[str, float]]:
    """(level, seconds it needs for what it alone can deliver)."""
    nearer = 0
    for level in LEVELS[-1:] if cache == "cold" else LEVELS:
        if level in bandwidth:
            yield level, max(0, touched - nearer) / bandwidth[level]
            if not held:  # by all that is known, this level may hold everything
                return
        nearer += held.get(level, 0)


def home(touched: int, held: Mapping[str, int]) -> str:
    """The nearest level that holds so many bytes, with what is nearer; nothing where sizes are not known."""
    room = 0
    for level in LEVELS[:-1]:
        room += held.get(level, 0)
        if touched <= room:
            return level
    return LEVELS[-1] if held else ""


def loads(line: Result) -> float | None:
    """Bytes of b that compressed rows load: a number for each multiplication. None: another format.

    Formats that share a loaded row of b among rows of a may load less, and how much no line says.
    """
    if f"{line.op}_csr_" not in f"{line.kernel}_" or line.flops_executed is None:
        return None
    dtype = DTYPES.get(line.dtype)  # None: one of another version's, or of nobody's
    return dtype and line.flops_executed / 2 * dtype.itemsize


def source(rate: float, bandwidth: Mapping[str, float]) -> str:
    """The farthest level that can deliver at this rate; registers where none can."""
    able = [level for level in LEVELS if bandwidth.get(level, 0) >= rate]
    return able[-1] if able else "registers"


def limit_in(line: Result, run: Run | None, ceiling: Ceiling) -> Limit | None:
    """The bound of a line's kernel, with the caches as the header of its file has them."""
    fingerprint = run.devices.get(line.device, {}) if run else {}
    return limit(line, ceiling, sizes(fingerprint, line.threads))
