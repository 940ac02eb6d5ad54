"""Padded to capacity: experts' tokens in rows of equal length, and one batched product for all experts.

The capacity is the load of the busiest expert of the call, so that no token is dropped. Bad at: uneven loads,
where most rows are padding, and few tokens, where experts without any are read all the same.
"""

import torch

from suite.formats.routing import dispatch, most, padded
from suite.kernel import Prepared, kernel
from suite.kernels.moe.gate import gated

MOST = 2**30  # numbers of a buffer that has room for any load


def refuse(case, device):
    if case["e"] * case["n"] * max(2 * case["f"], case["d"]) > MOST:
        return [f"needs room for all n={case['n']} tokens in each of e={case['e']} experts"]
    return []


@kernel(op="moe", on="cpu", dtypes=("float32", "bfloat16"), refuse=refuse)
def moe_padded_torch(route, up, down, x, logits):
    """Batched products of rows padded to the highest load."""
    (experts, d, f), n, top = down.shape, len(x), most(route)
    near, said = (x.new_zeros(experts * n * d) for _ in range(2))
    wide = x.new_zeros(experts * n * 2 * f)
    out, capacity = torch.empty_like(x), 0

    def run(x, logits):
        nonlocal capacity
        going = dispatch(logits, top)
        capacity = int(going.counts.max())
        places = padded(going, capacity)
        rows = near[: experts * capacity * d].view(-1, d)
        rows.index_copy_(0, places, x[going.tokens])
        hidden = wide[: experts * capacity * 2 * f].view(experts, capacity, 2 * f)
        torch.bmm(rows.view(experts, capacity, d), up.mT, out=hidden)
        answers = said[: experts * capacity * d].view(experts, capacity, d)
        torch.bmm(gated(hidden), down.mT, out=answers)
        chosen = answers.view(-1, d)[places].mul_(going.gates[:, None])
        return out.zero_().index_add_(0, going.tokens, chosen)

    return Prepared(
        run,
        executed=lambda: 6 * experts * capacity * d * f,
        values=up.nbytes + down.nbytes,
        metadata=0,
        holds=(up, down, near, said, wide, out),
    )
