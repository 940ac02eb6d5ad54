"""Inputs of decode whose structure is known: what heads are said to look for in a cache, planted.

Scores are some 10 where a head looks and about 0 elsewhere, before noise of size 1. Without data, keys,
values and queries are standard normal, and nothing is worth looking for.
"""

import torch

from suite.inputs import inputs
from suite.workloads.inputs import STRENGTH, direction, waves

OPS = ("decode", "decode_offload", "decode_pruned")
SINKS, NEEDLES = 4, 8  # tokens
HEAVY = 16  # one channel of so many
SWELL = 3.5  # by which heavy channels of keys and queries exceed others


def noise(case, source):
    """K, V and q standard normal."""
    n, h, g, t, d = (case[size] for size in "nhgtd")
    k, v = (torch.randn(n, g, t, d, generator=source) for _ in "kv")
    return k, v, torch.randn(n, h, d, generator=source)


def planted(case, source, k_signal, q_signal):
    """Signals [t, d] and [d] of size 1, the same for all heads, in noise of half the size."""
    k, v, q = noise(case, source)
    strength = STRENGTH * case["d"] ** 0.25
    return k.mul_(0.5).add_(strength * k_signal), v, q.mul_(0.5).add_(strength * q_signal)


@inputs(ops=OPS)
def recency(case, source):
    """The first tokens of a text, and its last ones."""
    t, d = case["t"], case["d"]
    near = waves(torch.arange(t + 1, dtype=torch.float32)[:, None], 48.0, d, source)
    sink = direction(d, source)
    k = near[:t].clone()
    k[:SINKS] = sink * 1.2
    return planted(case, source, k, 0.8 * near[t] + 0.6 * sink)


@inputs(ops=OPS)
def needles(case, source):
    """A few tokens, anywhere, which answer what is asked."""
    t, d = case["t"], case["d"]
    asked = direction(d, source)
    k = torch.zeros(t, d)
    k[torch.randperm(t, generator=source)[:NEEDLES]] = asked
    return planted(case, source, k, asked)


@inputs(ops=OPS)
def channels(case, source):
    """A few channels of the keys carry most of each score. Which ones, the head decides, not the text."""
    k, v, q = noise(case, source)
    heads = case["h"] // case["g"]
    for group in range(case["g"]):
        heavy = heavy_channels(case, group)
        k[:, group, :, heavy] *= SWELL
        q[:, group * heads : (group + 1) * heads, heavy] *= SWELL
    return k, v, q


def heavy_channels(case, group):
    """Of a group, whatever the seed of the case."""
    order = torch.randperm(case["d"], generator=torch.Generator().manual_seed(group))
    return order[: max(1, case["d"] // HEAVY)]


KINDS = (recency, needles, channels)


@inputs(ops=OPS)
def blend(case, source):
    """Each group of heads with another of the inputs, in turn."""
    n, t, d = case["n"], case["t"], case["d"]
    heads, groups = case["h"] // case["g"], case["g"]
    k, v = (torch.empty(n, groups, t, d) for _ in "kv")
    q = torch.empty(n, groups * heads, d)
    for group in range(groups):
        drawn = KINDS[group % len(KINDS)].draw(case.with_sizes(h=heads, g=1), source)
        k[:, group : group + 1], v[:, group : group + 1], q[:, group * heads : (group + 1) * heads] = drawn
    return k, v, q
