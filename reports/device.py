"""device: a page for each: what it is, which kernels rank where, and which is the fastest where."""

from collections import Counter, defaultdict

from suite.reading.answers import BELOW, called, place
from suite.reading.units import percent
from suite.report import page_of, report
from suite.reports.index import devices, tables

ACROSS = ("workload", "op", "dtype", "cache", "threads", "scope")  # what slices of a section share


@report
def device(view):
    """Which kernels lead on one device, and in which slice?"""
    known = devices(view)
    for one in known:
        rows = view.frame[view.frame["device"] == one["key"]]
        if rows.empty:
            continue
        yield (
            page_of("device", one["key"]),
            {
                "device": one,
                "alone": len(known) == 1,
                "below": BELOW,
                "tables": tables([cell for cell in view.answers if cell.device == one["key"]]),
                "sections": sections([part for part in view.ranking if part.device == one["key"]]),
                "maps": maps(rows),
                "workloads": list(rows["workload"].unique()),
            },
        )


def sections(slices):
    """Slices of a workload's case set: pattern by pattern, from few tokens to many."""
    made = defaultdict(list)
    for one in slices:
        made[one.workload, one.version, one.op, one.dtype, one.cache, one.threads, one.scope].append(one)
    return [
        {
            "id": f"r{number}",
            "title": f"{about[0]}, case set {about[1]}",
            "setting": ", ".join((*called(about[2]), about[3], f"{about[4]} cache", f"{about[5]} threads")),
            "slices": sorted(found, key=lambda one: (one.family, place(one.regime))),
        }
        for number, (about, found) in enumerate(made.items())
    ]


def maps(rows):
    """For each op, dtype and cache state: patterns and regimes down, sparsities across."""
    made = []
    for (op, dtype, cache), same in rows.groupby(["op", "dtype", "cache"], sort=False):
        cells = fastest(same)
        if not cells:
            continue
        sparsities = sorted({at for _, at in cells})
        lines = sorted({line for line, _ in cells}, key=lambda line: (line[0], place(line[1])))
        winners = Counter(name for cell in cells.values() for name in cell["names"] if name != "dense")
        made.append(
            {
                "title": ", ".join((*called(op), dtype, f"{cache} cache")),
                "sparsities": [f"{percent(one)} %" for one in sparsities],
                "lines": [
                    {
                        "family": line[0],
                        "regime": line[1],
                        "cells": [cells.get((line, at)) for at in sparsities],
                    }
                    for line in lines
                ],
                "colours": {name: 1 + at % 8 for at, (name, _) in enumerate(winners.most_common())},
            }
        )
    return made


def fastest(rows):
    """((pattern, regime), sparsity) -> the kernels that are fastest on most of its cases, and on how many."""
    found = defaultdict(list)
    best = rows[rows["best"] & ~rows["dense"] & rows["speed_up"].notna() & rows["sparsity"].notna()]
    for row in best.itertuples():
        found[(row.family, row.regime), round(row.sparsity, 3)].append(winner(row))
    return {key: cell(names) for key, names in found.items()}


def winner(row):
    """The fastest kernel of a case: dense, a sparse one's name, or neither for sure."""
    low, high = (
        (row.speed_up_low, row.speed_up_high) if row.speed_up_low == row.speed_up_low else [row.speed_up] * 2
    )
    return row.kernel if low > 1 else "dense" if high < 1 else "no clear winner"


def cell(names):
    """A cell of the map: who is fastest most often, and how often."""
    counted = Counter(names).most_common()
    most = counted[0][1]
    return {"names": [name for name, times in counted if times == most], "most": most, "cases": len(names)}
