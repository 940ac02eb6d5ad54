"""Digits, features: a quarter of the pixels, chosen by how strongly a sparse autoencoder holds on to each.

Atashgahi et al., "Quick and Robust Feature Selection: the Strength of Energy-efficient Sparse Training for
Autoencoders", Machine Learning 2022. A network of one hidden layer learns to clean noisy inputs; while SET
moves its weights about, they gather at inputs that say something of the others. What an input is worth is the
sum of its weights' sizes. The metric is how well the nearest neighbour tells the digits by the chosen pixels
alone. Beside it stand the same by the pixels that vary most, and by any.
"""

import torch
from torch import nn
from torch.nn.functional import mse_loss

from suite.patterns.unstructured import Unstructured
from suite.task import task
from suite.workloads.accuracy.digits import PROTOCOL, Digits

CHOSEN = 16  # of 64 pixels
HIDDEN = 200
NOISE = 0.2  # standard deviation, of inputs between 0 and 1
DRAWS = 10  # of random pixels


def patterns(extent, trained):
    """One in all but full studies: an autoencoder learns for long."""
    return list(map(Unstructured, (0.9, 0.8, 0.5, 0.95, 0.98))) if extent == "full" else [Unstructured(0.9)]


@task(
    protocol=f"{PROTOCOL}-nearest-by-{CHOSEN}-pixels",
    metric="accuracy",
    patterns=patterns,
    methods=("random-erk", "random-erk-set", "random-erk-rigl", "random-erk-static", "magnitude-uniform"),
    toy=True,
    ids=("quickselection",),
)
class digits_features(Digits):
    """Handwritten digits told by 16 of 64 pixels, those that an autoencoder of 200 neurons holds on to."""

    steps, rate, decay = 1200, 5e-3, 0.1

    def model(self, width=1.0):
        inputs, hidden = self.learned[0].shape[1], max(1, round(HIDDEN * width))
        return nn.Sequential(nn.Linear(inputs, hidden), nn.Sigmoid(), nn.Linear(hidden, inputs))

    def batches(self, generator):
        for x, _ in super().batches(generator):
            yield x + NOISE * torch.randn(x.shape, generator=generator), x

    def calibration(self):
        return [(x, x) for x, _ in super().calibration()]

    def loss(self, model, batch):
        noisy, x = batch
        return mse_loss(model(noisy), x)

    def apart(self, answers, dense):
        return mse_loss(answers, dense)

    @torch.no_grad()
    def measure(self, model, dense):
        x, _ = self.judged
        mine, theirs = strongest(model), strongest(dense)
        drawn = torch.Generator().manual_seed(0)
        any_ = [self.told(torch.randperm(x.shape[1], generator=drawn)[:CHOSEN]) for _ in range(DRAWS)]
        return {
            "accuracy": self.told(mine),
            "shared with dense": torch.isin(mine, theirs).double().mean().item(),
            "by variance": self.told(self.learned[0].var(0).topk(CHOSEN).indices),
            "by any": sum(any_) / DRAWS,
            "relative error": (mse_loss(model(x), x) / x.var(0).mean()).item(),
        }

    def told(self, pixels):
        """How many are told rightly by the nearest one that was learned from, seen through these pixels."""
        (x, y), (judged, labels) = self.learned, self.judged
        nearest = torch.cdist(judged[:, pixels], x[:, pixels]).argmin(1)
        return (y[nearest] == labels).double().mean().item()


def strongest(model):
    """The inputs of the greatest strength: the sum of the sizes of an input's weights."""
    return model[0].weight.abs().sum(0).topk(CHOSEN).indices
