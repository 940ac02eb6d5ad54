"""Batch figures: kernels against tokens or unevenness of loads, in the manner of suite/reading/figures.py."""

from collections.abc import Callable, Mapping, Sequence
from math import inf, log2, nan
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullLocator

from suite.activations import union_law
from suite.reading.figures import (
    BANDS,
    HOVER,
    INK,
    MARKERS,
    SERIES,
    STYLE,
    blank,
    explain,
    ratio_axis,
    shares,
)
from suite.reading.frame import Rows
from suite.reading.turning import measured, number, said
from suite.reading.units import percent, seconds

DENSE = "best dense"


def speed_up(
    rows: Rows, at: str, says: str, numbers: Mapping[str, int], unit: str = "", read: Rows | None = None
) -> Figure:
    """Speed-up of the sparse kernels over the best dense one, with its interval, against a column.

    numbers: kernel -> the number of its colour, here and in other figures. read: rows with the share of
    neurons that a call has to read (`live`), whose inverse is drawn beside.
    """

    def frame_of(axes: Axes) -> None:
        axes.axhline(1, color=INK, linewidth=1)
        if read is not None and len(able := read[read["live"] > 0]):
            share = able.groupby(at)["live"].mean()
            axes.plot(
                share.index, 1 / share, color=INK, linestyle=":", marker="_", label="1 / neurons in use"
            )
        fit(axes)
        ratio_axis(axes)
        axes.set_ylabel("speed-up over best dense")

    return against(
        rows[~rows["dense"]], at, "speed_up", says, numbers, unit, frame_of, lambda one: f"{one:.2g}×"
    )


def times(rows: Rows, at: str, says: str, numbers: Mapping[str, int], unit: str = "") -> Figure:
    """The time of a call of each kernel, with its interval, against a column; those called DENSE in grey."""

    def frame_of(axes: Axes) -> None:
        low, high = fit(axes)
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda time, _: seconds(time))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylabel("time of a call")

    known = {"median": "time", "low": "time_low", "high": "time_high"}
    return against(rows.rename(columns=known), at, "time", says, numbers, unit, frame_of, seconds)


def against(
    rows: Rows,
    at: str,
    column: str,
    says: str,
    numbers: Mapping[str, int],
    unit: str,
    frame_of: Callable[[Axes], object],
    show: Callable[[float], str],
) -> Figure:
    """A column, logarithmic, against another, a line for each kernel."""
    able = rows[rows[column].notna() & rows[at].notna()]
    with mpl.rc_context(STYLE):
        figure, axes = blank()
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2 if column == "speed_up" else 10)
        for name, same in able.groupby("kernel", sort=False):
            curve(axes, same, at, column, str(name), numbers.get(str(name)), unit, show)
        values_axis(axes, sorted(set(able[at].round(4))))
        axes.set_xlabel(says)
        frame_of(axes)
        explain(figure, axes)
        return figure


def curve(
    axes: Axes,
    rows: Rows,
    at: str,
    column: str,
    name: str,
    colour: int | None,
    unit: str,
    show: Callable[[float], str],
) -> None:
    """One kernel, and the band of its interval. One without a colour is grey."""
    points = measured(rows, at, column)
    look: dict[str, Any] = {
        "color": INK,
        "linestyle": "--" if name == DENSE else ":",
        "marker": "x",
        "alpha": 0.8,
    }
    if colour is not None:
        style = "-" if colour < len(SERIES) else "--"
        look = {
            "color": SERIES[colour % len(SERIES)],
            "marker": MARKERS[colour % len(MARKERS)],
            "linestyle": style,
        }
    across = [one.at for one in points]
    (line,) = axes.plot(across, [one.ratio for one in points], label=name, **look)
    HOVER[line] = [f"{name}, {said(one.at, unit)}: {show(one.ratio)}" for one in points]
    bands = [
        one
        for one in points
        if one.low is not None and one.high is not None and 0 < one.low <= one.high < inf
    ]
    low, high = ([getattr(one, end) if one in bands else nan for one in points] for end in ("low", "high"))
    BANDS[line] = low, high
    if len(bands) > 1:
        low, high = [one.low or 0 for one in bands], [one.high or 0 for one in bands]
        axes.fill_between([one.at for one in bands], low, high, color=look["color"], alpha=0.18, linewidth=0)
    elif bands:
        axes.vlines([bands[0].at], [bands[0].low or 0], [bands[0].high or 0], color=look["color"], alpha=0.4)


def fit(axes: Axes) -> tuple[float, float]:
    """Limits that hold all lines; bands of two visits may reach beyond all sense."""
    values = [value for line in axes.lines for value in line.get_ydata()] or [1.0]  # pyright: ignore
    room = max((max(values) / min(values)) ** 0.08, 1.15)
    axes.set_ylim(min(values) / room, max(values) * room)
    return axes.get_ylim()


def union(found: Rows) -> Figure:
    """The share of neurons that a batch uses, as counted and as expected: see suite.reading.batch.unions.

    A colour for each sparsity, a marker for each kind of pattern or selector; the law is dotted.
    """
    with mpl.rc_context(STYLE):
        figure, axes = blank()
        axes.set_xscale("log", base=2)
        kinds = list(dict.fromkeys(found["line"]))
        sparsities = sorted(set(found["asked"].round(2)))
        for colour, sparsity in enumerate(sparsities):
            rows = found[found["asked"].round(2) == sparsity]
            look = SERIES[colour % len(SERIES)]
            tokens = sorted(set(rows["n"]))
            law = [union_law(1 - sparsity, int(n)) for n in tokens]
            axes.plot(tokens, law, ":", color=look, label="1 - sⁿ" if colour == 0 else None)
            for kind, same in rows.groupby("line", sort=False):
                there = same.groupby("n")["live"].mean()
                name = f"{kind}, {percent(sparsity)} %"
                marker = MARKERS[kinds.index(kind) % len(MARKERS)]
                joined = "None" if kind == "unstructured" else "-"  # which lies on the law
                (line,) = axes.plot(
                    there.index, there, color=look, marker=marker, linestyle=joined, label=name
                )
                HOVER[line] = [f"{name}, {said(n, 'token')}: {100 * one:.1f} %" for n, one in there.items()]
        values_axis(axes, sorted(set(found["n"])))
        axes.set_xlabel("tokens a call")
        axes.set_ylabel("neurons in use")
        shares(axes)
        explain(figure, axes)
        return figure


def values_axis(axes: Axes, values: Sequence[float]) -> None:
    """Ticks where it was measured; those that would run into each other stay unnamed."""
    if not values:
        return
    room = log2(values[-1] / values[0]) / 8 or 1
    named, last = [], 0.0
    for value in values:
        clear = not last or log2(value / last) >= room
        named.append(number(value) if clear else "")
        last = value if clear else last
    axes.set_xlim(values[0] / 2 ** (room / 2), values[-1] * 2 ** (room / 2))
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_major_formatter(FixedFormatter(named))
    axes.xaxis.set_minor_locator(NullLocator())
