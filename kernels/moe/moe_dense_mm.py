"""Dense: all experts side by side as one feed-forward layer, whose hidden numbers the gates then weigh.

Bad at: every sparsity, that is the point. It is the layer of as many parameters, with a gate for each expert.
"""

import torch

from suite.formats.routing import dense, most
from suite.kernel import Prepared, kernel
from suite.kernels.moe.gate import gated

MOST = 2**30  # hidden numbers


def refuse(case, device):
    if 2 * case["n"] * case["e"] * case["f"] > MOST:
        return [f"needs the hidden numbers of all e={case['e']} experts for n={case['n']} tokens at once"]
    return []


@kernel(op="moe", on="cpu", dtypes=("float32", "bfloat16"), dense=True, refuse=refuse)
def moe_dense_mm(route, up, down, x, logits):
    """Every expert on every token, in two products."""
    (experts, d, f), n, top = down.shape, len(x), most(route)
    enter = up.view(-1, d).t()
    leave = down.transpose(1, 2).reshape(experts * f, d).contiguous()
    wide = x.new_empty(n, experts * 2 * f)
    hidden = x.new_empty(n, experts, f)
    out = torch.empty_like(x)

    def run(x, logits):
        torch.mm(x, enter, out=wide)
        torch.mul(gated(wide.view(n, experts, 2 * f)), dense(logits, top)[..., None], out=hidden)
        return torch.mm(hidden.view(n, -1), leave, out=out)

    return Prepared(
        run,
        executed=6 * n * experts * d * f,
        values=up.nbytes + leave.nbytes,
        metadata=0,
        holds=(up, leave, wide, hidden, out),
    )
