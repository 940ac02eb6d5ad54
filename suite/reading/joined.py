"""Joined: what a pruned model's layers take on a device, by the kernels that were measured at their shapes.

A layer's time is that of the best sparse kernel at its shape and pattern, on a straight line in logarithms
of time and density between the sparsities that were timed; no line goes beyond them. A layer without a mask
takes the best dense kernel's time. Joules of a call join in the same way where a meter was read, and bytes of
the weight in the kernel's format where it states them. What skips no zeros (masked, simulated) is no sparse
kernel here. What lies between the layers is in none of it: it is operators' time, not a model's.
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from suite.reading.crossover import LEAST_DENSITY
from suite.reading.frame import Rows
from suite.reading.scores import DENSE, Study, line_of
from suite.record import Score

DTYPE = "float32"  # in which studies judge
STUDIED = "cpu"  # the kind of device that studies run on
UNMASKED = {"pattern": DENSE, "sparsity": 0.0}

Shape = tuple[int, int, int]  # m, k, n


@dataclass(frozen=True)
class Sum:
    """A quantity of all layers of a model, sparse and dense."""

    sparse: float
    dense: float
    between: bool = False  # whether any layer's lies between two that were measured

    @property
    def ratio(self) -> float:
        return self.dense / self.sparse


@dataclass(frozen=True)
class Joined:
    """A model's layers, for so many examples at once. None: not known of one of them."""

    batch: int
    seconds: Sum
    joules: Sum | None
    unmetered: str  # why there are no joules
    bytes: Sum | None


class Known:
    """One quantity by shape: of the best dense kernel, and of the best sparse one by sparsity too."""

    def __init__(self, rows: Rows, column: str) -> None:
        self.dense: dict[Shape, float] = {}
        self.sparse: dict[tuple[Shape, str], dict[float, float]] = defaultdict(dict)
        for row in rows[rows[column].notna()].itertuples():
            shape, value = shape_of(row), getattr(row, column)
            if row.dense:
                self.dense[shape] = min(self.dense.get(shape, math.inf), value)
            elif pd.notna(row.sparsity):
                known = self.sparse[shape, row.line]
                known[row.sparsity] = min(known.get(row.sparsity, math.inf), value)

    def of(self, score: Score, batch: int, whole: Score) -> Sum | None:
        """That of a model's layers, and of the dense model's; None where one of them was not measured so."""
        sparse = [self.layer(layer, batch) for layer in score.layers]
        dense = [self.layer(layer | UNMASKED, batch) for layer in whole.layers]
        if None in sparse or None in dense:
            return None
        between = any(one[1] for one in sparse if one)
        return Sum(sum(one[0] for one in sparse if one), sum(one[0] for one in dense if one), between)

    def layer(self, layer: Mapping[str, Any], batch: int) -> tuple[float, bool] | None:
        """(that of a layer, whether it lies between two that were measured)."""
        shape = layer["m"], layer["k"], layer["n"] * batch
        if layer["pattern"] == DENSE:
            return (self.dense[shape], False) if shape in self.dense else None
        return at(self.sparse.get((shape, line_of(layer["pattern"])), {}), layer["sparsity"])


class Measured:
    """What was measured on a device."""

    def __init__(self, frame: pd.DataFrame, device: str) -> None:
        rows: Rows = frame[
            (frame["device"] == device)
            & (frame["op"] == "spmm")
            & (frame["dtype"] == DTYPE)
            & (frame["cache"] == "cold")
            & frame["best"]
            & frame["median"].notna()
        ]
        rows = rows[rows["threads"] == rows["threads"].max()]  # all that there are, if they were ever used
        self.seconds, self.joules, self.bytes = (Known(rows, name) for name in ("median", "joules", "stored"))
        self._notes = [(shape_of(row), row.energy_note) for row in rows.itertuples() if row.energy_note]

    def batches(self, *scores: Score) -> list[int]:
        """Numbers of examples at which every layer's shape of all these models has a dense time."""
        found: set[int] | None = None
        for layer in (layer for score in scores for layer in score.layers):
            here = {
                n // layer["n"]
                for m, k, n in self.seconds.dense
                if (m, k) == (layer["m"], layer["k"]) and n % layer["n"] == 0
            }
            found = here if found is None else found & here
        return sorted(found or ())

    def of(self, score: Score, batch: int, whole: Score | None = None) -> Joined | None:
        """A model's layers beside those of the dense one; None where one of them was not timed so.

        whole: the dense model, if it is not the model itself without its masks.
        """
        whole = whole or score
        seconds = self.seconds.of(score, batch, whole)
        if seconds is None:
            return None
        joules = self.joules.of(score, batch, whole)
        why = "" if joules else self.unmetered(score, batch)
        return Joined(batch, seconds, joules, why, self.bytes.of(score, batch, whole))

    def unmetered(self, score: Score, batch: int) -> str:
        """Why there are no joules at a model's shapes: what most of their kernels say."""
        shapes = {(layer["m"], layer["k"], layer["n"] * batch) for layer in score.layers}
        said = Counter(note for shape, note in self._notes if shape in shapes)
        return said.most_common(1)[0][0] if said else "no energy window at such a sparsity"


def whole_of(study: Study, score: Score) -> Score | None:
    """The dense model that a model's layers are held against: its seed's, or itself without its masks.

    None: it is of another size, and the layers of the dense model are not known.
    """
    dense = study.dense.get(score.seed)
    if dense and dense.layers:
        return dense
    return None if score.transform else score


def devices_of(study: Study, among: Sequence[Study], kinds: Mapping[str, str]) -> list[str]:
    """The devices whose kernels a study's models are put beside, of those with kernels: its own, and GPUs.

    Studies run on CPUs, and what a model answers does not depend on where its layers are timed. So each
    device of another kind, on which nobody studied this task, has the last study there is.
    """
    same = [one for one in among if one.task == study.task]
    own = [study.device] if study.device in kinds else []
    if study is not same[-1]:
        return own
    studied = {one.device for one in same}
    return [*own, *(device for device, kind in kinds.items() if kind != STUDIED and device not in studied)]


def shape_of(row: Rows) -> Shape:
    return int(row.m), int(row.k), int(row.n)


def at(values: Mapping[float, float], sparsity: float) -> tuple[float, bool] | None:
    """(value, whether it lies between two that were measured); None beyond them."""
    known = sorted(values)
    near = [one for one in known if abs(one - sparsity) <= 0.005]
    if near:
        return values[min(near, key=lambda one: abs(one - sparsity))], False
    place = bisect_left(known, sparsity)
    if not 0 < place < len(known):
        return None
    low, high = known[place - 1], known[place]
    here, before, after = (math.log(max(1 - one, LEAST_DENSITY)) for one in (sparsity, low, high))
    share = (here - before) / (after - before)
    return math.exp(math.log(values[low]) * (1 - share) + math.log(values[high]) * share), True


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (gain, quality), higher both: which are not beaten in one by any that is no worse in the other."""
    return [
        not any(
            (gain >= mine and quality >= own) and (gain > mine or quality > own) for gain, quality in points
        )
        for mine, own in points
    ]
