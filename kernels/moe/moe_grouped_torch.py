"""torch's grouped product: choices sorted by expert, their tokens copied into that order, and back.

Bad at: memory. Each choice has a copy of its token and an answer of its own. On CPUs torch has no kernel
of its own for it and multiplies group after group.
"""

import torch

from suite.formats.routing import dispatch, most, touched
from suite.kernel import Prepared, kernel
from suite.kernels.moe.gate import gated

PRODUCT = getattr(torch.nn.functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
UNIT = 8  # numbers of a row: it wants rows of whole 16 bytes


def refuse(case, device):
    if PRODUCT is None:
        return ["needs torch.nn.functional.grouped_mm, which torch has from 2.8 on"]
    return []


@kernel(op="moe", on="cpu", dtypes=("bfloat16",), divides={"d": UNIT, "f": UNIT}, refuse=refuse)
def moe_grouped_torch(route, up, down, x, logits):
    """torch's grouped_mm on tokens copied for each of their choices."""
    (experts, d, f), n, top = down.shape, len(x), most(route)
    room = x.new_empty(n * top, d)
    ends = x.new_empty(experts, dtype=torch.int32)
    out = torch.empty_like(x)

    def run(x, logits):
        going = dispatch(logits, top)
        torch.cumsum(going.counts, 0, out=ends)
        near = room[: len(going.tokens)]
        torch.index_select(x, 0, going.tokens, out=near)
        hidden = gated(PRODUCT(near, up.mT, offs=ends))
        said = PRODUCT(hidden.contiguous(), down.mT, offs=ends)
        return out.zero_().index_add_(0, going.tokens, said.mul_(going.gates[:, None]))

    each = up[0].nbytes + down[0].nbytes
    return Prepared(
        run,
        executed=6 * route.nonzeros * d * f,
        values=touched(route) * each,
        metadata=0,
        holds=(up, down, room, ends, out),
    )
