"""Transformer: a block of a large language model around causal attention, or around decoding over a cache.

Root-mean-square norm, queries, keys and values in one product, rotation, attention, projection, norm and a
gated feed-forward layer, with two ways round, as in Touvron et al., "LLaMA: Open and Efficient Foundation
Language Models", 2023: as wide as all heads together, the inner layer 8/3 of that. Eager torch runs it.

Made-up weights would give attention nothing to look for. So what it looks at are the case's own queries, keys
and values, copied over those that were projected: it finds them in the same caches, and a selector chooses as
it does without the block. The copy is in every call, a dense one's too.
"""

from math import sqrt

import torch
from torch.nn.functional import rms_norm, silu

from suite.check import Wrong
from suite.layer import Layer
from suite.op import OPS, generator
from suite.rounding import ROUNDING
from suite.workloads.accuracy.decoder import rotations, turned

EPSILON = 1e-5
SAMPLED = 8  # one token in so many is checked: all that is not attention goes token by token
ROUNDINGS = 10  # that a number goes through from attention to the answer


def block(asked):
    """The block around a case: of a prompt, or of one token of each sequence, after those in the cache."""
    case, decode = asked.case, "t" in asked.case.extent
    h, g, n, d = (case[size] for size in "hgnd")
    wide, inner = h * d, -(-8 * h * d // 3 // 64) * 64
    live = [asked.operands[at] for at in OPS[case.op].live]
    device, source = live[0].device, generator(case, 3)

    def drawn(*shape, size=1.0):
        return case.cast(torch.randn(*shape, generator=source) * size).to(device)

    loudness = float(asked.whole.expected.square().mean().sqrt())  # so that attention has a say in the sum
    x, first, second = drawn(n, wide), 1 + drawn(wide, size=0.1), 1 + drawn(wide, size=0.1)
    enter, *leave = (
        drawn(wide, (h + 2 * g) * d, size=1 / sqrt(wide)),
        drawn(wide, wide, size=1 / sqrt(wide) / loudness),
        drawn(wide, 2 * inner, size=1 / sqrt(wide)),
        drawn(inner, wide, size=2 / sqrt(inner)),
    )
    places = torch.full((n,), case["t"]) if decode else torch.arange(n)
    exact_turns = [one[:, None] for one in rotations(places, d)]  # alike for all heads
    turns = tuple(case.cast(one).to(device) for one in exact_turns)
    given, theirs = [one.clone() for one in live], [torch.empty_like(one) for one in live]
    new = [x.new_empty(n, g, d) for _ in "kv"] if decode else []  # what the cache would be given
    into = [*theirs, *new] if decode else [one.transpose(0, 1) for one in theirs]

    def run(attend):
        projected(x, first, enter, turns, into)
        for mine, one in zip(theirs, given, strict=True):
            mine.copy_(one)
        attended = attend(*theirs)
        return finished(x, attended if decode else attended.transpose(0, 1), second, *leave)

    def check(answer, attended):
        some = slice(None, None, SAMPLED)
        projected(x, first, enter, turns, into)
        exact = [torch.empty(one[some].shape, dtype=torch.float64) for one in into]
        projected(*wider(x[some], first, enter), [one[some].double() for one in exact_turns], exact)
        parts = zip(into, exact, "qkv", strict=True)
        errors = [apart(mine[some], one, f"{name} of some token") for mine, one, name in parts]
        attended = attended if decode else attended.transpose(0, 1)
        exact_answer = finished(*wider(x[some], attended[some], second, *leave))
        return max(*errors, apart(answer[some], exact_answer, "the answer of some token"))

    flops = 2 * n * sum(one.numel() for one in (enter, *leave))
    return Layer(run, check, flops, (x, first, second, enter, *leave, *turns, *given, *theirs, *new))


def wider(*numbers):
    """As float64, on the host."""
    return [one.to("cpu", torch.float64) for one in numbers]


def projected(x, norm, weight, turns, into):
    """Queries, keys and values [n, heads, d] of x [n, wide], the first two turned."""
    y = rms_norm(x, x.shape[-1:], norm, EPSILON) @ weight
    parts = y.split([one.shape[1] * one.shape[2] for one in into], -1)
    for part, one, turning in zip(parts, into, (True, True, False), strict=True):
        part = part.view(one.shape)
        one.copy_(turned(part, turns) if turning else part)


def finished(x, attended, norm, out, enter, leave):
    """What the block makes of x [n, wide] and of what attention answers [n, heads, d]."""
    x = x + attended.flatten(1) @ out
    gate, up = (rms_norm(x, x.shape[-1:], norm, EPSILON) @ enter).chunk(2, -1)
    return x + (silu(gate) * up) @ leave


def apart(mine, exact, name):
    """The distance of the token that is farthest off, over what so many roundings may cost. Raises Wrong."""
    most = ROUNDINGS * ROUNDING[mine.dtype] * exact.norm(dim=-1)
    worst = float(((mine.to("cpu", torch.float64) - exact).norm(dim=-1) / most).nan_to_num(torch.inf).max())
    if worst > 1:
        raise Wrong(f"in a block, {name} is off by {worst:.3g} times what roundings explain")
    return worst
