"""Scaling: a law of the loss over sparsity, nonzeros and data, fitted to models of a study, and how it holds.

    loss = (a (1 - S)^b + c) N^-n + (d / D)^m + e

S is the share of zeros, N the nonzeros, D the examples trained on. Frantar et al., "Scaling Laws for
Sparsely-Connected Foundation Models", ICLR 2024. At S = 0 it is the law of dense models, (a + c) N^-n + ...;
where all models saw as many examples the term of data is a part of e, and cannot be told from it.

A law is fitted to the means over seeds, to the logarithm of the loss, from many starts; a few models that it
has not seen say how far to trust it, beside a law without sparsity and the nearest model.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from suite.reading import units
from suite.reading.scores import DENSE, Curve, Study, line_of
from suite.record import Score

STARTS, PATIENCE = 12, 100  # fits, and the steps each may take
HELD_OUT = 4  # one model in so many
LEAST_SPARSITIES, LEAST_SIZES = 3, 3
SMALLEST = math.exp(-25)  # of a coefficient: as good as none
FLATTEST, STEEPEST = 0.05, 10.0  # of an exponent
LARGEST = 600.0  # of a logarithm, so that what it is of is a number
NARROW = 1e-6  # from a bound, where no fit may begin
EXAMPLES_APART = 1.05  # times as many, or they are the same


class Run(NamedTuple):
    """A model, as the law sees it. flops: of its training."""

    sparsity: float
    nonzeros: float
    examples: float
    loss: float
    flops: float = math.nan


@dataclass(frozen=True)
class Law:
    """The coefficients; d is 0 where data did not differ, a where sparsity is left out."""

    a: float
    b: float
    c: float
    n: float
    d: float
    m: float
    e: float

    def __str__(self) -> str:
        """With two digits."""
        sparse = f"({self.a:.2g} (1 - S)^{self.b:.2g} + {self.c:.2g})" if self.a else f"{self.c:.2g}"
        data = f" + ({self.d:.2g} / D)^{self.m:.2g}" if self.d else ""
        return f"{sparse} N^-{self.n:.2g}{data} + {self.e:.2g}"

    def __call__(self, sparsity: float, nonzeros: float, examples: float) -> float:
        """The loss it foretells."""
        size = (self.a * (1 - sparsity) ** self.b + self.c) * nonzeros**-self.n
        return size + (self.d / examples) ** self.m + self.e


def fit(runs: Sequence[Run], sparse: bool = True) -> Law:
    """The law nearest to these runs. sparse: whether it knows of sparsity; a dense law does not."""
    sparsity, *sizes, _ = (np.array(column, float) for column in zip(*runs, strict=True))
    typical = [float(np.exp(np.log(one).mean())) for one in sizes]  # in which all is near 1
    nonzeros, examples, loss = (one / unit for one, unit in zip(sizes, typical, strict=True))
    data = bool(examples.max() > EXAMPLES_APART * examples.min())
    free = np.array([sparse, sparse, True, True, data, data, True])

    def told(logs: np.ndarray) -> np.ndarray:
        whole = np.full(len(free), math.log(SMALLEST))
        whole[free] = logs
        return np.exp(whole)

    def off(logs: np.ndarray) -> np.ndarray:
        a, b, c, n, d, m, e = told(logs)
        foretold = (a * (1 - sparsity) ** b + c) * nonzeros**-n + d * examples**-m * data + e
        return np.log(foretold) - np.log(loss)

    exponent = np.array([False, True, False, True, False, True, False])
    low = np.log(np.where(exponent, FLATTEST, SMALLEST))[free]
    high = np.log(np.where(exponent, STEEPEST, 1 / SMALLEST))[free]
    drawn = np.random.default_rng(0)
    fits = []
    for start in range(STARTS):
        begin = math.log(0.3) + drawn.normal(0, 1.5 * (start > 0), len(free))
        within = np.clip(begin[free], low + NARROW, high - NARROW)
        fits.append(least_squares(off, within, bounds=(low, high), loss="soft_l1", max_nfev=PATIENCE))
    a, b, c, n, d, m, e = told(min(fits, key=lambda one: one.cost).x).tolist()
    size, amount, unit = typical
    scale = unit * size**n
    known = amount * math.exp(min(LARGEST, (math.log(d) + math.log(unit)) / m)) if data else 0.0
    return Law(a * scale if sparse else 0.0, b, c * scale, n, known, m if data else 1.0, e * unit)


def errors(foretold: Iterable[float], runs: Sequence[Run]) -> list[float]:
    """How far each is off, as a share of the loss."""
    return [abs(one / run.loss - 1) for one, run in zip(foretold, runs, strict=True)]


def nearest(run: Run, among: Sequence[Run]) -> Run:
    """The most alike in density, size and data, by their logarithms."""

    def apart(other: Run) -> float:
        pairs = (
            (1 - run.sparsity, 1 - other.sparsity),
            (run.nonzeros, other.nonzeros),
            (run.examples, other.examples),
        )
        return sum(math.log(max(one, SMALLEST) / max(its, SMALLEST)) ** 2 for one, its in pairs)

    return min(among, key=apart)


def optimal(law: Law, runs: Sequence[Run], nonzeros: float, flops: float) -> float:
    """The sparsity, of those tried, of least loss at so many nonzeros and FLOPs of training.

    What an example takes for each nonzero is what it took in these runs: a sparser model is larger before it
    is pruned, and sees fewer examples for as many FLOPs.
    """
    took: dict[float, list[float]] = defaultdict(list)
    for run in runs:
        took[round(run.sparsity, 3)].append(run.flops / run.examples / run.nonzeros)
    losses = {at: law(at, nonzeros, flops / (fmean(each) * nonzeros)) for at, each in took.items()}
    return min(losses, key=losses.__getitem__)


@dataclass(frozen=True)
class Fitted:
    """A method's law on a task.

    off: the median error of what it was fitted to; held_out: of runs that a law fitted to the others has not
    seen, and beside it that of a law without sparsity and of the nearest run.
    budgets: the least and the most FLOPs of a training; optima: the sparsities of least loss at these, for
    the typical number of nonzeros. None: all saw as many examples.
    """

    method: str
    runs: int
    law: Law
    off: float
    held_out: float
    dense_law: float
    nearest_run: float
    budgets: tuple[float, float] | None
    optima: tuple[float, float] | None

    @property
    def holds(self) -> bool:
        """Whether it foretells better than what knows less: a law without sparsity, and the nearest run."""
        return self.held_out < min(self.dense_law, self.nearest_run)

    @property
    def best(self) -> str:
        """In words, the best sparsity at both budgets."""
        if not self.holds:
            return "not told: the law foretells no better than what knows less"
        if self.budgets is None or self.optima is None:
            return "not known: all were trained on as much"
        said = [
            f"{units.percent(at)} % at {units.amount(of)}FLOPs"
            for at, of in zip(self.optima, self.budgets, strict=True)
        ]
        rises = (
            "it rises with" if self.optima[0] < self.optima[1] else "not reproduced: it does not rise with"
        )
        return f"{', '.join(said)}: {rises} the budget"


def fitted(study: Study) -> list[Fitted]:
    """A law for each method that prunes while a fresh model is trained, with the dense models beside it."""
    dense = [*runs_of(study.dense.values()), *(run for one in study.curves for run in small(one))]
    made = []
    for method, curves in families(study).items():
        runs = [*dense, *(run for one in curves for run in of_curve(one))]
        if enough(runs):
            made.append(tried(method, runs))
    return made


def families(study: Study) -> dict[str, list[Curve]]:
    """Method -> its curves, one for each length of its training, which is told behind a "_"."""
    made: dict[str, list[Curve]] = defaultdict(list)
    for one in study.curves:
        first = one.first
        fresh = first.start == "fresh" and first.training == "weights" and not first.transform
        if fresh and not one.control and one.line == "unstructured" and first.execution != DENSE:
            stem = (first.trainer or "").partition("_")[0]
            made["-".join(part for part in (first.criterion, first.allocator, stem) if part)].append(one)
    return made


def small(curve: Curve) -> list[Run]:
    """Of smaller dense models, trained from the beginning."""
    first = curve.first
    dense = first.execution == DENSE and first.transform and first.training == "weights"
    return of_curve(curve) if dense else []


def of_curve(curve: Curve) -> list[Run]:
    return [run for point in curve.points for run in runs_of(point.scores.values())]


def runs_of(scores: Iterable[Score]) -> list[Run]:
    """One run, the mean over seeds; none where the ledger or the loss is not known."""
    found = []
    for one in scores:
        loss = one.value if one.better == "lower" else one.quality.get("cross entropy")
        dense = one.execution == DENSE or line_of(one.pattern) == DENSE
        if loss and loss > 0 and one.nonzeros and one.train_tokens and one.train_flops:
            sparsity = 0.0 if dense else one.sparsity
            found.append((sparsity, one.nonzeros, one.train_tokens, loss, one.train_flops))
    return [Run(*(fmean(column) for column in zip(*found, strict=True)))] if found else []


def enough(runs: Sequence[Run]) -> bool:
    """Whether there is a law to be fitted."""
    sparsities, sizes = {round(one.sparsity, 3) for one in runs}, {round(one.nonzeros) for one in runs}
    return len(sparsities) >= LEAST_SPARSITIES and len(sizes) >= LEAST_SIZES and len(runs) >= 10


def tried(method: str, runs: Sequence[Run]) -> Fitted:
    """The law, and what it says of the runs that it did not see."""
    ordered = sorted(runs)
    out, seen = ordered[2::HELD_OUT], [run for at, run in enumerate(ordered) if at % HELD_OUT != 2]
    law, sparse, dense = fit(runs), fit(seen), fit(seen, sparse=False)
    examples = [run.examples for run in runs]
    budgets = optima = None
    if max(examples) > EXAMPLES_APART * min(examples):
        size = math.exp(fmean(math.log(run.nonzeros) for run in runs))
        budgets = min(run.flops for run in runs), max(run.flops for run in runs)
        optima = optimal(law, runs, size, budgets[0]), optimal(law, runs, size, budgets[1])
    return Fitted(
        method,
        len(runs),
        law,
        median(errors((law(*run[:3]) for run in runs), runs)),
        median(errors((sparse(*run[:3]) for run in out), out)),
        median(errors((dense(*run[:3]) for run in out), out)),
        median(errors((nearest(run, seen).loss for run in out), out)),
        budgets,
        optima,
    )
