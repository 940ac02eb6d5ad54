"""moe_step: what a mixture of experts computes in a training step, forward and back.

    y = moe(x)        dx, dup, ddown, dlogits = the gradients of sum dy y

Route, tokens, weights and gates are those of `moe`. Weights are live, for they change with every step, as x,
the logits and dy do. An expert that no token asks has gradients of 0, and so have the logits of experts that
a token does not ask: what a gate learns goes to those it was weighed against. The router's own weight is a
dense layer behind its logits, and left out. In training dy exists only after y has been through the layers
above: a kernel that shares a pass between y and the gradients measures nothing real.

Dense is every expert on every token, forward and back.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import silu

from suite import rounding
from suite.case import Case
from suite.formats.routing import most, top_k, touched
from suite.op import Operands, generator, register
from suite.ops import moe
from suite.sparse import Sparse

Parts = tuple[Tensor, ...]

MARGIN = 3  # times the error of an ordinary program: others that are no less right round elsewhere
PASSES = 3  # as many FLOPs as forward alone: one product for an answer, one for each gradient


def around(case: Case, route: Sparse) -> Operands:
    """Those of `moe`, and dy standard normal."""
    return (
        *moe.around(case, route),
        case.cast(torch.randn(case["n"], case["d"], generator=generator(case, 2))),
    )


def slope(gate: Tensor) -> Tensor:
    """The derivative of silu."""
    share = gate.sigmoid()
    return share * (1 + gate * (1 - share))


def answer(route: Sparse, up: Tensor, down: Tensor, x: Tensor, logits: Tensor, dy: Tensor) -> Parts:
    """In the dtype of the operands, with a rounding after every step, as eager code has it."""
    gates, experts = top_k(logits, most(route))
    y, dx, dup, ddown, dgates = (torch.zeros_like(one) for one in (x, x, up, down, gates))
    for expert in range(len(up)):
        tokens, choices = (experts == expert).nonzero(as_tuple=True)
        if not len(tokens):
            continue
        rows, back, share = x[tokens], dy[tokens], gates[tokens, choices, None]
        gate, wide = (rows @ up[expert].t()).chunk(2, -1)
        opened = silu(gate)
        hidden = opened * wide
        y.index_add_(0, tokens, hidden @ down[expert].t() * share)
        asked = back @ down[expert]
        dgates[tokens, choices] = (asked * hidden).sum(1)
        asked = asked * share
        entered = torch.cat((asked * wide * slope(gate), asked * opened), 1)
        dx.index_add_(0, tokens, entered @ up[expert])
        dup[expert] = entered.t() @ rows
        ddown[expert] = (back * share).t() @ hidden
    dlogits = gates * (dgates - (gates * dgates).sum(1, keepdim=True))
    return y, dx, dup, ddown, torch.zeros_like(logits).scatter_(1, experts, dlogits)


def reference(route: Sparse, *operands: Tensor) -> Parts:
    """In float64."""
    return answer(route, *(one.double() for one in operands))


def allowed(case: Case, operands: Operands, expected: Parts) -> Parts:
    """Of each part alike: what its last sums may cost, and a few times the largest error of eager code."""
    counts = case["f"], 2 * case["f"], case["n"], case["n"], case["f"]
    return tuple(
        rounding.of_sums(largest := right.abs().amax(), count, largest, case.torch_dtype)
        + MARGIN * (mine.double() - right).abs().amax()
        for mine, right, count in zip(answer(*operands), expected, counts, strict=True)
    )


def twin(operands: Operands, expected: Parts, allowed: Parts) -> tuple[Operands, Parts, Parts]:
    """Tokens and experts in reverse, dy times -1/2: exact in every dtype."""
    route, up, down, x, logits, dy = operands
    y, dx, dup, ddown, dlogits = expected
    live = up.flip(0), down.flip(0), x.flip(0), logits.flip(0, 1), dy.flip(0) * -0.5
    back = dx.flip(0), dup.flip(0), ddown.flip(0), dlogits.flip(0, 1)
    return (route, *live), (y.flip(0), *(one * -0.5 for one in back)), allowed


def live_bytes(case: Case, operands: Operands) -> int:
    """x, y and their gradients, logits and theirs, the weights of experts that are asked, all gradients."""
    tokens = case["n"] * 2 * (2 * case["d"] + case["e"])
    weights = (touched(operands[0]) + case["e"]) * 3 * case["d"] * case["f"]
    return (tokens + weights) * case.torch_dtype.itemsize


MOE_STEP = register(
    replace(
        moe.MOE,
        name="moe_step",
        operands=("route", "up", "down", "x", "logits", "dy"),
        live=(1, 2, 3, 4, 5),
        around=around,
        reference=reference,
        allowed=allowed,
        twin=twin,
        nominal=lambda case, operands: PASSES * moe.MOE.nominal(case, operands),
        useful=lambda case, operands: PASSES * moe.MOE.useful(case, operands),
        least_values=lambda case, operands: 0,
        live_bytes=live_bytes,
        answers=("y", "dx", "dup", "ddown", "dlogits"),
        about="training step of a mixture of experts",
    )
)
