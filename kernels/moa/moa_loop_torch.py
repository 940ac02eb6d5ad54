"""One expert after the other: its tokens gathered and projected; attention of all; back, expert by expert.

Queries go where their choices are, token by token, so one call of torch's attention serves all experts and
knows which keys come later. Bad at: many experts of few tokens, where the calls themselves are most of the
time.
"""

import torch

from suite.formats.routing import dispatch, most, touched
from suite.kernel import Prepared, kernel
from suite.kernels.moa.heads import sdpa


@kernel(op="moa", on="cpu", dtypes=("float32", "bfloat16"))
def moa_loop_torch(route, wq, wo, x, logits, k, v):
    """A loop over the experts that have tokens, around torch's attention, and one back."""
    (_, d, wide), (heads, n, f), top = wo.shape, k.shape, most(route)
    near, said, out = (x.new_empty(n, d) for _ in range(3))
    some, q = x.new_empty(n, wide), x.new_zeros(n * top, wide)

    def run(x, logits, k, v):
        going = dispatch(logits, top)
        counts = going.counts.tolist()

        def each():
            last = 0
            for expert, count in enumerate(counts):
                first, last = last, last + count
                if count:
                    yield expert, count, slice(first, last)

        for expert, count, own in each():
            torch.index_select(x, 0, going.tokens[own], out=near[:count])
            q[going.choices[own]] = torch.mm(near[:count], wq[expert].t(), out=some[:count])
        answers = sdpa(q.view(n, top, heads, f), k, v).reshape(n * top, wide)
        out.zero_()
        for expert, count, own in each():
            torch.index_select(answers, 0, going.choices[own], out=some[:count])
            torch.mm(some[:count], wo[expert].t(), out=said[:count])
            out.index_add_(0, going.tokens[own], said[:count].mul_(going.gates[own, None]))
        return out

    return Prepared(
        run,
        values=touched(route) * (wq[0].nbytes + wo[0].nbytes),
        metadata=0,
        holds=(wq, wo, near, said, out, some, q),
    )
