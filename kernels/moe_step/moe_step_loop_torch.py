"""One expert after the other, forward and back: its tokens gathered, six of torch's products.

What entered the gate is kept from the way forward, tokens are gathered again on the way back. Bad at: many
experts of few tokens, where the calls themselves are most of the time.
"""

from itertools import accumulate, pairwise

import torch

from suite.formats.routing import dispatch, most, to_logits
from suite.kernel import Prepared, kernel
from suite.kernels.moe.gate import Gate


@kernel(op="moe_step", on="cpu", dtypes=("float32", "bfloat16"))
def moe_step_loop_torch(route, up, down, x, logits, dy):
    """A loop over the experts that have tokens, and one back."""
    (_, d, f), n, top = down.shape, len(x), most(route)
    near, back, said, y, dx = (x.new_empty(n, d) for _ in range(5))
    wide, dgates, gate = x.new_empty(n * top, 2 * f), x.new_empty(n * top), Gate(x, n * f)
    asked, dup, ddown = x.new_empty(n, f), torch.empty_like(up), torch.empty_like(down)
    dlogits = torch.empty_like(logits)

    def each(going):
        """Experts that have tokens, with their choices and how many these are."""
        edges = pairwise(accumulate(going.counts.tolist(), initial=0))
        return (
            (expert, slice(*edge), edge[1] - edge[0])
            for expert, edge in enumerate(edges)
            if edge[0] < edge[1]
        )

    def forward(up, down, x, going):
        y.zero_()
        for expert, own, count in each(going):
            torch.index_select(x, 0, going.tokens[own], out=near[:count])
            hidden = gate.forward(torch.mm(near[:count], up[expert].t(), out=wide[own]))
            answer = torch.mm(hidden, down[expert].t(), out=said[:count])
            y.index_add_(0, going.tokens[own], answer.mul_(going.gates[own, None]))

    def backward(up, down, x, dy, going):
        for one in (dx, dup, ddown):
            one.zero_()
        for expert, own, count in each(going):
            torch.index_select(x, 0, going.tokens[own], out=near[:count])
            torch.index_select(dy, 0, going.tokens[own], out=back[:count])
            torch.mm(back[:count], down[expert], out=asked[:count])
            hidden, dgates[own] = gate.backward(wide[own], asked[:count], going.gates[own])
            dx.index_add_(0, going.tokens[own], torch.mm(wide[own], up[expert], out=said[:count]))
            torch.mm(wide[own].t(), near[:count], out=dup[expert])
            torch.mm(back[:count].t(), hidden, out=ddown[expert])

    def run(up, down, x, logits, dy):
        going = dispatch(logits, top)
        forward(up, down, x, going)
        backward(up, down, x, dy, going)
        return y, dx, dup, ddown, to_logits(going, dgates[: len(going.tokens)], dlogits)

    return Prepared(
        run,
        executed=18 * route.nonzeros * d * f,
        values=0,
        metadata=0,
        holds=(near, back, said, wide, dgates, asked, *gate.holds, y, dx, dup, ddown, dlogits),
    )
