"""Blocks in C++: flash attention over the blocks that a mask keeps; what it leaves out costs nothing.

Queries are lanes. Scores of a panel of queries are computed a chunk of keys at a time, become weights where
they stand, and are summed with the values at once: no more of them than fit into the near caches ever exists.
Sums are in float32, as are scores; weights are rounded to bfloat16 where the processor multiplies such pairs.
Values are packed by pairs of keys within the call, once for all heads that share them.

Bad at: blocks of 16 tokens, where a key that is loaded meets one register of queries; few blocks in all,
where packing is most of it; 64 numbers a head and less, where a sixth of the time goes into exponentials.
"""

from ctypes import CDLL, Structure, byref, c_double, c_int64, c_void_p
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suite import native
from suite.kernel import Prepared, kernel
from suite.selection import Selection
from suite.sparse import Sparse

SOURCE = Path(__file__).with_suffix(".cpp")
DTYPES = ("float32", "bfloat16")
BLOCKS = (16, 32, 64, 128)  # tokens
UNIT, MOST = 16, 256  # numbers of a head: a multiple, and no more


class Plan(Structure):
    """The struct of this name in the source, which says what the fields are."""

    ARRAYS = ("starts", "columns", "order", "bias", "keys", "values", "work")
    NUMBERS = ("heads", "groups", "n", "there", "d", "block", "causal", "threads")
    _fields_ = [
        *((name, c_void_p) for name in ARRAYS),
        *((name, c_int64) for name in NUMBERS),
        ("least", c_double),
        ("passed", c_void_p),
    ]


class Sizes(Structure):
    """Likewise."""

    _fields_ = [(name, c_int64) for name in ("keys", "values", "work", "width", "depth")]


def refuse(case, device):
    reasons = native.missing()
    if case["b"] not in BLOCKS:
        reasons.append(f"needs b to be one of {', '.join(map(str, BLOCKS))}, got {case['b']}")
    if case["d"] % UNIT or case["d"] > MOST:
        reasons.append(f"needs d divisible by {UNIT} and at most {MOST}, got {case['d']}")
    return reasons


def in_turn(a: Sparse, heads: int) -> Tensor:
    """The rows of a mask, head after head for the caches' sake; of each head, long ones first."""
    rows = a.shape[0]
    order = np.lexsort((-a.row_lengths.numpy(), np.arange(rows) // (rows // heads)))
    return torch.from_numpy(order.astype(np.int32))


def executed(a: Sparse, sizes: Sizes, plan: Plan) -> int:
    """FLOPs: of a diagonal block, a panel looks at the keys up to its last query."""
    seen = a.nonzeros * plan.block**2
    if plan.causal:
        rows = torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths)
        diagonal = int((rows % (plan.n // plan.block) == a.columns).sum())
        panels = plan.block // sizes.width
        seen -= diagonal * sizes.width**2 * panels * (panels - 1) // 2
    return 2 * (sizes.depth + plan.d) * seen


def prepare(
    library: CDLL, a: Sparse, q: Tensor, k: Tensor, causal: bool, plan: Plan | None = None
) -> Prepared:
    """Attention of q to k by the source, over the pairs of blocks that a stores; a plan may be begun."""
    (heads, n, d), threads = q.shape, torch.get_num_threads()
    block, plan = heads * n // a.shape[0], plan or Plan()
    plan.heads, plan.n, plan.d, plan.block, plan.causal, plan.threads = heads, n, d, block, causal, threads
    sizes, now = Sizes(), a  # of what it looks at, and what the call before looked at
    held: dict[str, Tensor] = {}  # what the plan points to, now: own keys may need more room

    def look(a: Sparse, k: Tensor) -> None:
        """At these blocks of these keys from now on."""
        nonlocal now
        now = a
        plan.groups, plan.there = k.shape[:2]
        library.sizes(byref(plan), q.dtype == torch.bfloat16, byref(sizes))
        held.update(starts=a.starts.int(), columns=a.columns, order=in_turn(a, heads))
        held.pop("bias", None)
        plan.bias = None
        if isinstance(a, Selection) and a.bias is not None:
            held["bias"] = a.bias * sqrt(d)
        for name, room in (("keys", sizes.keys), ("values", sizes.values), ("work", sizes.work * threads)):
            if name not in held or held[name].nbytes < room:
                held[name] = torch.empty(room, dtype=torch.uint8)
        for name, one in held.items():
            setattr(plan, name, one.data_ptr())

    look(a, own(a, k, k)[0])
    out = torch.empty_like(q)
    dtype = str(q.dtype).removeprefix("torch.")
    live = (native.LIVE,) * 3
    attend = native.bind(library[f"attention_{dtype}"], byref(plan), *live, out)

    def run(q, k, v, found=None):
        wanted = a if found is None else found
        k, v = own(wanted, k, v)
        if found is not None or now is not a:
            look(wanted, k)
        attend(q, k, v)
        return out

    return Prepared(
        run,
        executed=executed(a, sizes, plan),
        values=0,
        metadata=sum(held[name].nbytes for name in ("starts", "columns", "order")),
        holds=(held, out),
        note={"panel": sizes.width},
    )


def own(a: Sparse, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The keys and values to look at: those that were chosen, if any were."""
    if isinstance(a, Selection) and a.k is not None and a.v is not None:
        return a.k, a.v
    return k, v


@kernel(op="attention", on="cpu", dtypes=DTYPES, refuse=refuse, chooses=True)
def attention_block(a, q, k, v):
    """Flash attention over the blocks a mask keeps, in C++."""
    return prepare(native.load(SOURCE), a, q, k, causal=False)
