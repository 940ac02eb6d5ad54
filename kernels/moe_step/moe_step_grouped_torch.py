"""torch's grouped product, forward and back: tokens copied in the order of experts, and what comes back too.

The gradients of the weights are grouped products as well, whose sums run along an expert's choices. Bad at:
memory. Each choice has copies of its token and of its gradient, and answers of its own. On CPUs torch
multiplies group after group.
"""

import torch

from suite.formats.routing import dispatch, most, to_logits
from suite.kernel import Prepared, kernel
from suite.kernels.moe.gate import Gate
from suite.kernels.moe.moe_grouped_torch import PRODUCT, UNIT, refuse


@kernel(op="moe_step", on="cpu", dtypes=("bfloat16",), divides={"d": UNIT, "f": UNIT}, refuse=refuse)
def moe_step_grouped_torch(route, up, down, x, logits, dy):
    """torch's grouped_mm six times, on copies for each choice."""
    (experts, d, f), n, top = down.shape, len(x), most(route)
    near, back = (x.new_empty(n * top, d) for _ in range(2))
    ends, gate = x.new_empty(experts, dtype=torch.int32), Gate(x, n * top * f)
    y, dx, dlogits = torch.empty_like(x), torch.empty_like(x), torch.empty_like(logits)

    def add(to, going, rows):
        to.zero_().index_add_(0, going.tokens, rows)

    def run(up, down, x, logits, dy):
        going = dispatch(logits, top)
        torch.cumsum(going.counts, 0, out=ends)
        count = len(going.tokens)
        torch.index_select(x, 0, going.tokens, out=near[:count])
        wide = PRODUCT(near[:count], up.mT, offs=ends)
        said = PRODUCT(gate.forward(wide), down.mT, offs=ends)
        add(y, going, said.mul_(going.gates[:, None]))
        torch.index_select(dy, 0, going.tokens, out=back[:count])
        hidden, dgates = gate.backward(wide, PRODUCT(back[:count], down, offs=ends), going.gates)
        add(dx, going, PRODUCT(wide, up, offs=ends))
        dup = PRODUCT(wide.t(), near[:count], offs=ends)
        ddown = PRODUCT(back[:count].t(), hidden, offs=ends)
        return y, dx, dup, ddown, to_logits(going, dgates, dlogits)

    return Prepared(
        run,
        executed=18 * route.nonzeros * d * f,
        values=0,
        metadata=0,
        holds=(near, back, ends, *gate.holds, y, dx, dlogits),
    )
