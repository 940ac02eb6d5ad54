"""Structure: what else than sparsity distinguishes sparse matrices, and how speed goes with it.

Statistics are those of the lines: how uneven rows are (row_cv), how full those blocks are that hold a nonzero
(fill_32), how far nonzeros are from the diagonal (bandwidth), and whatever else a line says of its operand.
"""

from dataclasses import dataclass

import pandas as pd

from suite.reading.frame import Rows

SHARED = ["device", "op", "dtype", "cache", "threads"]

ENOUGH = 5  # cases, of different values, for there to be something to see

SAYS = {
    "row_cv": "unevenness of row lengths (standard deviation / mean)",
    "row_max_over_mean": "longest row over the mean one",
    "empty_rows": "share of rows without a nonzero",
    "row_entropy": "entropy of the nonzeros over rows, as a share of its most",
    "row_beyond_mean": "share of the nonzeros that rows have beyond the mean",
    "bandwidth": "farthest nonzero from the diagonal, as a share of the size",
    **{
        f"fill_{size}": f"how full the {size} × {size} blocks are that hold a nonzero"
        for size in (16, 32, 64, 128)
    },
}


@dataclass(frozen=True)
class Relation:
    """A statistic and the speed of the best sparse kernels: `rows` have it in the column `statistic`."""

    name: str
    says: str
    rows: Rows
    correlation: float  # Spearman's, of the statistic and the realised share of the nominal speed-up


def varied(frame: pd.DataFrame) -> list[tuple[tuple, list[Relation]]]:
    """(device, op, dtype, cache, threads) and the statistics that vary there; those that tell most first."""
    best = frame[frame["best"] & ~frame["dense"] & frame["realised"].notna()]
    made = []
    for about, rows in best.groupby(SHARED, sort=False):
        names = dict.fromkeys(name for one in rows["structure"] for name in one)
        found = [one for name in names if (one := relation(rows, name))]
        if found:
            made.append((about, sorted(found, key=lambda one: -abs(one.correlation))))
    return made


def relation(rows: Rows, name: str) -> Relation | None:
    """None where too few cases have the statistic, or all have the same."""
    statistic = rows["structure"].map(lambda one: one.get(name))
    if statistic.nunique() < ENOUGH:
        return None
    known = rows.assign(statistic=statistic).dropna(subset="statistic")
    ranks = known[["statistic", "realised"]].rank()
    correlation = ranks["statistic"].corr(ranks["realised"])
    return Relation(name, SAYS.get(name, name), known, 0.0 if pd.isna(correlation) else float(correlation))
