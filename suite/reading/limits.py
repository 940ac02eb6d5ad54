"""Limits: every kernel on every case as a fraction of its bound."""

from collections.abc import Sequence
from math import inf
from typing import Any

import pandas as pd

from suite.device import Ceiling
from suite.reading.about import identity
from suite.reading.bound import limit_in, loads, source
from suite.reading.frame import ceilings_of, current, grouped, usable
from suite.reading.row import Row
from suite.reading.statistics import estimate
from suite.record import Recorded

COLUMNS = (
    *("device", "workload", "op", "case", "dtype", "cache", "threads", "line", "family", "n", "sizes"),
    *("sparsity", "kernel", "dense", "median", "bound", "fraction", "by", "level", "loads", "from_level"),
)


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
    found = limit_in(line, row.run, ceiling)
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


def leaders(rows: pd.DataFrame, most: int = 3) -> list[str]:
    """The kernels that are fastest on most cases; among equals, those that are nearest to the fastest."""
    times = rows.pivot_table(index=["case", "threads"], columns="kernel", values="median", sort=False)
    behind = times.div(times.min(axis=1), axis=0)
    order = pd.DataFrame({"wins": -(behind == 1).sum(), "behind": behind.median(), "name": behind.columns})
    return list(order.sort_values(["wins", "behind", "name"]).index[:most])
