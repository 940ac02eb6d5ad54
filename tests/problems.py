"""A problem so small that a test can train it, and that a test can reckon by hand."""

import torch
from torch import nn
from torch.nn.functional import mse_loss

from suite.method import named
from suite.pattern import parse
from suite.studying.layers import Seen
from suite.studying.sparsifier import Sparsifier
from suite.task import Problem

INPUTS, HIDDEN, OUTPUTS = 12, 16, 4
EXAMPLES = 64


class Small(Problem):
    """Two linear layers that learn what a third model says of random inputs."""

    data, steps, rate, decay = "small", 40, 1e-2, 0.0

    def __init__(self, seed=0):
        drawn = torch.Generator().manual_seed(seed)
        mixed = torch.randn(INPUTS, INPUTS, generator=drawn)
        self.x = torch.randn(EXAMPLES, INPUTS, generator=drawn) @ mixed
        self.y = torch.relu(self.x[:, :OUTPUTS]) - self.x[:, -OUTPUTS:]

    def model(self, width=1.0):
        hidden = max(1, round(HIDDEN * width))
        return nn.Sequential(nn.Linear(INPUTS, hidden), nn.ReLU(), nn.Linear(hidden, OUTPUTS))

    def batches(self, generator):
        while True:
            for some in torch.randperm(EXAMPLES, generator=generator).split(16):
                yield self.x[some], self.y[some]

    def calibration(self):
        return [(self.x[:40], self.y[:40]), (self.x[40:], self.y[40:])]

    def loss(self, model, batch):
        x, y = batch
        return mse_loss(model(x), y)

    @torch.no_grad()
    def measure(self, model, dense):
        return {"loss": self.loss(model, (self.x, self.y)).item()}


def sparsifier(method, pattern, problem=None, model=None, seed=0):
    """A sparsifier on a fresh model, before anything has happened."""
    problem = problem or Small()
    torch.manual_seed(seed)
    model = model or problem.model()
    seen = Seen(problem, model, torch.Generator().manual_seed(seed + 1))
    return Sparsifier(problem, model, named(method), parse(pattern), seen)
