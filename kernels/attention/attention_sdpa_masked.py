"""Masked: torch's attention with what the mask leaves out at minus infinity.

What users of exact masks (documents, prefixes, windows) write first. Bad at: every sparsity; it computes all
scores, and reads a number for each of them beside.
"""

import torch

from suite.kernel import Prepared, Refused, kernel

MOST = 2**31  # bytes of the mask, spelled out number by number


def spelled(a, q, causal):
    """[h, n, n] of 0 and minus infinity. Rows without any key stay 0 and are put right afterwards."""
    heads, n, _ = q.shape
    if heads * n * n * q.element_size() > MOST:
        raise Refused(f"spells the mask out: {heads * n * n * q.element_size() / 2**30:.0f} GiB here")
    kept = torch.zeros(a.shape, dtype=torch.bool)
    kept[torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths), a.columns.long()] = True
    size = n // a.shape[1]
    kept = kept.reshape(heads, a.shape[1], a.shape[1])
    kept = kept.repeat_interleave(size, 1).repeat_interleave(size, 2)
    if causal:
        kept &= torch.ones(n, n, dtype=torch.bool).tril()
    return torch.zeros(heads, n, n, dtype=q.dtype).masked_fill_(~kept, -torch.inf)


def prepare(a, q, k, causal):
    mask = spelled(a, q, causal)
    alone = (mask == -torch.inf).all(-1, keepdim=True)
    mask.masked_fill_(alone, 0.0)
    heads, groups = len(q), len(k)

    def run(q, k, v):
        out = torch.nn.functional.scaled_dot_product_attention(
            q[None], k[None], v[None], attn_mask=mask[None], enable_gqa=heads != groups
        )[0]
        return out.masked_fill_(alone, 0.0)

    return Prepared(run, values=0, metadata=mask.nbytes, holds=(mask, alone))


@kernel(op="attention", on="cpu", dtypes=("float32", "bfloat16"), execution="masked")
def attention_sdpa_masked(a, q, k, v):
    """torch's scaled_dot_product_attention under an explicit mask."""
    return prepare(a, q, k, causal=False)
