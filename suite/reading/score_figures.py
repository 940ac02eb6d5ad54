"""Score figures: curves of methods in, a matplotlib Figure out, in the manner of suite/reading/figures.py."""

from collections.abc import Callable, Mapping, Sequence
from math import nan
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from suite.reading.figures import (
    BANDS,
    HOVER,
    INK,
    LEAST_DENSITY,
    MARKERS,
    SERIES,
    STYLE,
    blank,
    explain,
    sparsity_axis,
)
from suite.reading.scores import Curve, Mean, Point
from suite.reading.units import percent


def look(name: str, lead: Mapping[str, int], control: bool) -> dict[str, Any]:
    """How a method's line looks: those to be followed in colour, controls dashed, the others faint."""
    if name in lead:
        at = lead[name]
        style = "--" if control else "-"
        return {
            "color": SERIES[at % len(SERIES)],
            "marker": MARKERS[at % len(MARKERS)],
            "linestyle": style,
            "label": name,
        }
    return {"color": INK, "alpha": 0.4, "linewidth": 0.8, "zorder": 1, "label": f"_{name}"}


def against_sparsity(
    curves: Sequence[Curve],
    dense: Mean,
    says: str,
    lead: Mapping[str, int],
    figure_of: Callable[[Point], Mean | None] = lambda point: point.value,
) -> Figure:
    """A figure of every method against sparsity, with its interval over seeds; the dense model is a band."""
    with mpl.rc_context(STYLE):
        figure, axes = blank()
        axes.set_xscale("log")
        masked = [one for one in curves if one.first.execution != "dense"]  # smaller ones are near it only
        at = [point.sparsity for one in masked or curves for point in one.points]
        sparsity_axis(axes, pd.DataFrame({"sparsity": at}))
        level(axes, dense)
        if dense.low is not None and dense.high is not None:
            axes.axhspan(dense.low, dense.high, color=INK, alpha=0.12, linewidth=0)
        for one in sorted(curves, key=lambda one: lead.get(one.method, len(lead))):
            drawn(axes, one, lead, figure_of)
        told = [
            dense.middle,
            *(value.middle for one in curves for value in map(figure_of, one.points) if value),
        ]
        room = 0.06 * (max(told) - min(told)) or 1.0
        axes.set_ylim(min(told) - room, max(told) + room)  # bands of three seeds may reach beyond all sense
        axes.set_ylabel(says)
        explain(figure, axes)
        return figure


def level(axes: Axes, dense: Mean) -> None:
    """The dense model, a line across."""
    line = axes.axhline(dense.middle, color=INK, linewidth=1, label="_dense")
    BANDS[line] = ends([dense])


def ends(values: Sequence[Mean]) -> tuple[list[float], list[float]]:
    """Of intervals, the lower and the upper ends; not a number where there is one seed."""
    low, high = ([getattr(value, end) for value in values] for end in ("low", "high"))
    return [nan if one is None else one for one in low], [nan if one is None else one for one in high]


def drawn(axes: Axes, one: Curve, lead: Mapping[str, int], figure_of: Callable[[Point], Mean | None]) -> None:
    """One method's line, and the band of its interval if it is to be followed."""
    found = [(point, value) for point in one.points if (value := figure_of(point))]
    if not found:
        return
    density = [max(1 - point.sparsity, LEAST_DENSITY) for point, _ in found]
    (line,) = axes.plot(density, [value.middle for _, value in found], **look(one.method, lead, one.control))
    HOVER[line] = [f"{one.method}, {percent(point.sparsity)} %: {value.middle:.3g}" for point, value in found]
    if all(value.low is not None for _, value in found):
        low, high = BANDS[line] = ends([value for _, value in found])
    if one.method in lead and one.knee is not None and not one.control:
        ring = {"marker": "o", "markersize": 10, "fillstyle": "none", "color": line.get_color()}
        bent = next(value for point, value in found if point.sparsity == one.knee)
        axes.plot([max(1 - one.knee, LEAST_DENSITY)], [bent.middle], label="_knee", **ring)
    if one.method in lead and line in BANDS:
        colour = SERIES[lead[one.method] % len(SERIES)]
        if len(found) > 1:
            axes.fill_between(density, low, high, color=colour, alpha=0.12, linewidth=0)
        else:
            axes.vlines(density, low, high, color=colour, alpha=0.4)


def against_cost(
    curves: Sequence[Curve],
    dense: Mean,
    says: str,
    cost: Callable[[Point], float | None],
    costs: str,
    lead: Mapping[str, int],
    of: str = "dense",
    base: int = 10,
) -> Figure:
    """A figure of every method against what its model costs, as a share `of` the dense model's.

    base: of the logarithm whose whole steps have a number.
    """
    with mpl.rc_context(STYLE):
        figure, axes = blank()
        axes.set_xscale("log", base=base)
        level(axes, dense)
        axes.axvline(1, color=INK, linewidth=1)
        for one in sorted(curves, key=lambda one: lead.get(one.method, len(lead))):
            found = [(at, point) for point in one.points if (at := cost(point))]
            found.sort(key=lambda pair: pair[0])
            if not found:
                continue
            (line,) = axes.plot(
                [at for at, _ in found],
                [point.value.middle for _, point in found],
                **look(one.method, lead, one.control),
            )
            BANDS[line] = ends([point.value for _, point in found])
            HOVER[line] = [
                f"{one.method}, {percent(point.sparsity)} %: {point.value.middle:.3g} at {at:.3g} of {of}"
                for at, point in found
            ]
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:g}×")
        axes.xaxis.set_minor_formatter(lambda share, _: "")
        axes.set_xlabel(costs)
        axes.set_ylabel(says)
        explain(figure, axes)
        return figure


def front(points: Sequence[Mapping[str, Any]], dense: Mean, says: str) -> Figure:
    """A figure of models by measured speed-up: filled those that none beats in both, controls as crosses."""
    with mpl.rc_context(STYLE):
        figure, axes = blank()
        axes.set_xscale("log", base=2)
        level(axes, dense)
        axes.axvline(1, color=INK, linewidth=1)
        for at, training in enumerate(dict.fromkeys(one["training"] for one in points)):
            for kind, looks in KINDS.items():
                some = [one for one in points if one["training"] == training and kind_of(one) == kind]
                if not some:
                    continue
                (line,) = axes.plot(
                    [one["gain"] for one in some],
                    [one["value"].middle for one in some],
                    linestyle="none",
                    color=SERIES[at],
                    label=f"{training}, {kind}",
                    **looks,
                )
                BANDS[line] = ends([one["value"] for one in some])
                HOVER[line] = [
                    f"{one['method']}, {one['pattern']}: {one['gain']:.2g}×, {one['value'].middle:.3g}"
                    for one in some
                ]
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(2, subs=(1, 1.25, 1.5, 1.75) if high < 4 * low else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda ratio, _: f"{ratio:g}×")
        axes.set_xlabel("measured speed-up of the layers")
        axes.set_ylabel(says)
        explain(figure, axes)
        return figure


KINDS: dict[str, dict[str, Any]] = {
    "best": {"marker": "o"},
    "beaten": {"marker": "o", "markerfacecolor": "none", "alpha": 0.6},
    "control": {"marker": "x", "alpha": 0.6},
}


def kind_of(one: Mapping[str, Any]) -> str:
    """How a model is drawn."""
    return "control" if one["control"] else "best" if one["front"] else "beaten"
