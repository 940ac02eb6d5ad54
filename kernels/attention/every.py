"""Every block: a mask that leaves nothing out, of blocks as large as the sequence allows."""

from math import gcd

import torch

from suite.selection import from_map

LEAST, LARGEST = 16, 128  # tokens of a block


def every(a, q, causal):
    """All blocks, or (causal) those up to a query's own."""
    heads, n, _ = q.shape
    kept = torch.ones(n // gcd(n, LARGEST), n // gcd(n, LARGEST), dtype=torch.bool, device=q.device)
    return from_map((kept.tril() if causal else kept).expand(heads, -1, -1), a.pattern)
