"""workload: a page for each: where sparse overtakes dense, figures that show it, every line behind them."""

from itertools import groupby
from math import inf

import pandas as pd

from suite.reading import figures
from suite.reading.answers import called
from suite.reading.units import times
from suite.report import page_of, report

AT_ONCE = 4  # curves of a section that are open at first


@report
def workload(view):
    """Where sparse overtakes dense in one workload, and every line behind it."""
    for name, rows in view.frame.groupby("workload", sort=False):
        found = [one for one in view.groups if one.workload == name]
        yield (
            page_of(name),
            {
                "name": name,
                "sections": [
                    section(number, about, list(same))
                    for number, (about, same) in enumerate(groupby(sorted(found, key=shared), key=shared))
                ],
                "devices": rows["device"].nunique(),
                "cases": [
                    {
                        "id": case,
                        "first": same.iloc[0],
                        "outcome": outcome(same),
                        "rows": list(same.itertuples()),
                    }
                    for (case, *_), same in rows.groupby(["case", "device", "cache", "threads"], sort=False)
                ],
                "lines": len(rows),
                "failures": failures(rows[rows["visits"] == 0]),
            },
        )


def shared(group):
    """What a section has in common. float32 first: it is what every device runs."""
    return group.device, group.op, group.dtype != "float32", group.dtype, group.cache, group.line


def outcome(rows):
    """A case in a word or two."""
    best = rows[rows["best"] & ~rows["dense"] & rows["speed_up"].notna()]
    failed = int((rows["visits"] == 0).sum())
    said = [f"{one.kernel} {times(one.speed_up)}" for one in best.itertuples()] or ["no speed-up"]
    return ", ".join([*said, f"{failed} without a time"] if failed else said)


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


def section(number, about, found):
    """What shares device, op, dtype, cache and pattern: sizes side by side."""
    device, op, _, dtype, cache, line = about
    answered = [one for one in found if one.points]
    curves = [
        {
            "id": f"s{number}-{at}",
            "title": one.sizes + (f", {one.data}" if one.data else ""),
            "answer": one.crossover,
            "figure": figures.speed_up(one.rows),
        }
        for at, one in enumerate(answered)
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
        "summaries": summaries(f"s{number}", [one.rows for one in answered]),
    }


def summaries(prefix, tables):
    """The best kernel of every case, a line for each size."""
    if not tables:
        return []
    rows = pd.concat(tables)
    best = rows[rows["best"] & ~rows["dense"]]
    return [
        {"id": f"{prefix}-{draw.__name__}", "title": draw.__doc__, "figure": draw(best, by="sizes")}
        for draw in (figures.realised, figures.roofline, figures.break_even)
        if best[draw.__name__].lt(inf).any()
    ]
