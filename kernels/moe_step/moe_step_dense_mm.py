"""Dense: all experts side by side as one feed-forward layer, trained for a step, their gates as one factor.

Bad at: every sparsity, that is the point. The projection down and its gradient are turned, a small part of
the time that a layer without experts does without.
"""

import torch

from suite.formats.routing import most, top_k
from suite.kernel import Prepared, kernel
from suite.kernels.moe.gate import Gate
from suite.kernels.moe.moe_dense_mm import refuse


@kernel(op="moe_step", on="cpu", dtypes=("float32", "bfloat16"), dense=True, refuse=refuse)
def moe_step_dense_mm(route, up, down, x, logits, dy):
    """Every expert on every token, forward and back, in six products."""
    (experts, d, f), n, top = down.shape, len(x), most(route)
    leave, turned = (x.new_empty(experts * f, d) for _ in range(2))
    wide, asked = x.new_empty(n, experts * 2 * f), x.new_empty(n, experts * f)
    gate, shares, dlogits = Gate(x, n * experts * f), torch.empty_like(logits), torch.empty_like(logits)
    y, dx, dup, ddown = (torch.empty_like(one) for one in (x, x, up, down))

    def run(up, down, x, logits, dy):
        leave.view(experts, f, d).copy_(down.mT)
        gates, chosen = top_k(logits, top)
        shares.zero_().scatter_(1, chosen, gates)
        torch.mm(x, up.view(-1, d).t(), out=wide)
        entered = wide.view(n, experts, 2 * f)
        torch.mm(gate.forward(entered).mul_(shares[..., None]).view(n, -1), leave, out=y)
        torch.mm(dy, leave.t(), out=asked)
        hidden, dgates = gate.backward(entered, asked.view(n, experts, f), shares)
        torch.mm(wide, up.view(-1, d), out=dx)
        torch.mm(wide.t(), x, out=dup.view(-1, d))
        torch.mm(hidden.view(n, -1).t(), dy, out=turned)
        ddown.copy_(turned.view(experts, f, d).mT)
        dgates.mul_(shares)
        torch.addcmul(dgates, shares, dgates.sum(1, keepdim=True), value=-1, out=dlogits)
        return y, dx, dup, ddown, dlogits

    return Prepared(
        run,
        executed=18 * n * experts * d * f,
        values=0,
        metadata=0,
        holds=(leave, turned, wide, asked, *gate.holds, shares, y, dx, dup, ddown, dlogits),
    )
