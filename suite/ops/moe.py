"""moe: a mixture of experts, of which each token asks a few and adds up what they say.

    y = sum over a token's experts of gate * down(silu(gate_e x) * (up_e x))

There are n tokens of d numbers and e experts of f hidden ones. A token's experts are those of its highest
logits, as many as the longest column of `route` has nonzeros; gates are the softmax of their logits. A logit
of minus infinity is no expert's, so a token may go to fewer, or to none: then it answers 0. No token is
dropped.

The route is live. `route` [e, n] is that of the first logits: it says how many experts a token has at most,
and what load to expect. The route of any other call is in its logits alone, so to choose, to sort and to pad
is part of every call. A pattern is a trace of routes (suite/patterns/routes.py); its row lengths are the
experts' loads, and what a line states of its structure says how uneven they are.

Dense is every expert on every token, the gates of others being 0: a feed-forward layer of as many parameters.
One of as many FLOPs is the case of so many experts that all are asked.
"""

from math import sqrt

import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.formats.routing import most, top_k, touched
from suite.op import Op, Operands, generator, register
from suite.ops.spmm import rows_of
from suite.sparse import Sparse

APART = 1  # experts of a route have logits from here up, others from its negative down: no rounding turns one


def around(case: Case, route: Sparse) -> Operands:
    """Weights that keep the variance, tokens standard normal, and logits that make the route."""
    e, d, f = case["e"], case["d"], case["f"]
    source = generator(case, 1)
    up = case.cast(torch.randn(e, 2 * f, d, generator=source).div_(sqrt(d)))
    down = case.cast(torch.randn(e, d, f, generator=source).div_(sqrt(f)))
    x = case.cast(torch.randn(case["n"], d, generator=source))
    return route, up, down, x, case.cast(logits(route, torch.randn(case["n"], e, generator=source)))


def logits(route: Sparse, drawn: Tensor) -> Tensor:
    """Logits [n, e], highest where the route goes: its values say how high, `drawn` how low others are."""
    at = route.columns.long(), rows_of(route)
    chosen = torch.zeros(drawn.shape, dtype=torch.bool)
    chosen[at] = True
    made = -APART - drawn.abs()
    made[at] = APART + route.values.to(made.dtype).abs()
    short = chosen.sum(1, keepdim=True) < most(route)
    return made.masked_fill(short & ~chosen, -torch.inf)


def answer(route: Sparse, up: Tensor, down: Tensor, x: Tensor, logits: Tensor) -> Tensor:
    """In the dtype of x, expert by expert, with a rounding after every step, as eager code has it."""
    gates, experts = top_k(logits, most(route))
    out = torch.zeros_like(x)
    for expert in range(len(up)):
        tokens, choices = (experts == expert).nonzero(as_tuple=True)
        gate, wide = (x[tokens] @ up[expert].to(x.dtype).t()).chunk(2, -1)
        said = (torch.nn.functional.silu(gate) * wide) @ down[expert].to(x.dtype).t()
        out.index_add_(0, tokens, said * gates[tokens, choices, None])
    return out


def reference(route: Sparse, up: Tensor, down: Tensor, x: Tensor, logits: Tensor) -> Tensor:
    """In float64."""
    return answer(route, up, down, x.double(), logits.double())


def tolerance(operands: Operands, expected: Tensor) -> Tensor:
    """What a last sum of f products may cost, and twice the largest error of eager code of the same dtype."""
    eager, f = answer(*operands), operands[2].shape[2]
    error = (eager.double() - expected).abs().amax()
    return rounding.of_sums(expected, f, expected.abs().amax(), eager.dtype) + 2 * error


def twin(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """The tokens in reverse: a route kept from before sends them to others' experts.

    One token alone gets other numbers and other experts, for which the answer is worked out anew.
    """
    *fixed, x, logits = operands
    if len(x) > 1:
        return (*fixed, x.flip(0), logits.flip(0)), expected.flip(0), allowed.flip(0)
    other: Operands = (*fixed, x.flip(1) * -0.5, logits.flip(1))
    answered = reference(*other)
    return other, answered, tolerance(other, answered)


def expert_flops(case: Case) -> int:
    """Of an expert on a token."""
    return 6 * case["d"] * case["f"]


def live_bytes(case: Case, operands: Operands) -> int:
    """Tokens, answer and logits."""
    return case["n"] * (2 * case["d"] + case["e"]) * case.torch_dtype.itemsize


def objections(operands: Operands) -> list[str]:
    """A route says what its logits say."""
    route, _, _, _, logits, *_ = operands
    best, experts = logits.topk(most(route), -1)
    going = torch.zeros(logits.shape, dtype=torch.bool).scatter_(1, experts, best > -torch.inf)
    stored = torch.zeros_like(going)
    stored[route.columns.long(), rows_of(route)] = True
    return [] if torch.equal(going, stored) else ["the route is not where the highest logits of a token are"]


MOE = register(
    Op(
        name="moe",
        operands=("route", "up", "down", "x", "logits"),
        live=(3, 4),
        sizes=("n", "e", "d", "f"),
        shape=lambda case: (case["e"], case["n"]),
        around=around,
        reference=reference,
        allowed=lambda case, operands, expected: tolerance(operands, expected),
        twin=twin,
        nominal=lambda case, _: case["n"] * case["e"] * expert_flops(case),
        useful=lambda case, operands: operands[0].nonzeros * expert_flops(case),
        least_values=lambda case, operands: (
            touched(operands[0]) * 3 * case["d"] * case["f"] * case.torch_dtype.itemsize
        ),
        live_bytes=live_bytes,
        sized=lambda route, up, down, x, logits, *_: (*logits.shape, *down.shape[1:]),
        objections=objections,
        about="mixture of experts",
    )
)
