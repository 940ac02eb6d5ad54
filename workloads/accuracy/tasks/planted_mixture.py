"""Planted mixture: tokens of eight topics, each answered by a map of its own: how well experts divide them.

As many experts as there are topics could answer all, one each; a dense layer of as many neurons as a token
asks has room for few of them. Which token is of which topic is not told. Its place in a window says nothing.
"""

import torch
from torch import nn

from suite.patterns.chosen import Chosen
from suite.task import task
from suite.workloads.accuracy.feed import Feed, routed
from suite.workloads.accuracy.planted import Drawn

TOPICS, WIDTH, HIDDEN = 8, 16, 32
WINDOW, WINDOWS = 8, 512
APART, NOISE = 1.0, 0.7  # standard deviations: of the middles of topics, and of tokens around them


class Layer(nn.Module):
    """A feed-forward layer on the tokens of flat windows, as a model of one block."""

    def __init__(self, hidden):
        super().__init__()
        self.feed = Feed(WIDTH, hidden)
        self.blocks = [self]

    def forward(self, x):
        return self.feed(x.unflatten(-1, (WINDOW, WIDTH)))


def patterns(extent, trained):
    """Of experts alone."""
    return [*map(Chosen, (0.75, 0.5, 0.875))] if extent == "full" else []


@task(
    protocol="topics-drawn-by-seed",
    metric="explained",
    patterns=patterns,
    methods=("plain-*", "balanced-*", "swapped-*", "swapped_at_random-*"),
    toy=True,
)
class planted_mixture(Drawn):
    """A layer whose tokens are of eight topics; the metric is the share of answers' variance explained."""

    data, steps, rate = "topics-drawn", 300, 1e-2

    def __init__(self, seed):
        drawn = torch.Generator().manual_seed(seed)
        middles = APART * torch.randn(TOPICS, WIDTH, generator=drawn)
        maps = torch.randn(TOPICS, WIDTH, WIDTH, generator=drawn) / WIDTH**0.5
        topics = torch.randint(TOPICS, (2 * WINDOWS, WINDOW), generator=drawn)
        x = middles[topics] + NOISE * torch.randn(*topics.shape, WIDTH, generator=drawn)
        y = torch.einsum("nwd,nwde->nwe", x, maps[topics])
        self.learned, self.judged = zip(x.flatten(1).split(WINDOWS), y.split(WINDOWS), strict=True)

    def model(self, width=1.0):
        return Layer(max(1, round(HIDDEN * width)))

    def calibration(self):
        return [*zip(*(one.split(self.batch) for one in self.learned), strict=True)]

    @torch.no_grad()
    def measure(self, model, dense):
        _, y = self.judged
        unexplained = self.loss(model, self.judged) / y.var(correction=0)
        return {"explained": 1 - unexplained.item()} | routed(model)
