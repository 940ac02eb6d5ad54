"""decode_pruned: decode over a cache whose keys and values are pruned, token by token, by magnitude.

There are n sequences of t tokens; h query heads share g heads of keys and values; d numbers a head. The
matrix of a case has a row for each token's key, sequence after sequence and head after head, then one for
each value; its pattern says how many numbers of a row stay: those of largest magnitude. It comes stored (a),
and laid out with its zeros (k, v: [n, g, t, d]). q and the answer are [n, h, d]. A token whose key is pruned
away whole scores 0: it is still there.

Dense kernels answer for the cache before it was pruned.
"""

import torch
from torch import Tensor

from suite.case import Case
from suite.op import Op, Operands, register
from suite.ops import decode
from suite.ops.decode import drawn, shares, tolerance_of
from suite.pattern import Pattern
from suite.sparse import Sparse, from_positions


def pruned(rows: Tensor, counts: Tensor, pattern: Pattern) -> Sparse:
    """Of each row, as many numbers as are asked for: the largest magnitudes."""
    m, d = rows.shape
    kept = torch.zeros(m, d, dtype=torch.bool)
    most = int(counts.max()) if m else 0
    best = rows.abs().topk(most, -1).indices
    kept.scatter_(1, best, torch.arange(most) < counts[:, None])
    starts = torch.zeros(m + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=starts[1:])
    return from_positions(starts.numpy(), kept.nonzero()[:, 1].numpy(), rows[kept], (m, d), pattern)


def around(case: Case, a: Sparse) -> Operands:
    """The cache pruned to the row lengths of a, and the queries."""
    k, v, q = drawn(case)
    rows = torch.cat((k.flatten(0, 2), v.flatten(0, 2)))
    stored = pruned(rows, a.row_lengths, a.pattern)
    k, v = stored.rows_dense(0, stored.shape[0]).view(2, *k.shape)
    return stored, k, v, q


def whole(case: Case, operands: Operands) -> Operands:
    """Nothing pruned."""
    a, *_, q = operands
    k, v, _ = (one.to(q.device) for one in drawn(case))
    return a, k, v, q


def answer(a: Sparse, k: Tensor, v: Tensor, q: Tensor) -> Tensor:
    """In the dtype of q, with a rounding after every step, as eager code has it."""
    return decode.in_full(k, v, q)


def reference(a: Sparse, k: Tensor, v: Tensor, q: Tensor) -> Tensor:
    """In float64."""
    return answer(a, k, v, q.double()).cpu()


def allowed(operands: Operands, expected: Tensor) -> Tensor:
    """As in decode."""
    return tolerance_of(answer(*(one.to("cpu") for one in operands)), expected)


def twin(operands: Operands, *_: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """Each query with its numbers reversed; the cache stays."""
    a, k, v, q = operands
    other = a, k, v, q.flip(-1)
    answered = reference(a, k, v, q.flip(-1))
    return other, answered, allowed(other, answered)


DECODE_PRUNED = register(
    Op(
        name="decode_pruned",
        operands=("a", "k", "v", "q"),
        live=(3,),
        sizes=("n", "h", "g", "t", "d"),
        shape=lambda case: (2 * case["n"] * case["g"] * case["t"], case["d"]),
        rules=shares,
        around=around,
        whole=whole,
        reference=reference,
        allowed=lambda case, operands, expected: allowed(operands, expected),
        twin=twin,
        nominal=decode.DECODE.nominal,
        useful=lambda case, operands: 2 * operands[0].nonzeros * (case["h"] // case["g"]),
        least_values=lambda case, operands: operands[0].nonzeros * case.torch_dtype.itemsize,
        live_bytes=decode.DECODE.live_bytes,
        about="decoding over a pruned cache",
    )
)
