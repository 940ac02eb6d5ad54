"""torch's grouped product before and behind its attention: tokens copied in the order of experts, and back.

Bad at: memory. Each choice has a copy of its token and an answer of its own. On CPUs torch has no kernel
of its own for it and multiplies group after group.
"""

import torch

from suite.formats.routing import dispatch, most, touched
from suite.kernel import Prepared, kernel
from suite.kernels.moa.heads import sdpa
from suite.kernels.moe.moe_grouped_torch import PRODUCT, UNIT, refuse


@kernel(op="moa", on="cpu", dtypes=("bfloat16",), divides={"d": UNIT, "f": UNIT}, refuse=refuse)
def moa_grouped_torch(route, wq, wo, x, logits, k, v):
    """torch's grouped_mm on tokens copied for each of their choices, around torch's attention."""
    (experts, d, wide), (heads, n, f), top = wo.shape, k.shape, most(route)
    room, q = x.new_empty(n * top, d), x.new_zeros(n * top, wide)
    ends = x.new_empty(experts, dtype=torch.int32)
    out = torch.empty_like(x)

    def run(x, logits, k, v):
        going = dispatch(logits, top)
        torch.cumsum(going.counts, 0, out=ends)
        near = room[: len(going.tokens)]
        torch.index_select(x, 0, going.tokens, out=near)
        q[going.choices] = PRODUCT(near, wq.mT, offs=ends)
        answers = sdpa(q.view(n, top, heads, f), k, v).reshape(n * top, wide)
        said = PRODUCT(answers[going.choices], wo.mT, offs=ends)
        return out.zero_().index_add_(0, going.tokens, said.mul_(going.gates[:, None]))

    return Prepared(
        run,
        values=touched(route) * (wq[0].nbytes + wo[0].nbytes),
        metadata=0,
        holds=(wq, wo, room, q, ends, out),
    )
