"""Spared: the share of neurons that a model cannot spare, against how long it was trained: a fitted law.

    active = a * examples ^ exponent

Active are the neurons that are left where perplexity has risen by what the task allows ("neurons spared").
The exponent is fitted seed by seed, so that its interval is over seeds; below 0, longer training leaves fewer
neurons active. After Luo et al., "Sparsing Law: Towards Large Language Models with Greater Activation
Sparsity", 2024, whose curves fall with data for ReLU and rise for SiLU. Theirs level off; three lengths
of training cannot tell.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression

from suite.reading.scores import Mean, Study, mean, sign

SPARED = "neurons spared"
LEAST = 3  # lengths of training


@dataclass(frozen=True)
class Law:
    """Of models of one kind. active: (examples of a training, share of neurons), each the mean over seeds.

    residual: the largest of them over what the mean of the fits says, less 1.
    """

    kind: str
    active: Sequence[tuple[float, float]]
    exponent: Mean
    residual: float

    def __str__(self) -> str:
        rises = sign(self.exponent)
        if rises is None:
            return "no interval excludes chance"
        return f"longer training leaves {'more' if rises else 'fewer'} active"


def laws(study: Study) -> list[Law]:
    """Of each kind of model (its transform) trained for several lengths, at the seeds that have all."""
    found: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for curve in study.curves:
        for point in curve.points:
            for seed, one in point.scores.items():
                spared = one.quality.get(SPARED)
                if one.transform and one.train_tokens and spared is not None and spared < 1:
                    found[one.transform][seed][one.train_tokens] = 1 - spared
    made = []
    for kind, seeds in found.items():
        most = max(len(one) for one in seeds.values())
        if most >= LEAST:
            made.append(law(kind, [sorted(one.items()) for one in seeds.values() if len(one) == most]))
    return made


def law(kind: str, seeds: Sequence[Sequence[tuple[int, float]]]) -> Law:
    """The fit. seeds: of each (examples, share of active neurons), the shortest training first."""
    logs = [[(math.log(n), math.log(share)) for n, share in one] for one in seeds]
    fits = [linear_regression(*zip(*one, strict=True)) for one in logs]
    slope, height = fmean(one.slope for one in fits), fmean(one.intercept for one in fits)
    pairs = [zip(*same, strict=True) for same in zip(*seeds, strict=True)]
    active = [(fmean(examples), fmean(shares)) for examples, shares in pairs]
    residuals = (share / math.exp(height + slope * math.log(n)) - 1 for n, share in active)
    return Law(kind, active, mean([one.slope for one in fits]), max(residuals, key=abs))
