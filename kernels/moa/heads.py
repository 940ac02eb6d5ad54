"""Heads: attention of all choices of a call by torch. Those of a token are heads that share their keys."""

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries and answers [n, choices, g, f]."""
    k, v = (one[:, None].expand(-1, q.shape[1], -1, -1) for one in (k, v))
    return scaled_dot_product_attention(q.permute(2, 1, 0, 3), k, v, is_causal=True).permute(2, 1, 0, 3)
