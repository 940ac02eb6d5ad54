"""Padded to capacity, forward and back: rows of equal length for all experts, and six batched products.

Rows of padding are zeros, so that they add nothing to the gradients of weights; what they held before is
cleared in every call. Bad at: uneven loads, where most rows are padding.
"""

import torch

from suite.formats.routing import dispatch, most, padded, to_logits
from suite.kernel import Prepared, kernel
from suite.kernels.moe.gate import Gate
from suite.kernels.moe.moe_padded_torch import refuse


@kernel(op="moe_step", on="cpu", dtypes=("float32", "bfloat16"), refuse=refuse)
def moe_step_padded_torch(route, up, down, x, logits, dy):
    """Batched products of rows padded to the highest load, forward and back."""
    (experts, d, f), n, top = down.shape, len(x), most(route)
    near, back, said = (x.new_empty(experts * n * d) for _ in range(3))
    wide, asked, shares = (x.new_empty(experts * n * size) for size in (2 * f, f, 1))
    gate, capacity = Gate(x, experts * n * f), 0
    y, dx, dlogits = torch.empty_like(x), torch.empty_like(x), torch.empty_like(logits)
    dup, ddown = torch.empty_like(up), torch.empty_like(down)

    def rows(buffer, size):
        return buffer[: experts * capacity * size].view(experts, capacity, size)

    def spread(buffer, places, given):
        """Rows of choices where they belong, zeros elsewhere."""
        made = rows(buffer, given.shape[1])
        made.zero_().view(-1, given.shape[1]).index_copy_(0, places, given)
        return made

    def run(up, down, x, logits, dy):
        nonlocal capacity
        going = dispatch(logits, top)
        capacity = int(going.counts.max())
        places = padded(going, capacity)

        def add(to, answers, weighed=None):
            chosen = answers.view(-1, d)[places]
            return to.zero_().index_add_(0, going.tokens, chosen if weighed is None else chosen.mul_(weighed))

        entered = torch.bmm(spread(near, places, x[going.tokens]), up.mT, out=rows(wide, 2 * f))
        add(y, torch.bmm(gate.forward(entered), down.mT, out=rows(said, d)), going.gates[:, None])
        spread(back, places, dy[going.tokens])
        own = spread(shares, places, going.gates[:, None])[..., 0]
        torch.bmm(rows(back, d), down, out=rows(asked, f))
        hidden, dgates = gate.backward(entered, rows(asked, f), own)
        add(dx, torch.bmm(entered, up, out=rows(said, d)))
        torch.bmm(entered.mT, rows(near, d), out=dup)
        torch.bmm(rows(back, d).mT, hidden, out=ddown)
        return y, dx, dup, ddown, to_logits(going, dgates.flatten()[places], dlogits)

    return Prepared(
        run,
        executed=lambda: 18 * experts * capacity * d * f,
        values=0,
        metadata=0,
        holds=(near, back, said, wide, asked, shares, *gate.holds, y, dx, dup, ddown, dlogits),
    )
