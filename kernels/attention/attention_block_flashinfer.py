"""Blocks by FlashInfer: its attention over blocks of any size, a mask for each head of keys.

A mask is spread to lists of single tokens and planned for on the host, within the call where it is chosen
there. Its masks are of heads of keys, so heads of queries do not share any; blocks that are seen in part, as
under a causal mask, it has none.

Bad at: choosing anew in each call, for the plan.
"""

import torch

from suite.kernel import Prepared, Refused, kernel
from suite.kernels.decode import by_flashinfer
from suite.kernels.decode.by_flashinfer import DTYPES, ISA, library, workspace
from suite.selection import Selection


def refuse(case, device):
    reasons = by_flashinfer.refuse(case, device)
    if case["h"] != case["g"]:
        reasons.append(f"needs as many heads of keys as of queries, got h={case['h']} by g={case['g']}")
    return reasons


@kernel(op="attention", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, chooses=True)
def attention_block_flashinfer(a, q, k, v):
    """FlashInfer's attention over the blocks a mask keeps."""
    heads, n, d = q.shape
    across = a.shape[0] // heads
    if int(a.row_lengths.min()) == 0:
        raise Refused("needs every block of queries to see something")
    wrapper = library().VariableBlockSparseAttentionWrapper(workspace(q.device))
    planned = None

    def sizes(count, tokens):
        """Tokens of each block."""
        return torch.full((heads, count), tokens // count, dtype=torch.int32, device=q.device)

    def plan(a):
        """For this mask from now on."""
        nonlocal planned
        tokens = n
        if isinstance(a, Selection):
            if a.bias is not None:
                raise Refused("adds no biases to scores, and the selector brings some")
            tokens = n if a.k is None else a.k.shape[1]
        kept = torch.zeros(a.shape, dtype=torch.bool, device=q.device)
        rows = torch.arange(a.shape[0], device=q.device).repeat_interleave(a.row_lengths)
        kept[rows, a.columns.long()] = True
        kept = kept.view(heads, across, -1)
        wrapper.plan(
            *(kept, sizes(across, n), sizes(a.shape[1], tokens), heads, heads, d), q_data_type=q.dtype
        )
        planned = a

    plan(a)

    def run(q, k, v, found=None):
        if (wanted := a if found is None else found) is not planned:
            plan(wanted)
        if found is not None:
            k, v = (k if found.k is None else found.k), (v if found.v is None else found.v)
        return wrapper.run(q, k, v)

    return Prepared(
        run,
        values=0,
        metadata=a.starts.nbytes + a.columns.nbytes,
        holds=(a.starts, a.columns, workspace(q.device)),
        hidden=True,
    )
