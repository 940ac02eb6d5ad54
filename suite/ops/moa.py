"""moa: a mixture of attention heads, of which each token asks a few experts and adds up what they say.

    y = sum over a token's experts of gate * wo softmax((wq x) K^T / sqrt(f)) V

There are n tokens of d numbers and e experts of g heads of f numbers each. An expert has projections of its
own, wq into its heads and wo out of them; keys and values of g heads are the same for all experts, and a
token sees those of the tokens up to itself. Route, logits and gates are those of `moe`: no token is dropped,
and one that asks nobody gets 0. What makes the keys and values is a dense layer, and left out. An expert is
one head in Zhang et al., "Mixture of Attention Heads", EMNLP 2022, and several in Tan et al., "Scattered
Mixture-of-Experts Implementation", 2024.

Dense is every expert on every token, the gates of others being 0: attention of as many parameters.
"""

from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from suite import rounding
from suite.case import Case
from suite.formats.routing import most, top_k, touched
from suite.op import Operands, generator, register
from suite.ops import moe
from suite.ops.attention import EXPONENTIAL
from suite.sparse import Sparse


def around(case: Case, route: Sparse) -> Operands:
    """Weights that keep the variance, logits that make the route, and all else standard normal."""
    n, e, d, g, f = (size for _, size in case.sizes)
    source = generator(case, 1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source)

    wq, wo, x = drawn(e, g * f, d).div_(sqrt(d)), drawn(e, d, g * f).div_(sqrt(g * f)), drawn(n, d)
    others = wq, wo, x, moe.logits(route, drawn(n, e)), drawn(g, n, f), drawn(g, n, f)
    return route, *(case.cast(one) for one in others)


def answer(route: Sparse, wq: Tensor, wo: Tensor, x: Tensor, logits: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """In the dtype of x, expert by expert, with a rounding after every step, as eager code has it."""
    gates, experts = top_k(logits, most(route))
    heads, n, f = k.shape
    out = torch.zeros_like(x)
    for expert in range(len(wq)):
        tokens, choices = (experts == expert).nonzero(as_tuple=True)
        queries = (x[tokens] @ wq[expert].to(x.dtype).t()).view(-1, heads, f)
        later = torch.arange(n) > tokens[:, None]
        said = torch.empty_like(queries)
        for head in range(heads):
            scores = (queries[:, head] @ k[head].t() / sqrt(f)).masked_fill_(later, -torch.inf)
            said[:, head] = scores.softmax(-1) @ v[head]
        answers = said.flatten(1) @ wo[expert].to(x.dtype).t()
        out.index_add_(0, tokens, answers * gates[tokens, choices, None])
    return out


def reference(route: Sparse, wq: Tensor, wo: Tensor, *live: Tensor) -> Tensor:
    """In float64."""
    return answer(route, wq, wo, *(one.double() for one in live))


def tolerance(operands: Operands, expected: Tensor) -> Tensor:
    """What a mixture may cost, and what a GPU's power of two may be off by, through the widest row of wo."""
    wo, v = operands[2], operands[6]
    power = EXPONENTIAL * v.double().abs().amax() * wo.double().abs().sum(2).amax()
    eager = answer(*operands)
    error = (eager.double() - expected).abs().amax()
    return rounding.of_sums(expected, wo.shape[2], expected.abs().amax(), eager.dtype) + 2 * error + power


def twin(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """Other experts for every token, and other numbers, for which the answer is worked out anew."""
    *fixed, x, logits, k, v = operands
    other: Operands = (*fixed, x.flip(1) * -0.5, logits.flip(1), k.flip(2), v.flip(2) * -0.5)
    answered = reference(*other)
    return other, answered, tolerance(other, answered)


def projection_flops(case: Case) -> int:
    """Of an expert on a token, into its heads and out of them."""
    return 4 * case["d"] * case["g"] * case["f"]


def attention_flops(case: Case, pairs: int) -> int:
    """Of so many pairs of a query and a key, in all heads of an expert."""
    return 4 * case["g"] * case["f"] * pairs


def useful(case: Case, operands: Operands) -> int:
    """A choice sees as many keys as there are tokens up to its own."""
    route = operands[0]
    seen = int(route.columns.long().sum()) + route.nonzeros
    return route.nonzeros * projection_flops(case) + attention_flops(case, seen)


def nominal(case: Case, operands: Operands) -> int:
    """All choose all."""
    n, e = case["n"], case["e"]
    return n * e * projection_flops(case) + attention_flops(case, e * n * (n + 1) // 2)


def least_values(case: Case, operands: Operands) -> int:
    """Of experts that are asked."""
    return touched(operands[0]) * 2 * case["d"] * case["g"] * case["f"] * case.torch_dtype.itemsize


def live_bytes(case: Case, operands: Operands) -> int:
    """Tokens, answer and logits, keys and values."""
    each = 2 * case["d"] + case["e"] + 2 * case["g"] * case["f"]
    return case["n"] * each * case.torch_dtype.itemsize


MOA = register(
    replace(
        moe.MOE,
        name="moa",
        operands=("route", "wq", "wo", "x", "logits", "k", "v"),
        live=(3, 4, 5, 6),
        sizes=("n", "e", "d", "g", "f"),
        around=around,
        reference=reference,
        allowed=lambda case, operands, expected: tolerance(operands, expected),
        twin=twin,
        nominal=nominal,
        useful=useful,
        least_values=least_values,
        live_bytes=live_bytes,
        sized=lambda route, wq, wo, x, logits, k, v: (*logits.shape, x.shape[1], len(k), k.shape[2]),
        about="mixture of attention heads",
    )
)
