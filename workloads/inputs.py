"""Inputs of attention whose structure is known: what real heads are said to look at, planted.

Positions are told by random waves: their products fall off with distance, as a narrow bell. Scores are some
10 where a head looks and about 0 elsewhere, before noise of size 1.
"""

from math import sqrt

import torch

from suite.inputs import inputs

OPS = ("attention", "attention_causal")
STRENGTH = 3.4  # so long are queries and keys that meet: their score is this times itself, d aside


def noise(case, source):
    """Q, K and V standard normal."""
    heads = (case["h"], case["g"], case["g"])
    return tuple(torch.randn(each, case["n"], case["d"], generator=source) for each in heads)


def waves(places, width, d, source):
    """Unit vectors [..., d] of places [..., axes]: products are exp(-(distance / width)^2 / 2), nearly."""
    half = d // 2
    rates = torch.randn(places.shape[-1], half, generator=source) / width
    phases = places @ rates
    return torch.cat((phases.cos(), phases.sin()), -1) / sqrt(half)


def direction(d, source):
    """A random unit vector."""
    return torch.nn.functional.normalize(torch.randn(d, generator=source), dim=0)


def along(case):
    """Places in a sequence, [n, 1]."""
    return torch.arange(case["n"], dtype=torch.float32)[:, None]


def planted(case, source, q_signal, k_signal):
    """Signals [n, d] of size 1, the same for all heads, in noise: half of it in what is looked for."""
    q, k, v = noise(case, source)
    strength = STRENGTH * case["d"] ** 0.25
    return q * 0.5 + strength * q_signal, k * 0.5 + strength * k_signal, v


@inputs(ops=OPS)
def iid(case, source):
    """Nothing to find: Q, K and V standard normal."""
    return noise(case, source)


@inputs(ops=OPS)
def sinks(case, source):
    """The first tokens, and those near by."""
    d, n = case["d"], case["n"]
    near = waves(along(case), 48.0, d, source)
    sink = direction(d, source)
    k = near.clone()
    k[:4] = sink * 1.2
    return planted(case, source, 0.8 * near + 0.6 * sink.expand(n, d), k)


@inputs(ops=OPS)
def lines(case, source):
    """Vertical lines: some tokens that all look at; slashes: tokens a fixed way back."""
    d, n = case["d"], case["n"]
    positions = along(case)
    rates = source.get_state()
    back = torch.tensor([0.0, n * 0.19, n * 0.41])
    q = torch.zeros(n, d)
    for distance in back:
        source.set_state(rates)
        q += waves(positions - distance, 4.0, d, source)
    source.set_state(rates)
    k = waves(positions, 4.0, d, source)
    stripe = direction(d, source)
    k[torch.randperm(n, generator=source)[: max(1, n // 200)]] = stripe
    return planted(case, source, q / sqrt(3) + 0.7 * stripe, k)


@inputs(ops=OPS)
def scattered(case, source):
    """Kinds of tokens anywhere in the sequence; a block of queries looks for those of one kind."""
    n, d, kinds = case["n"], case["d"], 16
    centres = torch.nn.functional.normalize(torch.randn(kinds, d, generator=source), dim=-1)
    wanted = torch.randint(kinds, (n // case["b"],), generator=source).repeat_interleave(case["b"])
    return planted(case, source, centres[wanted], centres[torch.randint(kinds, (n,), generator=source)])


@inputs(ops=OPS)
def video(case, source):
    """Frames of a picture: tokens look at those near by in space and time, and neighbours are alike."""
    n, d = case["n"], case["d"]
    frames = max(1, round(n ** (1 / 3) / 2))
    width = max(1, int(sqrt(n / frames)))
    at = torch.arange(n)
    frame, cell = at // width**2, at % width**2
    places = torch.stack((frame * width / frames, cell // width, cell % width), -1).float()
    near = waves(places, width / 6, d, source)
    q, k, v = planted(case, source, near, near)
    smooth = waves(places, width / 4, d, source) * sqrt(d)
    return q, k, v * 0.3 + smooth


@inputs(ops=OPS)
def documents(case, source):
    """Eight texts one after the other; each looks at itself, and all at what the first one says."""
    n, d = case["n"], case["d"]
    texts = torch.nn.functional.normalize(torch.randn(8, d, generator=source), dim=-1)
    which = torch.arange(n) * 8 // n
    return planted(case, source, texts[which] + 0.4 * texts[0], texts[which])


KINDS = (sinks, lines, scattered, video, documents, iid)


@inputs(ops=OPS)
def heads(case, source):
    """Each group of heads with another of the inputs, in turn."""
    each = case["h"] // case["g"]
    parts = []
    for group in range(case["g"]):
        kind = KINDS[group % len(KINDS)]
        parts.append(kind.draw(case.with_sizes(h=each, g=1), source))
    return tuple(torch.cat(one) for one in zip(*parts, strict=True))
