"""Mixtures: how much of a mixture of experts should be idle, with the FLOPs of its training given.

A sweep is a dense model and models of which more and more is idle, under one constraint: the FLOPs of an
example are the dense one's, or the weights are. Abnar et al., "Parameters vs FLOPs: Scaling Laws for Optimal
Sparsity for Mixture-of-Experts Language Models", ICML 2025. Of each the loss is told, and a trend over all
seeds: it falls or rises with each doubling of what is idle, or is least in between. A parabola over the
doublings says where, and by how much it is off.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from suite.reading.scores import DENSE, Curve, Mean, Study, mean
from suite.reading.units import percent
from suite.record import Score

CONSTRAINTS = {"infer_flops": "FLOPs of an example", "params": "weights"}
FINEST = 1e-9  # a slope that is rounding
LEAST = 3  # models of a sweep, the dense one among them, and seeds


@dataclass(frozen=True)
class Model:
    """idle: the share of the experts that an example does not ask; counted: of all weights."""

    idle: float
    counted: float
    weights: float
    flops: float  # of an example
    training: float  # FLOPs
    loss: Mean
    losses: dict[int, float]  # by seed

    @property
    def doublings(self) -> float:
        """Of the experts."""
        return -math.log2(1 - self.idle)


@dataclass(frozen=True)
class Sweep:
    """Models under one constraint, the dense one first.

    held, trained: how far the worst of them is from the dense one in what is held, and in FLOPs of training.
    slope: by what share of the loss a doubling of the experts changes it, over seeds.
    optimum: the idle share at which a parabola is least; None: at none between the ends. off: its error.
    """

    method: str
    constraint: str
    models: Sequence[Model]
    held: float
    trained: float
    slope: Mean
    optimum: float | None
    off: float

    @property
    def best(self) -> Model:
        """Of those tried, the one of least loss."""
        return min(self.models, key=lambda one: one.loss.middle)

    @property
    def says(self) -> str:
        """The trend in words."""
        first, last = self.models[0], self.models[-1]
        if self.best not in (first, last) and all(clearly(self.best, one) for one in (first, last)):
            return f"least at {percent(self.best.idle)} % idle, clearly below both ends"
        if self.slope.high is not None and self.slope.high < -FINEST:
            return "the more is idle the lower"
        if self.slope.low is not None and self.slope.low > FINEST:
            return "the more is idle the higher"
        return "no clear trend"


def clearly(one: Model, other: Model) -> bool:
    """Whether the first has less loss, by the interval of the difference over seeds."""
    high = mean([one.losses[seed] - other.losses[seed] for seed in one.losses]).high
    return high is not None and high < 0


def sweeps(study: Study) -> list[Sweep]:
    """Every sweep with the dense model and two others at least, each of the same three seeds or more."""
    made = []
    for curve in study.curves:
        first = curve.first
        held = CONSTRAINTS.get(first.iso or "")
        if curve.line == "chosen" and first.start == "fresh" and held and not curve.control:
            made += [one for one in [sweep(curve, study, held)] if one]
    return made


def sweep(curve: Curve, study: Study, held: str) -> Sweep | None:
    """One method's models, and the dense one; None: too few."""
    points = [(0.0, study.dense), *((one.asked, one.scores) for one in curve.points)]
    seeds = set.intersection(*({seed for seed, one in scores.items() if loss(one)} for _, scores in points))
    if len(points) < LEAST or len(seeds) < LEAST:
        return None
    models = [model(idle, [scores[seed] for seed in sorted(seeds)]) for idle, scores in points]
    first, rest = models[0], models[1:]
    x = np.array([one.doublings for one in models])
    slopes = [
        float(np.polyfit(x, np.log([one.losses[seed] for one in models]), 1)[0]) for seed in first.losses
    ]
    logs = np.log([one.loss.middle for one in models])
    fit = np.polyfit(x, logs, 2)
    vertex = -fit[1] / (2 * fit[0]) if fit[0] > 0 else math.nan
    of = "flops" if held == CONSTRAINTS["infer_flops"] else "weights"
    return Sweep(
        curve.method,
        held,
        models,
        max(abs(getattr(one, of) / getattr(first, of) - 1) for one in rest),
        max(abs(one.training / first.training - 1) for one in rest),
        mean(slopes),
        1 - 2.0**-vertex if x[0] < vertex < x[-1] else None,
        float(np.abs(np.expm1(np.polyval(fit, x) - logs)).max()),
    )


def model(idle: float, scores: Sequence[Score]) -> Model:
    """The same model at each seed."""
    losses = {one.seed: found for one in scores if (found := loss(one))}
    return Model(
        idle,
        0.0 if scores[0].method == DENSE else fmean(one.sparsity for one in scores),
        fmean(sum(layer["m"] * layer["k"] for layer in one.layers) for one in scores),
        fmean(one.infer_flops or math.nan for one in scores),
        fmean(one.train_flops or math.nan for one in scores),
        mean(list(losses.values())),
        losses,
    )


def loss(score: Score) -> float | None:
    """The metric where lower is better, else cross entropy; None: the line lacks it, or what it costs."""
    found = score.value if score.better == "lower" else score.quality.get("cross entropy")
    whole = score.layers and score.infer_flops and score.train_flops
    return found if found and found > 0 and whole else None
