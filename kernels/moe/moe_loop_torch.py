"""One expert after the other: its tokens gathered, two of torch's products, answers added where they go.

What most models do on a CPU, with choices sorted once and every buffer kept. Bad at: many experts of few
tokens, where the calls themselves are most of the time.
"""

import torch
from torch.nn.functional import silu

from suite.formats.routing import dispatch, most, touched
from suite.kernel import Prepared, kernel


def product(rows, weight, out):
    return torch.mm(rows, weight.t(), out=out)


def prepare(route, up, down, x, product):
    """The loop with a product(rows, weight, out) that answers in `out` or in memory of its own."""
    (_, d, f), n, top = down.shape, len(x), most(route)
    near, said, out = (torch.empty(n, d, dtype=x.dtype) for _ in range(3))
    wide = torch.empty(n, 2 * f, dtype=x.dtype)

    def run(x, logits):
        going = dispatch(logits, top)
        out.zero_()
        last = 0
        for expert, count in enumerate(going.counts.tolist()):
            if not count:
                continue
            first, last = last, last + count
            tokens = going.tokens[first:last]
            torch.index_select(x, 0, tokens, out=near[:count])
            hidden = product(near[:count], up[expert], wide[:count])
            gated = silu(hidden[:, :f], inplace=True).mul_(hidden[:, f:])
            answer = product(gated, down[expert], said[:count])
            out.index_add_(0, tokens, answer.mul_(going.gates[first:last, None]))
        return out

    each = up[0].nbytes + down[0].nbytes
    return Prepared(
        run,
        executed=6 * route.nonzeros * d * f,
        values=touched(route) * each,
        metadata=0,
        holds=(up, down, near, said, wide, out),
    )


@kernel(op="moe", on="cpu", dtypes=("float32", "bfloat16"))
def moe_loop_torch(route, up, down, x, logits):
    """A loop over the experts that have tokens."""
    return prepare(route, up, down, x, product)
