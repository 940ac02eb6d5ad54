"""Lines of a run that may be published: made up, and true to their cases."""

from datetime import UTC, datetime

from lines import grid, header
from msgspec.structs import replace

from suite.record import Ceilings, Line, Result, Run

KEY = "made-up-9000-2c"
NOW = datetime(2026, 1, 3, tzinfo=UTC)

ABOUT = {
    "kind": "cpu",
    "name": "Made Up 9000",
    "model": "Made Up 9000",
    "family": None,
    "cores": 2,
    "isa": ["avx2"],
    "caches": {"L1d": {"bytes": 32768, "shared_by": 1}, "L2": {"bytes": 1048576, "shared_by": 1}},
    "memory_gib": 16,
    "quota": None,
    "hypervisor": False,
    "system": "Linux 6.1",
}
GPU = {
    "kind": "cuda",
    "name": "NVIDIA Z9 (80GB)",
    "architecture": "sm_90",
    "multiprocessors": 132,
    "caches": {"L2": {"bytes": 52428800}},
    "memory_gib": 80,
    "clock_mhz": 1980.0,
    "power_limit_watts": 700.0,
    "ecc": True,
    "mig": False,
    "persistence": None,
    "driver": "570.1",
    "cuda": "13.0",
}


def run(**changes) -> Run:
    libraries = {"python": "3.12.1", "torch": "2.11.0"}
    options = {"extent": "default", "visits": 3, "cache": "cold", "threads": 2}
    given = {"devices": {KEY: ABOUT}, "commit": "c0ffee5c0ffe", "libraries": libraries, "options": options}
    return header(**(given | changes))


def good(seed: int = 0, **changes) -> list[Line]:
    """A run that may be published. The last case was begun when all others were done."""
    found: list[Line] = []
    for one in grid(seed, failures=False, device=KEY, **changes):
        if isinstance(one, Run):
            found.append(run(planned=one.planned))
        elif isinstance(one, Ceilings):
            found.append(replace(one, device=KEY))
        elif isinstance(one, Result):
            found.append(counted(one))
    return found


def small(seed: int = 0) -> list[Line]:
    """One that is soon shown."""
    return good(seed, sparsities=(0.5, 0.9), sizes=((64, 64, 4),), samples=4)


def counted(one: Result) -> Result:
    """A line whose numbers are those of a matrix that exists."""
    cells, n = one.sizes["m"] * one.sizes["k"], one.sizes["n"]
    nonzeros = round((1 - one.sparsity) * cells)
    work = {} if one.dense else {"flops_executed": 2 * nonzeros * n, "bytes_values": 4 * nonzeros}
    return replace(one, sparsity=1 - nonzeros / cells, flops_useful=2 * nonzeros * n, **work)


def with_line(at: int = 20, **changes) -> list[Line]:
    """A good run in which one line is changed."""
    made = good()
    made[at] = replace(made[at], **changes)
    return made
