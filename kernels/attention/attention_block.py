"""Blocks in C++: flash attention over the blocks that a mask keeps; what it leaves out costs nothing.

Queries are lanes. Scores of a panel of queries are computed a chunk of keys at a time, become weights where
they stand, and are summed with the values at once: no more of them than fit into the near caches ever exists.
Sums are in float32, as are scores; weights are rounded to bfloat16 where the processor multiplies such pairs.
Values are packed by pairs of keys within the call, once for all heads that share them.

Bad at: blocks of 16 tokens, where a key that is loaded meets one register of queries; few blocks in all,
where packing is most of it; 64 numbers a head and less, where a sixth of the time goes into exponentials.
"""

from ctypes import CDLL, Structure, byref, c_int64, c_void_p
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suite import native
from suite.kernel import Prepared, kernel
from suite.sparse import Sparse

SOURCE = Path(__file__).with_suffix(".cpp")
DTYPES = ("float32", "bfloat16")
BLOCKS = (16, 32, 64, 128)  # tokens
UNIT, MOST = 16, 256  # numbers of a head: a multiple, and no more


class Plan(Structure):
    """The struct of this name in the source, which says what the fields are."""

    ARRAYS = ("starts", "columns", "order", "keys", "values", "work")
    NUMBERS = ("heads", "groups", "n", "d", "block", "causal", "threads")
    _fields_ = [*((name, c_void_p) for name in ARRAYS), *((name, c_int64) for name in NUMBERS)]


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


def in_turn(a: Sparse) -> Tensor:
    """The rows of a mask, head after head for the caches' sake; of each head, long ones first."""
    rows, across = a.shape
    order = np.lexsort((-a.row_lengths.numpy(), np.arange(rows) // across))
    return torch.from_numpy(order.astype(np.int32))


def executed(a: Sparse, sizes: Sizes, block: int, d: int, causal: bool) -> int:
    """FLOPs: of a diagonal block, a panel looks at the keys up to its last query."""
    rows, across = a.shape
    seen = a.nonzeros * block**2
    if causal:
        numbers = torch.repeat_interleave(torch.arange(rows), a.row_lengths)
        panels = block // sizes.width
        seen -= int((numbers % across == a.columns).sum()) * sizes.width**2 * panels * (panels - 1) // 2
    return 2 * (sizes.depth + d) * seen


def prepare(library: CDLL, a: Sparse, q: Tensor, k: Tensor, causal: bool) -> Prepared:
    """Attention of q to k by the source, over the pairs of blocks that a stores."""
    (heads, n, d), threads = q.shape, torch.get_num_threads()
    block = n // a.shape[1]
    plan = Plan(heads=heads, groups=len(k), n=n, d=d, block=block, causal=causal, threads=threads)
    sizes = Sizes()
    library.sizes(byref(plan), q.dtype == torch.bfloat16, byref(sizes))
    index = (a.starts.int(), a.columns, in_turn(a))
    buffers = (sizes.keys, sizes.values, sizes.work * threads)
    held = (*index, *(torch.empty(size, dtype=torch.uint8) for size in buffers))
    for name, one in zip(Plan.ARRAYS, held, strict=True):
        setattr(plan, name, one.data_ptr())
    out = torch.empty_like(q)
    dtype = str(q.dtype).removeprefix("torch.")
    live = (native.LIVE,) * 3
    attend = native.bind(library[f"attention_{dtype}"], byref(plan), *live, out)

    def run(q, k, v):
        attend(q, k, v)
        return out

    return Prepared(
        run,
        executed=executed(a, sizes, block, d, causal),
        values=0,
        metadata=sum(one.nbytes for one in index),
        holds=(*held, out),
        note={"panel": sizes.width},
    )


@kernel(op="attention", on="cpu", dtypes=DTYPES, refuse=refuse)
def attention_block(a, q, k, v):
    """Flash attention over the blocks a mask keeps, in C++."""
    return prepare(native.load(SOURCE), a, q, k, causal=False)
