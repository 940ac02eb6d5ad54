"""Clocks: what time is taken by, held against what it was before any kernel ran.

Our own timers keep the clock that they were made with, so that to replace one moves no number. It is told all
the same: nobody else who times this kernel would be as careful.
"""

import time

import torch

WHERE = (
    (time, ("perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "time", "time_ns")),
    (torch.cuda, ("synchronize", "Event")),
    (torch.cuda.Event, ("record", "synchronize", "elapsed_time")),
)
FIRST = [(owner, name, getattr(owner, name)) for owner, names in WHERE for name in names]


def replaced() -> list[str]:
    """Names of clocks that are not what they were; afterwards they are again."""
    found = []
    for owner, name, first in FIRST:
        if getattr(owner, name) is not first:
            setattr(owner, name, first)
            found.append(f"{owner.__name__}.{name}")
    return found
