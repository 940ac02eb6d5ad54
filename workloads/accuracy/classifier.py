"""Classifier: a problem whose answers are classes, on data that fit into memory."""

import hashlib

import torch
from torch.nn.functional import cross_entropy

from suite.studying.quality import accuracy, classified
from suite.task import Problem

CALIBRATED = 512  # training examples that criteria see
PART = 64  # of them in a batch, so that a search can begin with a few
AT_ONCE = 1000  # judged, for the sake of memory
NOISE = 0.25  # standard deviation, of inputs between 0 and 1


class Classifier(Problem):
    """Inputs x and labels y, those to learn from and those to be judged on."""

    batch = 64

    def __init__(self, data, learned, judged, seed):
        self.data, self.learned, self.judged = data, learned, judged
        source = torch.Generator().manual_seed(seed)
        x, _ = judged
        self.noisy = x + NOISE * torch.randn(x.shape, generator=source)
        self._answers = None, None  # of the dense model, which every method is held against

    def batches(self, generator):
        x, y = self.learned
        while True:
            for some in torch.randperm(len(x), generator=generator).split(self.batch):
                yield x[some], y[some]

    def calibration(self):
        parts = [one[:CALIBRATED].split(PART) for one in self.learned]
        return list(zip(*parts, strict=True))

    def loss(self, model, batch):
        x, y = batch
        return cross_entropy(model(x), y)

    @torch.no_grad()
    def measure(self, model, dense):
        x, y = self.judged
        if self._answers[0] is not dense:
            self._answers = dense, said(dense, x)
        return classified(said(model, x), self._answers[1], y) | {
            "noisy accuracy": accuracy(said(model, self.noisy), y)
        }


def said(model, x):
    """What a model says of many inputs."""
    return torch.cat([model(some) for some in x.split(AT_ONCE)])


def fingerprint(name, *arrays):
    """A name for data, and a hash of what they are."""
    made = hashlib.sha256()
    for one in arrays:
        made.update(one.numpy().tobytes())
    return f"{name}-{made.hexdigest()[:8]}"
