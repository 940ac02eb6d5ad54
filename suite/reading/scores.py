"""Scores: accuracy against sparsity, from lines: curves of methods, and what each loses to the dense model.

Everything is paired by seed: it draws data, fold and first weights, and a loss is from the dense model of the
same seed. Intervals are Student's t over seeds. Scores of other protocols, of other data, or from dense
models that differ by more than SAME of their value are other curves.

    tolerates   the sparsity at which the mean loss passes a share of the dense value, on a straight line in
                log density between the points on either side
    kept        the highest sparsity at which a test over the seeds shows that no more than that is lost
    knee        where two straight lines fit the curve best, if it sags there: little lost before, much after
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.special import stdtrit

from suite.reading.about import family_of, pattern_of
from suite.reading.crossover import LEAST_DENSITY
from suite.reading.statistics import LEVEL
from suite.reading.tolerated import Tolerated, tolerated
from suite.reading.units import percent
from suite.record import Recorded, Score

SAME = 0.005  # of the dense value: what differs by more was another dense model
ENOUGH = 0.01  # of the dense value: the loss at which sparsities are compared
DENSE = "dense"


class Mean(NamedTuple):
    """A mean over seeds, with its interval where there are several."""

    middle: float
    low: float | None
    high: float | None
    seeds: int = 1


def mean(values: Sequence[float]) -> Mean:
    """Of one value a seed."""
    middle = fmean(values)
    if len(values) < 2:
        return Mean(middle, None, None, len(values))
    off = reach(values, (1 - LEVEL) / 2)
    return Mean(middle, middle - off, middle + off, len(values))


def reach(values: Sequence[float], tail: float) -> float:
    """How far an end of Student's interval is from the mean; the mean lies beyond it with this chance."""
    return float(stdtrit(len(values) - 1, 1 - tail)) * stdev(values) / math.sqrt(len(values))


@dataclass
class Point:
    """A method to a pattern: its scores by seed."""

    pattern: str
    scores: dict[int, Score] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """As counted: the mean over seeds."""
        return round(fmean(one.sparsity for one in self.scores.values()), 9)

    @property
    def asked(self) -> float:
        """As counted; of a budget that is spent at run time, the budget's own.

        How many weights that leaves alone is another share for each method.
        """
        pattern = pattern_of(self.pattern)
        if pattern is None or not pattern.at_run_time:
            return self.sparsity
        return pattern.sparsity_of(1000, 1000)  # of any size

    @cached_property
    def value(self) -> Mean:
        return mean([one.value for one in self.scores.values() if one.value is not None])

    @cached_property
    def loss(self) -> Mean:
        """Of the dense value, the share that is lost; below 0 where it is better than dense."""
        return mean([lost(one) for one in self.scores.values()])

    @property
    def gain(self) -> Mean:
        """Of the dense value, the share that is won."""
        return mean([-lost(one) for one in self.scores.values()])

    def quality(self, name: str) -> Mean | None:
        """Another figure of the same models; None where it was not measured."""
        found = [one.quality[name] for one in self.scores.values() if name in one.quality]
        return mean(found) if found else None


def lost(score: Score) -> float:
    """Of the dense value of its seed, the share that a score is worse by."""
    if score.value is None or not score.dense_value:
        return math.nan
    worse = score.dense_value - score.value if score.better == "higher" else score.value - score.dense_value
    return worse / score.dense_value


@dataclass
class Curve:
    """A method over the sparsities of a pattern."""

    method: str
    line: str  # the pattern without its sparsity
    points: list[Point]

    @property
    def first(self) -> Score:
        return next(iter(self.points[0].scores.values()))

    @property
    def control(self) -> bool:
        return self.first.control

    @property
    def training(self) -> str:
        return self.first.training

    def tolerates(self, share: float = ENOUGH) -> Mean | None:
        """The sparsity at which this share of the dense value is lost; None: at every one measured.

        One that is never lost tolerates the highest measured.
        """
        middle = passed(self.points, [one.loss.middle for one in self.points], share)
        if middle is None:
            return None
        low, high = (
            passed(self.points, [getattr(one.loss, name) for one in self.points], share)
            if all(one.loss.low is not None for one in self.points)
            else None
            for name in ("high", "low")
        )
        return Mean(middle, low, high)

    @property
    def unbroken(self) -> bool:
        """Whether nowhere measured more is lost than is compared at."""
        return all(one.loss.middle <= ENOUGH for one in self.points)

    @cached_property
    def kept(self) -> Tolerated:
        """Up to which sparsity all but ENOUGH of the dense value is kept, by tests over its seeds.

        Points that lack some of the curve's seeds are not tested.
        """
        seeds = max(len(one.scores) for one in self.points)
        able = [one for one in self.points if len(one.scores) == seeds and not math.isnan(one.loss.middle)]
        shares = {one.sparsity: [1 - lost(score) for score in one.scores.values()] for one in able}
        return tolerated([1.0] * seeds, shares, 1 - ENOUGH)

    @cached_property
    def knee(self) -> float | None:
        """The measured sparsity after which zeros cost most more; None where there is none."""
        return knee([one.sparsity for one in self.points], [one.loss.middle for one in self.points])

    @cached_property
    def knees(self) -> list[float | None]:
        """That of each seed which has all points."""
        seeds = set.intersection(*(set(one.scores) for one in self.points))
        at = [one.sparsity for one in self.points]
        return [knee(at, [lost(one.scores[seed]) for one in self.points]) for seed in sorted(seeds)]


def passed(points: Sequence[Point], losses: Sequence[float], share: float) -> float | None:
    """Where losses first pass a share; the last sparsity if they never do, None if they begin beyond."""
    if losses[0] > share:
        return None
    for (before, less), (after, more) in pairwise(zip(points, losses, strict=True)):
        if more > share:
            low, high = (math.log(max(1 - one.sparsity, LEAST_DENSITY)) for one in (before, after))
            return 1 - math.exp(low + (high - low) * (share - less) / (more - less))
    return points[-1].sparsity


def knee(at: Sequence[float], losses: Sequence[float]) -> float | None:
    """The point at which two straight lines, each with two points at least, fit best together.

    None of fewer than four points, and where there is no bend worth the name: where the loss lies under the
    straight line from the first point to the last by no more than what is compared at.
    """
    if len(at) < 4:
        return None
    fits = [
        (misfit(at[: cut + 1], losses[: cut + 1]) + misfit(at[cut:], losses[cut:]), cut)
        for cut in range(1, len(at) - 1)
    ]
    cut = min(fits)[1]
    straight = losses[0] + (losses[-1] - losses[0]) * (at[cut] - at[0]) / (at[-1] - at[0])
    return at[cut] if straight - losses[cut] > ENOUGH else None


def misfit(x: Sequence[float], y: Sequence[float]) -> float:
    """Squared errors of the best straight line."""
    across, up = fmean(x), fmean(y)
    spread = sum((one - across) ** 2 for one in x)
    slope = sum((a - across) * (b - up) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0
    return sum((b - up - slope * (a - across)) ** 2 for a, b in zip(x, y, strict=True))


@dataclass(eq=False)
class Study:
    """Everything that may share a figure: one task, protocol, data and dense model, on one device."""

    device: str
    task: str
    protocol: str
    data: str
    metric: str
    dense: dict[int, Score]
    curves: list[Curve]
    failures: list[Score]

    @property
    def any(self) -> Score:
        return next(iter(self.dense.values()), None) or self.curves[0].first

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len({seed for one in self.curves for point in one.points for seed in point.scores})

    @cached_property
    def dense_value(self) -> Mean:
        values = {
            seed: one.dense_value
            for curve in self.curves
            for point in curve.points
            for seed, one in point.scores.items()
            if one.dense_value is not None
        } | {seed: one.value for seed, one in self.dense.items() if one.value is not None}
        return mean(list(values.values()))


def studies(recorded: Iterable[Recorded]) -> list[Study]:
    """Every task that was studied, in the order of the lines."""
    groups: dict[tuple, list[Score]] = defaultdict(list)
    known: dict[tuple, list[dict[int, float]]] = defaultdict(list)
    failed: dict[tuple, list[Score]] = defaultdict(list)
    for one in recorded:
        dense: dict[tuple, dict[int, float]] = defaultdict(dict)
        for score in one.scores:
            if score.dense_value is not None and score.outcome == "ok":
                dense[about(score)][score.seed] = score.dense_value
        variants = {key: variant(known[key], values) for key, values in dense.items()}
        for score in one.scores:
            if score.outcome == "ok" and score.value is not None and score.dense_value is not None:
                groups[*about(score), variants.get(about(score), 0)].append(score)
            else:
                failed[score.device, score.task, score.protocol].append(score)
    made = []
    for (device, task, protocol, data, metric, _), scores in groups.items():
        lines = failed.pop((device, task, protocol), [])
        made.append(study(device, task, protocol, data, metric, scores, lines))
    return made


def about(score: Score) -> tuple[str, str, str, str, str]:
    """What scores must share to be on one curve."""
    return score.device, score.task, score.protocol, score.data, score.metric


def variant(known: list[dict[int, float]], values: Mapping[int, float]) -> int:
    """The number of the dense models that these agree with; a new one if with none."""
    for at, there in enumerate(known):
        if all(
            abs(there[seed] - value) <= SAME * abs(value) for seed, value in values.items() if seed in there
        ):
            there.update(values)
            return at
    known.append(dict(values))
    return len(known) - 1


def study(
    device: str, task: str, protocol: str, data: str, metric: str, scores: Sequence[Score], lines: list[Score]
) -> Study:
    """Its scores by method and pattern; a model measured again counts as it was measured last."""
    found: dict[tuple[str, str], dict[str, Point]] = defaultdict(dict)
    dense = {one.seed: one for one in sorted(scores, key=lambda one: not one.imported) if one.method == DENSE}
    for one in scores:
        if one.method != DENSE:
            points = found[called(one), line_of(one.pattern)]
            points.setdefault(one.pattern, Point(one.pattern)).scores[one.seed] = one
    curves = [
        Curve(method, line, sorted(points.values(), key=lambda point: point.sparsity))
        for (method, line), points in found.items()
    ]
    return Study(device, task, protocol, data, metric, dense, curves, lines)


def called(score: Score) -> str:
    """The method of a score. One that was imported is another, whatever its name."""
    return f"{score.method} (imported)" if score.imported else score.method


def named(study: Study, among: Sequence[Study]) -> str:
    """The task, and a number where several are of that task."""
    same = [one for one in among if one.task == study.task]
    return study.task if len(same) == 1 else f"{study.task}-{same.index(study) + 1}"


def line_of(pattern: str) -> str:
    """A pattern without its sparsity: "unstructured", "block4x4", "N:M"."""
    return pattern.partition("@")[0] if "@" in pattern else family_of(pattern)


def beaten(curve: Curve, control: Curve) -> list[tuple[Point, bool | None]]:
    """(point, whether it loses less than the control) where both were measured; None: one cannot say."""
    return [(point, clear(won)) for point, won in gaps(curve, control)]


def gaps(curve: Curve, other: Curve) -> list[tuple[Point, dict[int, float]]]:
    """(point, what it loses less than the other) where both were measured."""
    there = {one.pattern: one for one in other.points}
    return [(point, less(point, there[point.pattern])) for point in curve.points if point.pattern in there]


def less(point: Point, other: Point) -> dict[int, float]:
    """What it loses less of the dense value than another one, by the seeds that both have."""
    return {
        seed: lost(other.scores[seed]) - lost(score)
        for seed, score in sorted(point.scores.items())
        if seed in other.scores
    }


def clear(won: Mapping[int, float]) -> bool | None:
    """Whether what is won by seed is clearly above 0, or below; None where it cannot be told."""
    return sign(mean(list(won.values()))) if won else None


def sign(gap: Mean) -> bool | None:
    """Whether a difference is clearly above 0, or clearly below; None where its interval holds 0."""
    if gap.low is None or gap.high is None:
        return None
    return True if gap.low > 0 else False if gap.high < 0 else None


def told(tolerated: Mean | None, curve: Curve) -> str:
    """A tolerated sparsity in words: "82 % (74-88)", "95 % or more", "below 50 %"."""
    if tolerated is None:
        return f"below {percent(curve.points[0].sparsity, 0)} %"
    if curve.unbroken:
        return f"{percent(tolerated.middle, 0)} % or more"
    if tolerated.low is None or tolerated.high is None:
        return f"{percent(tolerated.middle, 0)} %"
    return f"{percent(tolerated.middle, 0)} % ({percent(tolerated.low, 0)}-{percent(tolerated.high, 0)})"
