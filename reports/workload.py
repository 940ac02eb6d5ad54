"""workload: a page for each: where sparse overtakes dense, figures that show it, every case behind them."""

from itertools import groupby
from math import inf

import pandas as pd

from suite.case import multiplied_as
from suite.reading import figures
from suite.reading.answers import called
from suite.reading.frame import ceilings_of
from suite.reading.units import NOTHING, count, percent, times
from suite.report import page_of, report

AT_ONCE = 4  # curves of a section that are open at first
DRAWN = 6  # curves of a section that are drawn at all
TOLD_APART = 8  # kernels in one figure; the table below it has all


@report
def workload(view):
    """Where sparse overtakes dense in one workload, and every case behind it."""
    ceilings = ceilings_of(view.recorded)
    for name, rows in view.frame.groupby("workload", sort=False):
        found = [one for one in view.groups if one.workload == name]
        yield (
            page_of("workload", name),
            {
                "name": name,
                "sections": [
                    section(number, about, list(same), ceilings, about[0] in view.latest)
                    for number, (about, same) in enumerate(groupby(sorted(found, key=shared), key=shared))
                ],
                "devices": rows["device"].nunique(),
                "cases": cases(rows),
                "lines": len(rows),
                "failures": failures(rows[rows["visits"] == 0]),
            },
        )


def shared(group):
    """What a section has in common. float32 first: it is what every device runs."""
    return group.device, group.op, group.dtype != "float32", group.dtype, group.cache, group.line


def cases(rows):
    """A line for each: its best sparse kernel, and how many have no time."""
    keys = ["case", "device", "cache", "threads"]
    best = rows[rows["best"] & ~rows["dense"] & rows["speed_up"].notna()]
    fastest = {tuple(getattr(row, key) for key in keys): row for row in best.itertuples()}
    failed = (rows["visits"] == 0).groupby([rows[key] for key in keys], sort=False).sum()
    return [
        dict(zip(keys, key, strict=True)) | {"best": fastest.get(key), "failed": int(number)}
        for key, number in failed.items()
    ]


def failures(rows):
    """Kernels without a time: each reason once."""
    return [
        {
            "kernel": kernel,
            "outcome": ended,
            "note": note,
            "cases": len(same),
            "command": same["command"].iloc[0],
        }
        for (kernel, ended, note), same in rows.groupby(["kernel", "outcome", "note"], sort=False)
    ]


def section(number, about, found, ceilings, drawn):
    """What shares device, op, dtype, cache and pattern: sizes side by side."""
    device, op, _, dtype, cache, line = about
    answered = [one for one in found if one.points and drawn]
    curves = [
        {
            "id": f"s{number}-{at}",
            "title": one.sizes + (f", {one.data}" if one.data else ""),
            "answer": one.crossover,
            "figure": figures.speed_up(leading(one.rows)),
            "numbers": numbers(one.rows, "speed_up", "kernel", times),
        }
        for at, one in enumerate(answered[:DRAWN])
    ]
    return {
        "id": f"s{number}",
        "device": device,
        "dtype": dtype,
        "cache": cache,
        "pattern": ", ".join(
            (*called(op), line if line.startswith(found[0].family) else f"{found[0].family} ({line})")
        ),
        "groups": found,
        "wins": sum(one.verdict is True for one in found),
        "shown": curves[:AT_ONCE],
        "folded": curves[AT_ONCE:],
        "undrawn": len(answered) - len(curves),
        "summaries": summaries(f"s{number}", [one.rows for one in answered], dtype, ceilings.get(device)),
    }


def leading(rows):
    """Rows of as many kernels as a figure can tell apart: the fastest somewhere."""
    best = rows[~rows["dense"]].groupby("kernel", sort=False)["speed_up"].max()
    if len(best) <= TOLD_APART:
        return rows
    return rows[rows["kernel"].isin(best.nlargest(TOLD_APART).index)]


def share(value):
    return f"{100 * value:.0f} %"


SUMMARIES = {  # figure -> the column it draws, and how its numbers are written
    figures.realised: ("realised", share),
    figures.roofline: ("roofline", share),
    figures.break_even: ("break_even", count),
    figures.energy: ("energy", times),
}


def summaries(prefix, tables, dtype, ceiling):
    """The best kernel of every case, a line for each size."""
    if not tables:
        return []
    rows = pd.concat(tables)
    rows = rows.assign(energy=(rows["joules"] + rows["joules_saved"]) / rows["joules"])
    best = rows[rows["best"] & ~rows["dense"]]
    made = [
        {
            "id": f"{prefix}-{draw.__name__}",
            "title": draw.__doc__,
            "figure": draw(best, by="sizes"),
            "numbers": numbers(best, column, "sizes", show),
        }
        for draw, (column, show) in SUMMARIES.items()
        if best[column].lt(inf).any()
    ]
    flops, bandwidth = (ceiling.flops, ceiling.bandwidth) if ceiling else ({}, {})
    peak, memory = flops.get(multiplied_as(dtype)), bandwidth.get("memory")
    if peak and memory and best["moved"].notna().any():
        made.append(
            {
                "id": f"{prefix}-sparse_roofline",
                "title": "The best kernels of each case, below what the device was seen to reach. "
                "The cases' pages have the numbers.",
                "figure": figures.sparse_roofline(rows[rows["best"]], peak, memory),
                "numbers": None,
            }
        )
    return made


def numbers(rows, column, by, show):
    """What a figure draws, for who wants to read it: a line for each series, sparsities across."""
    known = rows[~rows["dense"] & rows[column].notna() & rows["sparsity"].notna()]
    table = known.groupby([by, known["sparsity"].round(4)], sort=False)[column].median().unstack()
    table = table[sorted(table.columns)]
    return {
        "by": by,
        "across": [f"{percent(at)} %" for at in table.columns],
        "rows": [
            (name, [NOTHING if value != value else show(value) for value in values])
            for name, values in zip(table.index, table.to_numpy().tolist(), strict=True)
        ],
    }
