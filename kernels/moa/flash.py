"""Flash: attention of all choices of a call in C++, as `attention_causal_flash`; one token's share keys."""

from torch import Tensor

from suite import native
from suite.kernel import Prepared
from suite.kernels.attention.attention_block import MOST, SOURCE, UNIT, prepare
from suite.kernels.attention.every import LEAST, every
from suite.sparse import Sparse

DIVIDES = {"n": LEAST, "f": UNIT}


def refuse(case, device):
    """What else it cannot take."""
    reasons = native.missing()
    if case["f"] > MOST:
        reasons.append(f"needs heads of at most {MOST} numbers, got f={case['f']}")
    return reasons


def flash(route: Sparse, q: Tensor, k: Tensor) -> Prepared:
    """Queries and answers [g * choices, n, f]."""
    return prepare(native.load(SOURCE), every(route, q, causal=True), q, k, causal=True)
