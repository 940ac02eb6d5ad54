"""Joined: what a pruned model's layers take on a device, by the kernels that were timed at their shapes.

A layer's time is that of the best sparse kernel at its shape and pattern, on a straight line in logarithms
of time and density between the sparsities that were timed; no line goes beyond them. A layer without a mask
takes the best dense kernel's time. What lies between the layers is not in it: it is operators' time, not a
model's.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from suite.reading.frame import Rows
from suite.reading.scores import line_of
from suite.record import Score

DTYPE = "float32"  # in which studies judge

Shape = tuple[int, int, int]  # m, k, n


@dataclass(frozen=True)
class Joined:
    """Seconds of all layers of a model, sparse and dense, for so many examples at once."""

    batch: int
    sparse: float
    dense: float
    between: bool  # whether any layer's time lies between two that were measured

    @property
    def speed_up(self) -> float:
        return self.dense / self.sparse


class Times:
    """What was timed on a device: the best dense kernel by shape, the best sparse one by sparsity too."""

    def __init__(self, frame: pd.DataFrame, device: str) -> None:
        self.dense: dict[Shape, float] = {}
        self.sparse: dict[tuple[Shape, str], dict[float, float]] = defaultdict(dict)
        rows: Rows = frame[
            (frame["device"] == device)
            & (frame["op"] == "spmm")
            & (frame["dtype"] == DTYPE)
            & (frame["cache"] == "cold")
            & frame["best"]
            & frame["median"].notna()
        ]
        for row in rows.itertuples():
            shape = int(row.m), int(row.k), int(row.n)
            if row.dense:
                self.dense[shape] = min(self.dense.get(shape, math.inf), row.median)
            elif pd.notna(row.sparsity):
                self.sparse[shape, row.line][row.sparsity] = row.median

    def batches(self, score: Score) -> list[int]:
        """Numbers of examples at which every layer's shape has a dense time."""
        found: set[int] | None = None
        for layer in score.layers:
            here = {
                n // layer["n"]
                for m, k, n in self.dense
                if (m, k) == (layer["m"], layer["k"]) and n % layer["n"] == 0
            }
            found = here if found is None else found & here
        return sorted(found or ())

    def of(self, score: Score, batch: int) -> Joined | None:
        """A model's layers; None where one of them was not timed at such a sparsity."""
        sparse = dense = 0.0
        between = False
        for layer in score.layers:
            shape = layer["m"], layer["k"], layer["n"] * batch
            whole = self.dense[shape]
            dense += whole
            if layer["pattern"] == "dense":
                sparse += whole
                continue
            found = at(self.sparse.get((shape, line_of(layer["pattern"])), {}), layer["sparsity"])
            if found is None:
                return None
            sparse += found[0]
            between |= found[1]
        return Joined(batch, sparse, dense, between)


def at(times: Mapping[float, float], sparsity: float) -> tuple[float, bool] | None:
    """(time, whether it lies between two that were measured); None beyond them."""
    known = sorted(times)
    near = [one for one in known if abs(one - sparsity) <= 0.005]
    if near:
        return times[min(near, key=lambda one: abs(one - sparsity))], False
    place = bisect_left(known, sparsity)
    if not 0 < place < len(known):
        return None
    low, high = known[place - 1], known[place]
    share = (math.log(1 - sparsity) - math.log(1 - low)) / (math.log(1 - high) - math.log(1 - low))
    return math.exp(math.log(times[low]) * (1 - share) + math.log(times[high]) * share), True


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (gain, quality), higher both: which are not beaten in one by any that is no worse in the other."""
    return [
        not any(
            (gain >= mine and quality >= own) and (gain > mine or quality > own) for gain, quality in points
        )
        for mine, own in points
    ]
