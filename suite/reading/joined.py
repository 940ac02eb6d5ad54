"""Joined: what a pruned model's layers take on a device, by the kernels that were measured at their shapes.

A layer's time is that of the best sparse kernel at its shape and pattern, on a straight line in logarithms
of time and density between the sparsities that were timed; no line goes beyond them. A layer without a mask
takes the best dense kernel's time. One of a checkpoint (`data`) takes that of its own matrix, or, where that
was not timed, that of matrices of its shape and pattern in the same checkpoint, on such a line if they are
not N:M; a random mask stands for none. Joules of a call join in the same way where a meter was read, and
bytes of the weight in the kernel's format where it states them. What skips no zeros (masked, simulated) is no
sparse kernel here. What lies between the layers is in none of it: it is operators' time, not a model's.
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from suite.case import is_layer
from suite.patterns.given import Given
from suite.patterns.n_of_m import NofM
from suite.reading.about import family_of
from suite.reading.crossover import LEAST_DENSITY
from suite.reading.frame import Rows
from suite.reading.scores import DENSE, Study, line_of
from suite.record import Score

NEAR = 0.005  # of sparsity: times this near stand for each other
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
    alike: int = 0  # layers for which others of their checkpoint stand

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


class Found(NamedTuple):
    """What is known of a layer. between, alike: it is not that of the layer itself (Sum)."""

    value: float
    between: bool = False
    alike: bool = False


class Own(NamedTuple):
    """What was measured on a layer's own matrix."""

    pattern: str
    sparsity: float
    value: float


class Known:
    """One quantity by shape: of the best dense kernel, and of the best sparse one by sparsity too.

    own: by the data of layers, of the best sparse kernel on just these.
    """

    def __init__(self, rows: Rows, column: str) -> None:
        self.dense: dict[Shape, float] = {}
        self.sparse: dict[tuple[Shape, str], dict[float, float]] = defaultdict(dict)
        self.own: dict[Shape, dict[str, Own]] = defaultdict(dict)
        for row in rows[rows[column].notna()].itertuples():
            shape, value = shape_of(row), getattr(row, column)
            if row.dense:
                self.dense[shape] = min(self.dense.get(shape, math.inf), value)
            elif is_layer(row.data):
                self.own[shape][row.data] = Own(row.pattern, row.sparsity, value)
            elif pd.notna(row.sparsity):
                known = self.sparse[shape, row.line]
                known[row.sparsity] = min(known.get(row.sparsity, math.inf), value)

    def of(self, score: Score, batch: int, whole: Score) -> Sum | None:
        """That of a model's layers, and of the dense model's; None where one of them was not measured so."""
        sparse = [self.layer(layer, batch) for layer in score.layers]
        dense = [self.layer(layer | UNMASKED, batch) for layer in whole.layers]
        if None in sparse or None in dense:
            return None
        between, alike = any(one.between for one in sparse if one), sum(one.alike for one in sparse if one)
        ours, theirs = (sum(one.value for one in side if one) for side in (sparse, dense))
        return Sum(ours, theirs, between, alike)

    def layer(self, layer: Mapping[str, Any], batch: int) -> Found | None:
        """That of a layer; None: it was not measured."""
        shape = layer["m"], layer["k"], layer["n"] * batch
        if layer["pattern"] == DENSE:
            return Found(self.dense[shape]) if shape in self.dense else None
        if "data" in layer:
            return itself(layer, self.own.get(shape, {}))
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


def itself(layer: Mapping[str, Any], there: Mapping[str, Own]) -> Found | None:
    """What was measured on a layer's own matrix, or on others of its checkpoint that are like it."""
    if found := there.get(str(layer["data"])):
        return Found(found.value)
    checkpoint, grouped = checkpoint_of(str(layer["data"])), family_of(layer["pattern"]) == NofM.family
    like = [
        one
        for data, one in there.items()
        if checkpoint_of(data) == checkpoint
        and one.pattern == (layer["pattern"] if grouped else Given.spelling)
    ]
    if grouped:
        return Found(fmean(one.value for one in like), alike=True) if like else None
    near = at({one.sparsity: one.value for one in like}, layer["sparsity"])
    return near and near._replace(alike=True)


def checkpoint_of(data: str) -> str:
    """The folder of a layer's data."""
    return data.partition(":")[0]


def at(values: Mapping[float, float], sparsity: float) -> Found | None:
    """What is known at a sparsity; None beyond those that were measured."""
    known = sorted(values)
    near = [one for one in known if abs(one - sparsity) <= NEAR]
    if near:
        return Found(values[min(near, key=lambda one: abs(one - sparsity))])
    place = bisect_left(known, sparsity)
    if not 0 < place < len(known):
        return None
    low, high = known[place - 1], known[place]
    here, before, after = (math.log(max(1 - one, LEAST_DENSITY)) for one in (sparsity, low, high))
    share = (here - before) / (after - before)
    return Found(math.exp(math.log(values[low]) * (1 - share) + math.log(values[high]) * share), between=True)


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (gain, quality), higher both: which are not beaten in one by any that is no worse in the other."""
    return [
        not any(
            (gain >= mine and quality >= own) and (gain > mine or quality > own) for gain, quality in points
        )
        for mine, own in points
    ]
