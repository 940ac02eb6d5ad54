"""Figures: rows of the frame in, a matplotlib Figure out. The pages use them, and so may a notebook.

Sparsity runs on a logarithmic axis of density, where most of what happens between 90 and 99 % can be seen and
the nominal speed-up, 1 / density, is a straight line.
"""

from collections.abc import Callable, Mapping
from itertools import count
from math import ceil, floor, inf, log2, sqrt
from typing import Any
from weakref import WeakKeyDictionary

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullLocator

from suite.reading.crossover import LEAST_DENSITY
from suite.reading.frame import Rows
from suite.reading.units import amount, percent

INK = "#77767b"  # reads on white and on black; pages put the colour of their text in its place
SERIES = ("#3b74c2", "#c4581a", "#2f8f5b", "#9a5fb8", "#b38600", "#c2436d", "#2a90a8", "#7d6b5a")
MARKERS = "osD^vPX*"
BROKEN = {"luck": ("--", "x"), "habit": (":", "+"), "knowledge": ("-.", "1")}  # lines and markers of controls
HOVER: WeakKeyDictionary[Line2D, list[str]] = WeakKeyDictionary()  # what a page shows at a line's markers
BANDS: WeakKeyDictionary[Line2D, tuple[Any, Any]] = WeakKeyDictionary()  # low and high at a line's markers
SPARSITY = "sparsity"  # what an axis is called that draws density
WIDTH, HEIGHT, LEGEND_ROW = 4.5, 2.8, 0.2  # inches: a phone's width at which the letters keep their size
BEYOND = 2.0  # how far a band may stretch a logarithmic axis beyond its lines
LEFT, RIGHT, BELOW, ABOVE = 0.83, 0.12, 0.5, 0.1  # inches around the axes, for their labels

STYLE: dict[Any, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.2,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.6,
    "font.size": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.markersize": 4.0,
    "lines.linewidth": 1.5,
}


def speed_up(frame: pd.DataFrame, by: str = "kernel") -> Figure:
    """Speed-up over the best dense kernel, with its interval, below the nominal one that zeros can give."""

    def frame_of(axes: Axes) -> None:
        axes.axhline(1, color=INK, linewidth=1)
        least, most = densities(frame)
        axes.plot(
            [most, least],
            [1 / most, 1 / least],
            color=INK,
            linestyle=":",
            marker="_",
            label="nominal, 1 / density",
        )

    return drawn(frame, "speed_up", "speed-up over best dense", by, frame_of, log=True)


def realised(frame: pd.DataFrame, by: str = "kernel") -> Figure:
    """What share of the nominal speed-up is real."""
    return drawn(frame, "realised", "realised / nominal speed-up", by, shares)


def roofline(frame: pd.DataFrame, by: str = "kernel") -> Figure:
    """What share of the roofline a kernel reaches: of the FLOPs it executes, the bytes it moves."""

    def frame_of(axes: Axes) -> None:
        axes.axhline(1, color=INK, linewidth=1)
        shares(axes)

    return drawn(frame, "roofline", "fraction of the roofline", by, frame_of)


def break_even(frame: pd.DataFrame, by: str = "kernel") -> Figure:
    """After how many calls a conversion has paid for itself; not drawn where it never does."""
    whole = {name: frame[name].clip(lower=1) for name in ("break_even", "break_even_low", "break_even_high")}
    return drawn(frame.assign(**whole), "break_even", "calls until conversion pays", by, log=True)


def energy(frame: pd.DataFrame, by: str = "kernel") -> Figure:
    """Joules of a call of the best dense kernel over those of this one."""
    spent = frame["joules"] + frame["joules_saved"]
    return drawn(
        frame.assign(energy=spent / frame["joules"]),
        "energy",
        "energy: dense over sparse",
        by,
        lambda axes: axes.axhline(1, color=INK, linewidth=1),
    )


def sparse_roofline(frame: pd.DataFrame, peak: float, memory: float) -> Figure:
    """FLOP/s of what kernels execute, against FLOPs a byte, below what the device was seen to reach.

    peak: FLOP/s; memory: byte/s. Bytes are those of values, metadata, live operands and answer, each once.
    """
    able: Rows = frame[frame["median"].notna() & (frame["flops"] > 0) & (frame["moved"] > 0)]
    with mpl.rc_context(STYLE):
        figure, axes = blank()
        axes.set_xscale("log")
        axes.set_yscale("log")
        intensity = able["flops"] / able["moved"]
        low, ridge = min([*intensity, peak / memory]) / 2, peak / memory
        high = max([*intensity, ridge]) * 2
        axes.plot(
            [low, ridge, high],
            [low * memory, peak, peak],
            color=INK,
            linewidth=1,
            label="the device's ceilings",
        )
        for number, (dense, says) in enumerate(((False, "best sparse kernel"), (True, "best dense kernel"))):
            rows = able[able["dense"] == dense]
            rates = rows["flops"] / rows["median"]
            (line,) = axes.plot(
                intensity[rows.index], rates, MARKERS[number], color=SERIES[number], alpha=0.8, label=says
            )
            told = zip(rows["kernel"], rows["sparsity"], rates, strict=True)
            HOVER[line] = [f"{name}, {percent(at)} %: {amount(rate)}FLOP/s" for name, at, rate in told]
        axes.set_xlabel("executed FLOPs a byte")
        axes.set_ylabel("executed FLOP/s")
        axes.yaxis.set_major_formatter(lambda rate, _: amount(rate))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        explain(figure, axes)
        return figure


def scatter(frame: pd.DataFrame, says: str) -> Figure:
    """Realised share of the nominal speed-up against the column `statistic`, a series for each pattern."""
    with mpl.rc_context(STYLE):
        figure, axes = blank()
        for number, (family, rows) in enumerate(frame.groupby("family", sort=True)):
            at = number % len(SERIES)
            (line,) = axes.plot(
                rows["statistic"], rows["realised"], MARKERS[at], color=SERIES[at], alpha=0.8, label=family
            )
            told = zip(rows["kernel"], rows["sizes"], rows["sparsity"], strict=True)
            HOVER[line] = [f"{name}: {sizes}, {percent(sparsity)} %" for name, sizes, sparsity in told]
        shares(axes)
        axes.set_xlabel(says)
        axes.set_ylabel("realised / nominal speed-up")
        explain(figure, axes)
        return figure


def limits(frame: pd.DataFrame, lead: Mapping[str, int]) -> Figure:
    """The fraction of its bound that each kernel reaches, by the table of suite.reading.limits.

    lead: the kernels to be followed, each with the number of its colour; the others are faint.
    """
    with mpl.rc_context(STYLE):
        figure, axes = blank()
        axes.set_xscale("log")
        sparsity_axis(axes, frame)
        axes.axhline(1, color=INK, linewidth=1)
        for name, rows in frame.groupby("kernel", sort=False):
            if name in lead:
                curve(axes, rows, "fraction", str(name), lead[str(name)])
            else:
                faint(axes, rows, "fraction", str(name))
        shares(axes)
        axes.set_ylabel("fraction of the bound")
        explain(figure, axes)
        return figure


# What selectors are drawn against: what it is, how a number of it is said, whether by factors.
ACROSS: dict[str, tuple[str, Callable[[float], str], bool]] = {
    "speed_up": ("speed-up over best dense", lambda ratio: f"{ratio:.2g}×", True),
    "work": ("FLOPs, of attention in full", lambda share: f"{100 * share:.3g} %", False),
}


def kept(frame: pd.DataFrame, column: str, lead: Mapping[str, int], across: str = "speed_up") -> Figure:
    """What selectors keep, a column of suite.reading.selected, against a column of ACROSS, choosing included.

    lead: those to be followed, each with the number of its colour; controls are broken lines, each kind with
    its own; the others faint.
    """
    able: Rows = frame[frame[across].notna() & frame[column].notna()]
    says, value, factors = ACROSS[across]
    with mpl.rc_context(STYLE):
        figure, axes = blank()
        if factors:
            axes.set_xscale("log", base=2)
        axes.axvline(1, color=INK, linewidth=1)
        for name, rows in able.groupby("selector", sort=False):
            ordered: Rows = rows.sort_values("sparsity")
            at = lead.get(str(name))
            look: dict[str, Any] = {"color": INK, "alpha": 0.5, "linewidth": 0.8, "marker": "."}
            look["label"] = f"_{name}"  # which a legend leaves out
            if control := ordered["control"].iloc[0]:
                dash, marker = BROKEN[control]
                look = {"color": INK, "linestyle": dash, "marker": marker, "label": str(name)}
            elif at is not None:
                look = {"color": SERIES[at % len(SERIES)], "marker": MARKERS[at], "label": str(name)}
            (line,) = axes.plot(ordered[across], ordered[column], **look)
            told = zip(ordered["sparsity"], ordered[across], ordered[column], strict=True)
            HOVER[line] = [
                f"{name}, {percent(one)} %: {value(at)}, {100 * kept:.1f} %" for one, at, kept in told
            ]
        axes.set_ylim(0, 1.03)
        if not factors:  # so that a straight line between two shares is one
            axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
        axes.xaxis.set_major_formatter(lambda at, _: value(at))
        axes.set_xlabel(says)
        axes.set_ylabel("recall")
        explain(figure, axes)
        return figure


def drawn(
    frame: Rows,
    column: str,
    says: str,
    by: str,
    frame_of: Callable[[Axes], object] = lambda axes: None,
    log: bool = False,
) -> Figure:
    """A column of the sparse kernels against sparsity, a line for each value of `by`."""
    with mpl.rc_context(STYLE):
        figure, axes = blank()
        if log:
            axes.set_yscale("log", base=2 if column == "speed_up" else 10)
        able = frame[
            ~frame["dense"]
            & (frame["execution"] != "dense")  # no zeros to skip: it is there for its power
            & frame["sparsity"].notna()
            & frame[column].notna()
            & (frame[column] < inf)
        ]
        axes.set_xscale("log")
        sparsity_axis(axes, able)
        for number, (name, rows) in zip(count(), able.groupby(by, sort=False)):
            curve(axes, rows, column, str(name), number)
        frame_of(axes)
        if log:
            hold(axes)
        if column == "speed_up":
            ratio_axis(axes)
        elif log:
            calls_axis(axes)
        axes.set_ylabel(says)
        if able.empty:
            axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center")
        explain(figure, axes)
        return figure


def hold(axes: Axes) -> None:
    """Keep to what the lines need. Where two visits differ wildly, a band would squeeze them all flat."""
    values = (np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines())
    drawn = [float(one) for several in values for one in several if one > 0]
    if drawn:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, min(drawn) / BEYOND), min(high, max(drawn) * BEYOND))


def blank() -> tuple[Figure, Axes]:
    """An empty figure and its axes."""
    figure = Figure(figsize=(WIDTH, HEIGHT))
    return figure, figure.add_axes((LEFT / WIDTH, BELOW / HEIGHT, *inner(HEIGHT)))


def inner(height: float) -> tuple[float, float]:
    """Width and height of the axes, as shares of a figure so high."""
    return (WIDTH - LEFT - RIGHT) / WIDTH, (HEIGHT - BELOW - ABOVE) / height


def explain(figure: Figure, axes: Axes) -> None:
    """A legend below the axes where there is more than one line. The figure grows by it; the axes do not.

    Widths are known beforehand, so nothing needs to be drawn twice as matplotlib's own layouts do.
    """
    named = len(axes.get_legend_handles_labels()[0])
    if named < 2:
        return
    below = LEGEND_ROW * ceil(named / 2)
    height = HEIGHT + below
    figure.set_figheight(height)
    axes.set_position((LEFT / WIDTH, (BELOW + below) / height, *inner(height)))
    figure.legend(loc="lower left", ncols=2, borderaxespad=0, columnspacing=1)


def curve(axes: Axes, rows: Rows, column: str, name: str, number: int) -> None:
    """One line and, where visits give an interval, its band. Cases of the same sparsity are averaged."""
    band = [f"{column}_{end}" for end in ("low", "high") if f"{column}_{end}" in rows]
    at = rows.groupby(rows["sparsity"].round(4))[[column, *band]].median()
    density = (1 - at.index.to_numpy()).clip(LEAST_DENSITY)
    colour = SERIES[number % len(SERIES)]
    style = "-" if number < len(SERIES) else "--"
    marker = MARKERS[number % len(MARKERS)]
    (line,) = axes.plot(density, at[column], style, color=colour, marker=marker, label=name)
    HOVER[line] = [f"{name}, {percent(one)} %: {value:.3g}" for one, value in at[column].items()]
    if band:
        low, high = BANDS[line] = tuple(at[end].where(at[end] < inf) for end in band)
        if len(at) == 1:  # a band has no width there
            if (low < high).any():
                axes.vlines(density, low, high, color=colour, alpha=0.4)
        else:
            axes.fill_between(density, low, high, color=colour, alpha=0.18, linewidth=0)


def faint(axes: Axes, rows: Rows, column: str, name: str) -> None:
    """A line that is there to be seen, not to be followed: legends leave out a name that begins with "_"."""
    at = rows.groupby(rows["sparsity"].round(4))[column].median()
    density = (1 - at.index.to_numpy()).clip(LEAST_DENSITY)
    axes.plot(density, at, color=INK, alpha=0.4, linewidth=0.8, zorder=1, label=f"_{name}")


def densities(frame: Rows) -> tuple[float, float]:
    """The least and the most that was measured; something to draw on if nothing was."""
    known = (1 - frame["sparsity"].dropna().astype(float)).clip(lower=LEAST_DENSITY)
    return (0.01, 0.5) if known.empty else (known.min(), known.max())


def sparsity_axis(axes: Axes, rows: Rows) -> None:
    """Ticks where it was measured, sparse to the right; those that would run into each other stay unnamed."""
    found = sorted({round(1 - sparsity, 4) or LEAST_DENSITY for sparsity in rows["sparsity"]}, reverse=True)
    least, most = densities(rows)
    room = log2(most / least) / 6 or 1
    named, last = [], inf
    for density in found:
        clear = log2(last / density) >= room if last < inf else True
        named.append(f"{percent(1 - density)} %" if clear else "")
        last = density if clear else last
    axes.set_xlim(most * 2 ** (room / 2), least / 2 ** (room / 2))
    axes.xaxis.set_major_locator(FixedLocator(found))
    axes.xaxis.set_major_formatter(FixedFormatter(named))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(SPARSITY)


def shares(axes: Axes) -> None:
    """A fraction, in percent, from 0."""
    most = axes.dataLim.y1
    axes.set_ylim(0, 1.1 * most if 0 < most < inf else 1)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")


def calls_axis(axes: Axes) -> None:
    """Numbers of calls. A decade at least, or there is no round number to label."""
    low, high = axes.get_ylim()
    if high < 10 * low:
        low, high = sqrt(low * high / 10), sqrt(low * high * 10)
        axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda calls, _: f"{calls:,.0f}" if calls >= 1 else f"{calls:g}")


def ratio_axis(axes: Axes) -> None:
    """Powers of two, written as ratios; on a wide axis every second or fourth."""
    low, high = axes.get_ylim()
    ends = floor(log2(low)), ceil(log2(high))
    step = max(1, ceil((ends[1] - ends[0]) / 8))
    ticks = [2.0**power for power in range(ends[0] - ends[0] % step, ends[1] + 1, step)]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    named = ["dense 1×" if tick == 1 else f"{tick:g}×" if tick > 1 else f"1/{1 / tick:g}×" for tick in ticks]
    axes.yaxis.set_major_formatter(FixedFormatter(named))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(low, high)
