"""Bought: how much sparsity a task stands, and what that buys: a cell of the first screen's fifth question.

A task stands a sparsity where a method is shown to keep all but ENOUGH of the dense value (`Curve.kept`).
What that buys is the speed-up of the model's layers by kernels timed on the device, in this regime. The
highest of many methods is partly luck; the task's page has them all.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from suite.case import regime_of
from suite.reading.about import family_of
from suite.reading.joined import DTYPE, Measured, whole_of
from suite.reading.scores import ENOUGH, Curve, Point, Study
from suite.reading.units import percent, times
from suite.record import Score

Cell = tuple[str, str, str, str, str, str]  # device, op, dtype, cache, family, regime


class Stood(NamedTuple):
    """A model a task stands: its sparsity, and the speed-up of its layers where they were timed."""

    sparsity: float
    gain: float | None


def bought(
    found: Sequence[Study], measured: Mapping[str, Measured], places: Callable[[Study], Sequence[str]]
) -> dict[Cell, str]:
    """What to say in each cell in whose regime the layers of a task were timed, dense at least.

    places: the devices that a study's models are put beside.
    """
    said: dict[Cell, list[str]] = defaultdict(list)
    for study in found:
        for device in places(study):
            for (family, regime), stood in cells(study, measured[device]).items():
                cell = device, "spmm", DTYPE, "cold", family, regime
                said[cell].append(f"{study.task}{' (toy)' if study.any.toy else ''} {told(stood)}")
    return {cell: "; ".join(texts) for cell, texts in said.items()}


def cells(study: Study, here: Measured) -> dict[tuple[str, str], list[Stood]]:
    """Family and regime -> the models that a task stands; none, where none is shown to be good enough."""
    made: dict[tuple[str, str], list[Stood]] = {}
    for curve in study.curves:
        if curve.first.execution == "dense":
            continue
        for point in curve.points:
            score = next(iter(point.scores.values()))
            whole = whole_of(study, score)
            for regime, batch in regimes(here, score, whole) if whole else ():
                stood = made.setdefault((family_of(point.pattern), regime), [])
                if stands(curve, point):
                    joined = here.of(score, batch, whole)
                    stood.append(Stood(point.sparsity, joined.seconds.ratio if joined else None))
    return made


def regimes(here: Measured, score: Score, whole: Score) -> Iterator[tuple[str, int]]:
    """Each regime that holds the products of all layers, and the most examples at once timed in it."""
    found: dict[str, int] = {}
    for batch in here.batches(score, whole) if score.layers else ():
        among = {regime_of(layer["n"] * batch) for layer in score.layers}
        if len(among) == 1:
            found[among.pop()] = batch
    yield from found.items()


def stands(curve: Curve, point: Point) -> bool:
    """Whether a method, that is no blind choice, surely keeps enough there."""
    return not curve.control and curve.kept.sure is not None and point.sparsity <= curve.kept.sure


def told(stood: Sequence[Stood]) -> str:
    """In words."""
    share = percent(1 - ENOUGH)
    if not stood:
        return f"surely keeps {share} % at no sparsity"
    most = max(one.sparsity for one in stood)
    gain, at = max(((one.gain, one.sparsity) for one in stood if one.gain), default=(None, most))
    keeps = f"surely keeps {share} % up to {percent(most)} %"
    if gain is None:
        return f"{keeps}, not timed there"
    return f"{keeps}: {times(gain)}" if at == most else f"{keeps}: {times(gain)} at {percent(at)} %"
