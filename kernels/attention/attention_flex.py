"""FlexAttention: torch compiles a kernel for the mask, which passes over its empty blocks.

Bad at: the first call of a shape, which takes seconds to compile; it runs at the full extent alone.
"""

import torch

from suite import native
from suite.kernel import Prepared, kernel

LEAST = 32  # tokens of a block, and numbers of a head: its template has no smaller ones


def refuse(case, device):
    reasons = native.missing()
    reasons += [f"needs {size} of {LEAST} at least, got {case[size]}" for size in "bd" if case[size] < LEAST]
    if " " in torch.__file__:
        reasons.append("needs a torch in a folder without a space: what it compiles is not linked elsewhere")
    return reasons


def prepare(a, q, k, causal):
    from torch.nn.attention import flex_attention as flex

    heads, n, _ = q.shape
    across, size = a.shape[1], n // a.shape[1]
    counts = a.row_lengths.int().reshape(1, heads, across)
    indices = torch.zeros(heads * across, across, dtype=torch.int32)
    rows = torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths)
    within = torch.arange(a.nonzeros) - a.starts.long()[rows]
    indices[rows, within] = a.columns
    within_causal = (lambda b, h, i, j: i >= j) if causal else None
    mask = flex.BlockMask.from_kv_blocks(
        counts, indices.reshape(1, heads, across, across), BLOCK_SIZE=size, mask_mod=within_causal
    )
    torch._dynamo.reset()  # of a process's many shapes, each is compiled for itself
    compiled = torch.compile(flex.flex_attention, dynamic=False)
    shared = heads != len(k)

    def run(q, k, v):
        with torch.no_grad():
            return compiled(q[None], k[None], v[None], block_mask=mask, enable_gqa=shared)[0]

    return Prepared(run, values=0, metadata=counts.nbytes + indices.nbytes, holds=(counts, indices))


@kernel(op="attention", on="cpu", dtypes=("float32", "bfloat16"), refuse=refuse, extents=("full",))
def attention_flex(a, q, k, v):
    """torch's flex_attention, compiled for a BlockMask."""
    return prepare(a, q, k, causal=False)
