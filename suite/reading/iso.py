"""Iso: models of equal cost: a larger one with zeros against a smaller one without.

Cost is what a Score's ledger says: FLOPs of an inference, bytes of the model, FLOPs of its training (and of
the dense model's, where it goes on from that), each as a share of the dense model's. Two models cost the same
if they are within NEAR of each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from suite.reading.scores import Curve, Mean, Point, Study, lost, mean, sign
from suite.record import Score

NEAR = 0.1


def training(score: Score, dense: Score) -> float | None:
    """FLOPs until there was this model."""
    if score.train_flops is None or dense.train_flops is None:
        return None
    before = dense.train_flops if score.start == "dense" and score is not dense else 0.0
    return score.train_flops + before


COSTS: dict[str, tuple[str, Callable[[Score, Score], Any]]] = {  # of a score and its dense model
    "flops": ("FLOPs of an inference", lambda score, dense: score.infer_flops),
    "bytes": ("bytes of the model", lambda score, dense: score.bytes),
    "training": ("FLOPs of the training", training),
}


def share(point: Point, cost: str, dense: dict[int, Score]) -> float | None:
    """What its model costs, over what the dense one of the same seed does; None where that is not known."""
    _, of = COSTS[cost]
    found = [
        spent / whole
        for seed, score in point.scores.items()
        if seed in dense and (spent := of(score, dense[seed])) and (whole := of(dense[seed], dense[seed]))
    ]
    return fmean(found) if found else None


@dataclass(frozen=True)
class Duel:
    """A small dense model, or the dense one, against the best sparse model of its cost."""

    cost: float  # a share of the dense model's
    small: str
    small_value: Mean
    sparse: str
    sparsity: float
    sparse_value: Mean
    gap: Mean  # of the dense value: how much less the sparse one loses, seed by seed

    @property
    def verdict(self) -> bool | None:
        """Whether the sparse one is clearly better; None where the interval holds both."""
        return sign(self.gap)


def duels(study: Study, cost: str) -> list[Duel]:
    """Each dense model against the sparse one of its cost that loses least, the cheapest first."""
    sparse = [one for one in trained(study) if not is_dense(one)]
    made = []
    for name, point, at in rivals(study, cost):
        near = [
            (other.loss.middle, one, other)
            for one in sparse
            for other in one.points
            if (its := share(other, cost, study.dense)) and abs(its / at - 1) <= NEAR
        ]
        if near:
            _, one, best = min(near, key=lambda found: found[0])
            shared = best.scores.keys() & point.scores.keys()
            gap = mean([lost(point.scores[seed]) - lost(best.scores[seed]) for seed in shared] or [0.0])
            made.append(Duel(at, name, point.value, one.method, best.sparsity, best.value, gap))
    return sorted(made, key=lambda one: one.cost)


def rivals(study: Study, cost: str) -> list[tuple[str, Point, float]]:
    """Dense models with what they cost: the small ones, and the dense one itself."""
    found = [
        (one.method, point, at)
        for one in trained(study)
        if is_dense(one)
        for point in one.points
        if (at := share(point, cost, study.dense))
    ]
    if study.dense and (whole := Point("dense", dict(study.dense))).scores:
        found.append(("dense", whole, 1.0))
    return found


def trained(study: Study) -> Sequence[Curve]:
    """Those whose weights were trained: only they are fair to a small model that was."""
    return [one for one in study.curves if one.training == "weights"]


def is_dense(curve: Curve) -> bool:
    """Whether its models have no zeros: smaller ones."""
    return curve.first.execution == "dense"
