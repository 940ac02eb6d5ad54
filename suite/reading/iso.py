"""Iso: models of equal cost: a larger one with zeros against a smaller one without.

Cost is what a Score's ledger says: FLOPs of an inference, bytes of the model, FLOPs of its training (and of
the dense model's, where it goes on from that); or what kernels took at the shapes of its layers on this
device: time, joules. Each is a share of the dense model's. Of what is counted, two models cost the same if
they are as near as the cost says; of what is measured, the sparse one is to take no more. It was trained on
no more examples either.

The rival of a dense model is the best of many, chosen by the seeds that then judge it. Of thirty that are
all as good as the dense one, the best looks better in one duel of five. So a win is by an interval at a level
that the candidates share (Bonferroni), and a loss is one only where every candidate lost: then the best of
them did, whichever that is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from operator import attrgetter
from statistics import fmean

from suite.reading.joined import Known, Measured
from suite.reading.scores import Curve, Mean, Point, Study, less, reach, sign
from suite.reading.statistics import LEVEL
from suite.record import Score

AS_LONG = 1.02  # times the examples a rival was trained on, for steps are whole: who saw more is none of it

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
    """A small dense model, or the dense one, against the best sparse model of its cost.

    among: how many sparse models of this cost it is the best of.
    longer: the examples the sparse one was trained on, over those of the dense one; None: not known.
    """

    cost: float  # a share of the dense model's
    small: str
    small_value: Mean
    sparse: str
    sparsity: float
    sparse_value: Mean
    gap: Mean | None  # of the dense value: what the best sparse one loses less; None: no seed of both
    among: int
    longer: float | None

    @property
    def verdict(self) -> bool | None:
        """Whether the sparse one is clearly better; None where its interval holds both, or it has none."""
        return sign(self.gap) if self.gap else None


def duels(study: Study, cost: str, here: Measured | None = None) -> list[Duel]:
    """Each dense model against the sparse one of its cost that loses least, the cheapest first.

    Those that share most seeds with the dense model are candidates, and were trained no longer.
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
        seen = examples(point, study)
        near = [
            (one, other, list(less(other, point).values()))
            for its, one, other in sparse
            if COSTS[cost].allows(its, at) and not examples(other, study) > AS_LONG * seen
        ]
        if near:
            most = max(len(gap) for _, _, gap in near)
            able = [found for found in near if len(found[2]) == most]
            one, best, its = min(able, key=lambda found: found[1].loss.middle)
            gap = chosen(its, [gap for _, _, gap in able]) if its else None
            values = (name, point.value, one.method, best.sparsity, best.value)
            longer = examples(best, study) / seen
            made.append(Duel(at, *values, gap, len(able), None if longer != longer else longer))
    return sorted(made, key=lambda one: one.cost)


def met(study: Study, here: Measured | None = None) -> bool:
    """Whether any two models of it are held against each other."""
    return any(duels(study, cost, here) for cost in COSTS)


def chosen(best: Sequence[float], candidates: Sequence[Sequence[float]]) -> Mean:
    """The mean gap of the best of several candidates, with an interval that knows it was chosen.

    Its own lower end, each candidate having its part of the level; the highest of all upper ends, for the
    luck of the choice speaks against none of them.
    """
    middle, tail = fmean(best), (1 - LEVEL) / 2
    if len(best) < 2:
        return Mean(middle, None, None, len(best))
    low = middle - reach(best, tail / len(candidates))
    high = max(fmean(gap) + reach(gap, tail) for gap in candidates)
    return Mean(middle, low, high, len(best))


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
