"""Routing: mixtures of experts against how unevenly tokens go to them, and against how many there are.

Traces of as many tokens are as much work. What differs is the load of the busiest expert, to which some
kernels pad all of them, and how many experts are asked at all, whose weights have to be read.
"""

from collections.abc import Sequence

import pandas as pd

from suite.formats.routing import coverage
from suite.reading.about import sizes_of
from suite.reading.frame import Rows, fastest
from suite.reading.row import Row
from suite.reading.statistics import paired
from suite.reading.tokens import SHARED, by_tokens, share_of
from suite.record import Result

OPS = ("moe", "moe_step", "moa")

SAME = ["device", "workload", "case", "scope", "cache", "threads"]  # who competes
ASKED = [*SHARED, "asked"]


def routed(frame: pd.DataFrame, rows: Sequence[Row]) -> Rows:
    """The frame's timed rows of mixtures of experts whose lines say how they were routed.

    shape: experts and their sizes; layer: the sizes alone; trace: the kind of route; experts; asked: by a
    token, on average; imbalance: the highest load over the mean; cv, entropy: of the loads; dropped: the
    share of choices beyond the mean load; touched: experts that some token asks, and by `uniform` routes,
    expected; padding: rows multiplied for one that is useful; lead: the time of the fastest other sparse
    kernel over this one's, with its interval.
    """
    table, kept = by_tokens(frame, rows, OPS)
    told = pd.DataFrame([of_row(one.first) for one in kept], columns=list(COLUMNS))
    leads = pd.DataFrame(ahead(table, kept), columns=["lead", "lead_low", "lead_high"], dtype=float)
    table = pd.concat([table, told.astype(COLUMNS), leads], axis=1)
    return table.dropna(subset=["imbalance", "asked"]).reset_index(drop=True)


COLUMNS = {
    "trace": str,
    "layer": str,
    "experts": float,
    "asked": float,
    "imbalance": float,
    "cv": float,
    "entropy": float,
    "dropped": float,
    "touched": float,
    "uniform": float,
    "padding": float,
}


def of_row(line: Result) -> dict[str, object]:
    """What a line says of its route and its work."""
    experts, n = line.sizes.get("e"), line.sizes["n"]
    empty, most = share_of(line.structure, "empty_rows"), line.structure.get("row_max_over_mean")
    asked = None if experts is None or line.sparsity is None else round(experts * (1 - line.sparsity))
    whole = None if asked is None or experts is None else coverage(experts, min(asked, experts), n)
    return {
        "trace": line.pattern.partition("@")[0],
        "layer": sizes_of({name: size for name, size in line.sizes.items() if name not in ("n", "e")}),
        "experts": experts,
        "asked": asked,
        "imbalance": most if most is not None and most >= 1 else None,
        "cv": line.structure.get("row_cv"),
        "entropy": share_of(line.structure, "row_entropy"),
        "dropped": share_of(line.structure, "row_beyond_mean"),
        "touched": None if experts is None or empty is None else round(experts * (1 - empty)),
        "uniform": whole,
        "padding": line.flops_executed / line.flops_useful
        if line.flops_executed is not None and line.flops_useful
        else None,
    }


def ahead(table: Rows, rows: Sequence[Row]) -> list[tuple[float | None, ...]]:
    """How far each sparse row is ahead of the fastest other sparse one of its case, by visits both have."""
    made: list[tuple[float | None, ...]] = [(None, None, None)] * len(rows)
    able = table[~table["dense"] & (table["execution"] == "sparse")]
    for _, same in able.groupby(SAME, sort=False):
        for number in same.index:
            rival = fastest([rows[other] for other in same.index if other != number])
            gain = paired(rival.times, rows[number].times) if rival else None
            if gain:
                made[number] = gain.middle, gain.low, gain.high
    return made


def as_dense(table: Rows, section: Rows) -> Rows:
    """The best dense rows of the layer of as many FLOPs as `section`'s: the experts it asks, and no more."""
    same = of_all(table, section, section["asked"].iloc[0])
    return same[same["dense"] & same["best"]]


def alone(table: Rows, section: Rows) -> Rows:
    """The fastest row at each number of tokens of one expert of `section`'s layer, by whatever kernel."""
    return of_all(table, section, 1).sort_values("median").drop_duplicates("n")


def of_all(table: Rows, section: Rows, experts: float) -> Rows:
    """The rows of layers like `section`'s that have so many experts, all of which are asked."""
    same = [*(name for name in SHARED if name != "shape"), "layer"]
    many = table[(table["experts"] == experts) & (table["asked"] == experts)]
    return many[(many[same] == section.iloc[0][same]).all(axis=1)]
