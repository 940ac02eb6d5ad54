"""End to end: models that were timed as a whole (suite/whole.py), beside what their layers take alone.

Zeros shorten layers, and nothing of what lies between them, nor what it costs to hand a kernel its inputs.
How much of the layers' speed-up is left of a model is the gap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from suite.reading.answers import span
from suite.reading.frame import Rows
from suite.reading.joined import DTYPE, Measured, whole_of
from suite.reading.scores import Study
from suite.reading.units import times
from suite.record import Score
from suite.whole import METHOD


@dataclass(frozen=True)
class Timed:
    """A model at a pattern, so many tokens or examples at once. Times are seconds of one call.

    torch: as torch runs it; dense: of the better of that and the best dense kernel in each layer.
    gain: dense over sparse, with its interval; layers: that of all layers alone, and largest: of the case
    that the model stands around, timed in the same rounds. None: not timed.
    """

    pattern: str
    at_once: int
    regime: str
    torch: float | None
    dense: float
    sparse: float
    kernels: str
    gain: tuple[float, float | None, float | None]
    layers: float | None
    largest: float | None

    @property
    def gap(self) -> float | None:
        """How much the model gains more than its layers alone, a share; below 0 it gains less."""
        return self.gain[0] / self.layers - 1 if self.layers else None


def timed(
    models: Rows,
    kernels: Rows,
    task: str,
    device: str,
    study: Study | None = None,
    here: Measured | None = None,
) -> list[Timed]:
    """A task's models on a device. models: the frame of scope end_to_end; kernels: that of kernels.

    study: the task's, None if there is none; here: what was measured on the device. Both tell of the layers.
    """
    rows = models[
        (models["device"] == device)
        & (models["data"] == task)
        & (models["dtype"] == DTYPE)
        & (models["cache"] == "cold")
        & models["median"].notna()
    ]
    made = [of_case(some, kernels, study, here) for _, some in rows.groupby(["case", "threads"], sort=False)]
    return sorted((one for one in made if one), key=lambda one: (-one.at_once, one.pattern))


def alone(models: Rows, kernels: Rows) -> dict[tuple[str, str], list[Timed]]:
    """By (task, device), all models that were timed, without what a study tells of their layers."""
    pairs = models[["data", "device"]].dropna().drop_duplicates().itertuples(index=False)
    found = {(task, device): timed(models, kernels, task, device) for task, device in pairs}
    return {pair: some for pair, some in found.items() if some}


def in_a_line(found: Mapping[tuple[str, str], Sequence[Timed]]) -> str:
    """What whole models gained, for a terminal; empty where none was timed."""
    return "; ".join(f"{task} {gained(some)}" for (task, _), some in found.items())


def gained(models: Sequence[Timed]) -> str:
    """One model with its interval and its largest layer, several as a range and their count."""
    if len(models) > 1:
        return f"{span([one.gain[0] for one in models], times)} in {len(models)} cases"
    (one,) = models
    gain, low, high = one.gain
    band = (
        "one visit: no interval" if low is None or high is None else f"{times(low)[:-1]}-{times(high)[:-1]}"
    )
    return f"{times(gain)} ({band})" + (f", its largest layer {times(one.largest)}" if one.largest else "")


def of_case(rows: Rows, kernels: Rows, study: Study | None, here: Measured | None) -> Timed | None:
    """The versions of one model; None: one of both sides is missing."""
    dense, sparse = (rows[rows["best"] & (rows["dense"] == which)] for which in (True, False))
    if dense.empty or sparse.empty:
        return None
    first, rival = sparse.iloc[0], dense.iloc[0]
    torch = rows.loc[rows["kernel"] == "torch_model", "median"]
    same = kernels[(kernels["case"] == first["case"]) & (kernels["device"] == first["device"])]
    alone = same.loc[same["best"] & ~same["dense"], "speed_up"].dropna()
    return Timed(
        pattern=first["pattern"],
        at_once=int(first["n"]),
        regime=first["regime"],
        torch=None if torch.empty else float(torch.iloc[0]),
        dense=float(rival["median"]),
        sparse=float(first["median"]),
        kernels=", ".join(one.replace("=", " × ") for one in (first["algorithm"] or "").split()),
        gain=(float(first["speed_up"]), known(first["speed_up_low"]), known(first["speed_up_high"])),
        layers=of_layers(first, study, here) if study else None,
        largest=float(alone.iloc[0]) if len(alone) else None,
    )


def of_layers(row: Rows, study: Study, here: Measured | None) -> float | None:
    """The speed-up of all layers of the same model alone; None: they were not all timed so."""
    score = score_of(row["pattern"], study)
    shape = int(row["m"]), int(row["k"])
    rows = [one["n"] for one in score.layers if (one["m"], one["k"]) == shape] if score else []
    whole = whole_of(study, score) if score else None
    if here is None or score is None or whole is None or not rows or row["n"] % rows[0]:
        return None
    found = here.of(score, int(row["n"]) // rows[0], whole)
    return found.seconds.ratio if found else None


def score_of(pattern: str, study: Study) -> Score | None:
    """A score of the model that is timed: pruned so, and nothing else done to it."""
    found: Sequence[Score] = [
        score
        for curve in study.curves
        if curve.method == METHOD
        for point in curve.points
        if point.pattern == pattern
        for score in point.scores.values()
    ]
    return found[0] if found else None


def known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
