"""Iso: models of equal cost: a larger one with zeros against a smaller one without.

Cost is what a Score's ledger says: FLOPs of an inference, bytes of the model, FLOPs of its training (and of
the dense model's, where it goes on from that); or what kernels took at the shapes of its layers on this
device: time, joules. Each is a share of the dense model's. Of what is counted, two models cost the same if
they are as near as the cost says; of what is measured, the sparse one is to take no more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from operator import attrgetter
from statistics import fmean

from suite.reading.joined import Known, Measured
from suite.reading.scores import Curve, Mean, Point, Study, lost, mean, sign
from suite.record import Score

AS_LONG = 2.0  # times the examples a rival was trained on: who saw more is no fair rival of it

Share = Callable[[Score, Score, Measured | None], float | None]
"""What a model costs, over what the dense one of its seed does; None: not known."""


@dataclass(frozen=True)
class Cost:
    """near: how far two models of equal cost may be apart; None: the sparse one takes no more."""

    says: str
    share: Share
    near: float | None = None

    def allows(self, sparse: float, dense: float) -> bool:
        """Whether models of these shares may be held against each other."""
        return sparse <= dense if self.near is None else abs(sparse / dense - 1) <= self.near


def ledger(of: Callable[[Score], float | None]) -> Share:
    """A cost that lines state."""
    return lambda score, dense, _: ratio(of(score), of(dense))


def ratio(spent: float | None, whole: float | None) -> float | None:
    return spent / whole if spent and whole else None


def training(score: Score, dense: Score, _: Measured | None) -> float | None:
    """FLOPs until there was this model, those of choosing what stays of it among them."""
    if score.train_flops is None or dense.train_flops is None:
        return None
    before = dense.train_flops if score.start == "dense" else 0.0
    return ratio(score.train_flops + (score.search_flops or 0.0) + before, dense.train_flops)


def layers(of: Callable[[Measured], Known]) -> Share:
    """What the layers took, for as many examples at once as both models were measured at."""

    def share(score: Score, dense: Score, here: Measured | None) -> float | None:
        if here is None or not score.layers or not dense.layers:
            return None
        both = here.batches(score, dense)
        found = of(here).of(score, both[-1], dense) if both else None
        return found and found.sparse / found.dense

    return share


COSTS = {
    "flops": Cost("FLOPs of an inference", ledger(attrgetter("infer_flops")), 0.02),
    "bytes": Cost("bytes of the model", ledger(attrgetter("bytes")), 0.01),
    "training": Cost("FLOPs of the training", training, 0.02),
    "latency": Cost("time of the layers", layers(attrgetter("seconds"))),
    "energy": Cost("joules of the layers", layers(attrgetter("joules"))),
}


def share(point: Point, cost: str, study: Study, here: Measured | None = None) -> float | None:
    """What its model costs, over what the dense one of the same seed does; None where that is not known."""
    of = COSTS[cost].share
    found = [
        its
        for seed, score in point.scores.items()
        if seed in study.dense and (its := of(score, study.dense[seed], here))
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
    gap: Mean | None  # of the dense value: what the sparse one loses less, by seed; None: no seed of both

    @property
    def verdict(self) -> bool | None:
        """Whether the sparse one is clearly better; None where its interval holds both, or it has none."""
        return sign(self.gap) if self.gap else None


def duels(study: Study, cost: str, here: Measured | None = None) -> list[Duel]:
    """Each dense model against the sparse one of its cost that loses least, the cheapest first.

    One that shares a seed with the dense model comes before any that does not.
    """
    sparse = [
        (its, one, other)
        for one in trained(study)
        if not is_dense(one)
        for other in one.points
        if (its := share(other, cost, study, here))
    ]
    made = []
    for name, point, at in rivals(study, cost, here):
        seen = examples(point, study) * AS_LONG
        near = [
            (other.scores.keys().isdisjoint(point.scores), other.loss.middle, one, other)
            for its, one, other in sparse
            if COSTS[cost].allows(its, at) and not examples(other, study) > seen
        ]
        if near:
            apart, _, one, best = min(near, key=lambda found: found[:2])
            shared = best.scores.keys() & point.scores.keys()
            gaps = [lost(point.scores[seed]) - lost(best.scores[seed]) for seed in shared]
            gap = None if apart else mean(gaps)
            made.append(Duel(at, name, point.value, one.method, best.sparsity, best.value, gap))
    return sorted(made, key=lambda one: one.cost)


def examples(point: Point, study: Study) -> float:
    """How many its model was trained on, the dense model's included; not a number where that is not known."""
    found = [
        (score.train_tokens or nan)
        + ((study.dense[seed].train_tokens or nan) if score.start == "dense" else 0)
        for seed, score in point.scores.items()
        if seed in study.dense
    ]
    return fmean(found) if found else nan


def rivals(study: Study, cost: str, here: Measured | None) -> list[tuple[str, Point, float]]:
    """Dense models with what they cost: the small ones, and the dense one itself."""
    found = [
        (one.method, point, at)
        for one in trained(study)
        if is_dense(one)
        for point in one.points
        if (at := share(point, cost, study, here))
    ]
    whole = Point("dense", dict(study.dense))
    if whole.scores and share(whole, cost, study, here):
        found.append(("dense", whole, 1.0))
    return found


def trained(study: Study) -> Sequence[Curve]:
    """Those whose weights were trained: only they are fair to a small model that was."""
    return [one for one in study.curves if one.training == "weights"]


def is_dense(curve: Curve) -> bool:
    """Whether its models have no zeros: smaller ones."""
    return curve.first.execution == "dense"


@dataclass(frozen=True)
class Penalty:
    """A sparse model of the dense one's FLOPs: what it wins, and what time and memory it takes."""

    method: str
    sparsity: float
    flops: float  # shares of the dense model's
    bytes: float | None
    time: float | None
    gain: Mean  # of the dense value


def penalties(study: Study, here: Measured | None) -> list[Penalty]:
    """Of every model that holds the FLOPs of an inference equal."""
    made = []
    for one in trained(study):
        for point in one.points if one.first.iso == "infer_flops" else ():
            if flops := share(point, "flops", study):
                beside = share(point, "bytes", study), share(point, "latency", study, here)
                made.append(Penalty(one.method, point.sparsity, flops, *beside, point.gain))
    return made
