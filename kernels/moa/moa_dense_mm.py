"""Dense: all experts side by side as one attention layer, whose heads the gates then weigh.

Bad at: every sparsity, that is the point. It is attention of as many parameters, with a gate for each expert.
"""

import torch

from suite.formats.routing import dense, most
from suite.kernel import Prepared, kernel
from suite.kernels.moa.heads import sdpa

MOST = 2**30  # numbers of a buffer


def refuse(case, device):
    if case["n"] * case["e"] * case["g"] * case["f"] > MOST:
        return [f"needs the queries of all e={case['e']} experts for n={case['n']} tokens at once"]
    return []


def prepare(route, wq, wo, x, k, attention):
    """The layer around attention, whose queries and answers are [n, experts, g, f]."""
    (experts, d, wide), n, top = wo.shape, len(x), most(route)
    enter = wq.view(-1, d).t()
    leave = wo.transpose(1, 2).reshape(experts * wide, d).contiguous()
    q, said = (x.new_empty(n, experts, len(k), k.shape[2]) for _ in range(2))
    out = torch.empty_like(x)

    def run(x, logits, k, v):
        torch.mm(x, enter, out=q.view(n, -1))
        torch.mul(attention.run(q, k, v), dense(logits, top)[..., None, None], out=said)
        return torch.mm(said.view(n, -1), leave, out=out)

    return Prepared(
        run,
        executed=attention.executed and attention.executed + 4 * n * experts * d * wide,
        values=wq.nbytes + leave.nbytes,
        metadata=0,
        holds=(wq, leave, q, said, out, *attention.holds),
    )


@kernel(op="moa", on="cpu", dtypes=("float32", "bfloat16"), dense=True, refuse=refuse)
def moa_dense_mm(route, wq, wo, x, logits, k, v):
    """Every expert on every token, in two products around torch's attention."""
    return prepare(route, wq, wo, x, k, Prepared(sdpa))
