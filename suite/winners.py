"""Winners: whose energy gets a window of its own: a curve's best dense and best sparse kernel.

Which is best is decided as the table decides it, so that a window belongs to a row that is shown.
"""

from collections.abc import Iterable
from itertools import accumulate

from suite.reading.about import identity
from suite.reading.frame import best_of, fastest, grouped
from suite.reading.row import Row
from suite.record import Result

MOST = 40  # windows; a window takes seven seconds
TYPICAL = 0.9  # the sparsity at which a curve is metered, or the nearest it has

CURVE = ("workload", "op", "line", "sizes", "dtype", "data", "scope")


def winners(results: Iterable[Result], everything: bool = False) -> dict[tuple[str, str], tuple[str, ...]]:
    """(workload, case) -> kernels to meter."""
    alone = ((0, None, line) for line in results if line.scope == "kernel")
    cases = {(key[1], key[2]): rows for key, rows in grouped(alone).items()}
    if everything:
        kernels = {at: tuple(row.first.entry for row in rows if row.timed) for at, rows in cases.items()}
        return {at: names for at, names in kernels.items() if names}
    curves: dict[tuple, list[tuple[str, str]]] = {}
    for at, rows in cases.items():
        if any(row.timed for row in rows):
            about = identity(rows[0].first)
            curves.setdefault(tuple(about[name] for name in CURVE), []).append(at)
    chosen = [min(curve, key=lambda at: unfitness(cases[at])) for curve in curves.values()]
    windows = {at: best_of_each(cases[at]) for at in chosen}
    sums = accumulate(map(len, windows.values()))
    return {at: windows[at] for at, count in zip(windows, sums, strict=True) if count <= MOST}


def unfitness(rows: list[Row]) -> tuple[bool, float]:
    """How little a case says of its curve's energy: least where both kinds ran, near the typical sparsity."""
    sparsity = next((row.first.sparsity for row in rows if row.first.sparsity is not None), 0.0)
    return None in best_of(rows).values(), abs(sparsity - TYPICAL)


def best_of_each(rows: list[Row]) -> tuple[str, ...]:
    """The best dense and the best sparse kernel, and the best dense one without zeros, if there are any."""
    filled = fastest([row for row in rows if row.first.execution == "dense" and not row.first.dense])
    return tuple(row.first.entry for row in (*best_of(rows).values(), filled) if row)
