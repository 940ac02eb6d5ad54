"""Heads: attention of all choices of a call at once. Those of a token are heads that share their keys."""

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from suite import native
from suite.kernel import Prepared
from suite.kernels.attention.attention_block import MOST, SOURCE, UNIT, prepare
from suite.kernels.attention.attention_flash_triton import LEAST, every
from suite.sparse import Sparse

DIVIDES = {"n": LEAST, "f": UNIT}  # of `flash`


def refuse(case, device):
    """What else it cannot take."""
    reasons = native.missing()
    if case["f"] > MOST:
        reasons.append(f"needs heads of at most {MOST} numbers, got f={case['f']}")
    return reasons


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """By torch, queries and answers [n, choices, g, f]."""
    k, v = (one[:, None].expand(-1, q.shape[1], -1, -1) for one in (k, v))
    return scaled_dot_product_attention(q.permute(2, 1, 0, 3), k, v, is_causal=True).permute(2, 1, 0, 3)


def flash(route: Sparse, q: Tensor, k: Tensor) -> Prepared:
    """By the C++ of `attention_causal_flash`, queries and answers [g * choices, n, f]."""
    return prepare(native.load(SOURCE), every(route, q, causal=True), q, k, causal=True)
