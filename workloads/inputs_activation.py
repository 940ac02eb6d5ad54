"""Inputs of sparse activations whose structure is known: what neurons are said to do, planted.

What a neuron is like (how large its weights are, how often it fires, which directions it shares with others)
does not change with the seed of a case, so that a rule may learn it from other tokens. Tokens are independent
of each other. Half the energy of the weights is in a few directions, the rest in none.
"""

from math import sqrt

import torch
from torch.nn.functional import relu, silu

from suite.inputs import inputs

OPS = ("actmm", "actmm_up")
UNEVEN = 0.5  # standard deviation of the logarithm of what a neuron's weights are
RANK, SHARED = 32, 0.5  # directions that neurons share, and how much of the energy of weights is in them
OUTLIERS, FACTOR = 256, 20.0  # one channel of so many is so much larger
SILENT, UNLIKE = 1.5, 0.7  # a neuron with ReLU fires one time in nine, a popular one every other
LEAST = -1.28  # where SiLU is lowest, and flat


def layer(case, source, activate):
    """w, x and, up, g. activate(neurons, tokens, same, source): activations; `same` is of no case's seed."""
    m, k, n = (case[size] for size in "mkn")
    same = torch.Generator().manual_seed(0)
    neurons, others = (k, m) if case.op == "actmm" else (m, k)
    size = (UNEVEN * torch.randn(neurons, 1, generator=same)).exp()
    own, common = (torch.randn(count, RANK, generator=same) for count in (neurons, others))
    w = torch.randn(neurons, others, generator=source).mul_(sqrt(1 - SHARED))
    w.addmm_(own, common.t(), alpha=sqrt(SHARED / RANK)).mul_(size)
    found = activate(neurons, n, same, source)
    if case.op == "actmm":
        return w.t().contiguous(), found
    return w, torch.randn(k, n, generator=source), found


def normal(neurons, tokens, source):
    return torch.randn(neurons, tokens, generator=source)


@inputs(ops=OPS)
def hidden(case, source):
    """Hidden states: normal, channels of unlike size, and a few of them far larger."""

    def activate(neurons, tokens, same, source):
        size = (0.3 * torch.randn(neurons, generator=same)).exp()
        size[torch.randperm(neurons, generator=same)[: neurons // OUTLIERS]] *= FACTOR
        return normal(neurons, tokens, source) * size[:, None]

    return layer(case, source, activate)


@inputs(ops=OPS)
def laplace(case, source):
    """Laplace's distribution, as hidden states inside a block have it: a sharp peak at 0 and long tails."""

    def activate(neurons, tokens, same, source):
        spread = torch.rand(neurons, tokens, generator=source).log().neg()
        return spread.copysign(normal(neurons, tokens, source))

    return layer(case, source, activate)


@inputs(ops=OPS)
def swiglu(case, source):
    """SiLU of a gate, some neurons' mostly closed; times a second product, where it is the input of down."""

    def activate(neurons, tokens, same, source):
        gate = silu(normal(neurons, tokens, source) + 0.8 * torch.randn(neurons, 1, generator=same) - 0.5)
        return gate * normal(neurons, tokens, source) if case.op == "actmm" else gate

    return layer(case, source, activate)


def fired(neurons, tokens, same, source):
    """ReLU: a neuron fires above a level of its own, a few for most tokens and most for hardly any."""
    level = SILENT + UNLIKE * torch.randn(neurons, 1, generator=same)
    return relu(normal(neurons, tokens, source) - level)


@inputs(ops=OPS)
def relus(case, source):
    """ReLU: nine tenths are exactly 0, and neurons fire as unevenly as they do in models."""
    return layer(case, source, fired)


@inputs(ops=OPS)
def squares(case, source):
    """Squared ReLU: as many zeros, and of the others fewer matter."""
    return layer(case, source, lambda *about: fired(*about).square())


@inputs(ops=OPS)
def shifted(case, source):
    """SiLU without a gate, mostly negative: activations crowd around its lowest value, which is not 0."""
    return layer(
        case, source, lambda neurons, tokens, same, source: silu(normal(neurons, tokens, source) + LEAST)
    )
