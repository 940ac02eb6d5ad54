"""Planted: problems whose sparse solution is known, so that finding it can be told from doing as well.

The metric is F1 of the places that hold nonzeros, against the planted ones: 1 is the solution, and a random
mask scores its density.
"""

import torch
from torch.nn.functional import mse_loss

from suite.patterns.unstructured import Unstructured
from suite.studying.quality import recovery
from suite.task import Problem


class Drawn(Problem):
    """Inputs x with outputs y to come near to, in `learned` and `judged`."""

    batch = 64

    def batches(self, generator):
        x, y = self.learned
        while True:
            for some in torch.randperm(len(x), generator=generator).split(self.batch):
                yield x[some], y[some]

    def calibration(self):
        return [self.learned]

    def loss(self, model, batch):
        x, y = batch
        return mse_loss(model(x), y)

    def apart(self, answers, dense):
        return mse_loss(answers, dense)


class Planted(Drawn):
    """Outputs are of the planted solution; where its nonzeros stand: name -> bool[m, k]."""

    def __init__(self, data, learned, judged, places):
        self.data, self.learned, self.judged, self.places = data, learned, judged, places

    @torch.no_grad()
    def measure(self, model, dense):
        x, y = self.judged
        weights = {name: layer.weight for name, layer in self.layers(model).items()}
        error = (model(x) - y).square().sum() / y.square().sum()
        return recovery(weights, self.places) | {"relative error": error.item()}


def at_density(density):
    """The one pattern at which the solution can be found."""
    return lambda extent, trained: [Unstructured(1 - density)]
