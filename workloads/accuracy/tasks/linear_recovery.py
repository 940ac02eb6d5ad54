"""Linear recovery: few inputs matter to each output; least squares finds all, pruning is to tell which.

Inputs differ in size and move together, as those of real layers do. So the size of a weight says little, and
that of its inputs not enough.
"""

import torch
from torch import nn

from suite.kernel import Refused
from suite.patterns.unstructured import Unstructured
from suite.studying.masks import best
from suite.task import task
from suite.workloads.accuracy.planted import Planted, at_density

OUTPUTS, INPUTS = 16, 64
DENSITY = 0.2
EXAMPLES = 192
FACTORS = 16  # that inputs have in common
NOISE = 1.0  # standard deviation, of outputs of about 3.6


@task(protocol="weights-drawn-by-seed", metric="f1", patterns=at_density(DENSITY), toy=True)
class linear_recovery(Planted):
    """One linear layer with a known fifth of its weights, fitted by least squares to noisy outputs."""

    steps, rate = 300, 2e-2

    def __init__(self, seed):
        drawn = torch.Generator().manual_seed(seed)
        shared = torch.randn(2 * EXAMPLES, FACTORS, generator=drawn)
        loadings = torch.randn(FACTORS, INPUTS, generator=drawn) / FACTORS**0.5
        sizes = 10 ** (torch.rand(INPUTS, generator=drawn) - 0.5)
        x = sizes * (shared @ loadings + 0.7 * torch.randn(2 * EXAMPLES, INPUTS, generator=drawn))
        kept = best(Unstructured(1 - DENSITY), torch.rand(OUTPUTS, INPUTS, generator=drawn))
        signs = torch.rand(OUTPUTS, INPUTS, generator=drawn).sub(0.5).sign()
        weight = kept * signs * (0.5 + torch.rand(OUTPUTS, INPUTS, generator=drawn)) / sizes
        clean = x @ weight.mT
        y = clean[:EXAMPLES] + NOISE * torch.randn(EXAMPLES, OUTPUTS, generator=drawn)
        learned, judged = (x[:EXAMPLES], y), (x[EXAMPLES:], clean[EXAMPLES:])
        super().__init__("linear-drawn", learned, judged, {"0": kept})

    def model(self, width=1.0):
        if width != 1:
            raise Refused("one linear layer has no width of its own")
        return nn.Sequential(nn.Linear(INPUTS, OUTPUTS, bias=False))

    def dense(self):
        """The least-squares fit."""
        x, y = self.learned
        model = self.model()
        with torch.no_grad():
            model[0].weight.copy_(torch.linalg.lstsq(x, y).solution.mT)
        return model
