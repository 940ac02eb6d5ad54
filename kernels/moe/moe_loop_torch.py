"""One expert after the other: its tokens gathered, two of torch's products, answers added where they go.

What most models do on a CPU, with choices sorted once and every buffer kept. Bad at: many experts of few
tokens, where the calls themselves are most of the time.
"""

import torch

from suite.formats.routing import dispatch, most, touched
from suite.kernel import Prepared, kernel
from suite.kernels.moe.gate import gated


def product(rows, weight, out):
    return torch.mm(rows, weight.t(), out=out)


def prepare(route, up, down, x, product):
    """The loop with a product(rows, weight, out) that answers in `out` or in memory of its own."""
    (_, d, f), n, top = down.shape, len(x), most(route)
    near, said, out = (x.new_empty(n, d) for _ in range(3))
    wide = x.new_empty(n, 2 * f)

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
            hidden = gated(product(near[:count], up[expert], wide[:count]))
            answer = product(hidden, down[expert], said[:count])
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
