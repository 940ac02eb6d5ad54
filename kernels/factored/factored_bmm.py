"""Monarch factors as two batches of small dense products, by torch, `x` in rows.

Where a block and a group share one hidden number, the first batch writes it where the second reads it. Where
they share more, hidden numbers are copied in between. Bad at: many small blocks, each a call of its own to
the library; a single column.
"""

import torch

from suite.formats.monarch import blocks
from suite.kernel import Prepared, kernel
from suite.patterns.monarch import Monarch

DTYPES = ("float32", "bfloat16", "float16")


@kernel(op="factored", on="cpu", dtypes=DTYPES, patterns=(Monarch,), ids=("monarch",))
def factored_bmm(a, x):
    """torch.bmm twice, with the permutation in the strides."""
    held, n = blocks(a.to("cpu")), x.shape[1]
    right, left = (one.to(x.device).contiguous() for one in (held.right, held.left))
    (cut, width, _), (groups, outputs, _) = right.shape, left.shape
    dealt = x.new_empty(groups, cut * held.rank, n)
    by_block = dealt.view(groups, cut, held.rank, n).transpose(0, 1)
    hidden = by_block[:, :, 0] if held.rank == 1 else x.new_empty(cut, width, n)
    out = x.new_empty(outputs, groups, n)
    answer, by_group = out.view(-1, n), out.transpose(0, 1)

    def run(x):
        torch.bmm(right, x.view(cut, -1, n), out=hidden)
        if held.rank > 1:
            by_block.copy_(hidden.view(by_block.shape))
        torch.bmm(left, dealt, out=by_group)
        return answer

    return Prepared(
        run,
        executed=2 * held.parameters * n,
        values=right.nbytes + left.nbytes,
        metadata=0,
        holds=(right, left, hidden, dealt, out),
        note={"algorithm": f"{cut}x{groups}", "rank": held.rank},
    )
