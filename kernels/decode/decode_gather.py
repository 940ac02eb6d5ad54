"""Gather in C++: one query a head over the pages that it keeps, each row of the cache read once for all heads
of a group that look at it.

Scores are sums along rows of keys, sixteen sums at once; weights are float32, as are all sums. Rows that are
next are fetched while others are multiplied, so scattered pages stream nearly as whole ones do. Contexts are
cut into splits of fixed length that threads take in turn, so a single sequence keeps all of them busy.

Bad at: heads of one group that keep different pages, each of which is read anew; caches of a few hundred
tokens, where starting threads is most of it.
"""

from ctypes import CDLL, Structure, byref, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from suite import native
from suite.kernel import Prepared, kernel
from suite.ops.decode import bytes_read, tokens_of
from suite.selection import Selection
from suite.sparse import Sparse

SOURCE = Path(__file__).with_suffix(".cpp")
DTYPES = ("float32", "bfloat16")
UNIT, MOST = 16, 256  # numbers of a head: a multiple, and no more
PART = 16  # floats beside the sums of a part


class Plan(Structure):
    """The struct of this name in attend.h, which says what the fields are."""

    ARRAYS = ("starts", "columns", "bias", "k", "v", "work")
    NUMBERS = ("n", "h", "groups", "there", "d", "page", "splits", "threads")
    _fields_ = [*((name, c_void_p) for name in ARRAYS), *((name, c_int64) for name in NUMBERS)]
    held = cache = None  # what addresses are of, as long as there is a plan


def refuse(case, device):
    reasons = native.missing()
    if case["d"] % UNIT or case["d"] > MOST:
        reasons.append(f"needs d divisible by {UNIT} and at most {MOST}, got {case['d']}")
    return reasons


def work(plan: Plan, longest: int, library: CDLL, held: Tensor | None = None) -> Tensor:
    """Room for what comes of each split of rows of up to so many tokens: what is held, if it will do."""
    plan.splits = max(1, -(-longest // library.split()))
    needed = plan.n * plan.h * plan.splits * (plan.d + PART)
    held = held if held is not None and len(held) >= needed else torch.empty(needed)
    plan.work, plan.held = held.data_ptr(), held
    return held


def bound(library: CDLL, plan: Plan, q: Tensor, out: Tensor):
    """A call that fills `out` for the queries it is given."""
    return native.bind(
        library[f"decode_{str(q.dtype).removeprefix('torch.')}"], byref(plan), native.LIVE, out
    )


def stream(library: CDLL, k: Tensor, v: Tensor, q: Tensor) -> Prepared:
    """Attention of q by the source, over all of a cache."""
    (n, h, d), (groups, there) = q.shape, k.shape[1:3]
    plan = Plan(n=n, h=h, groups=groups, there=there, d=d, threads=torch.get_num_threads())
    plan.k, plan.v, plan.cache = k.data_ptr(), v.data_ptr(), (k, v)
    parts, out = work(plan, there, library), torch.empty_like(q)
    attend = bound(library, plan, q, out)

    def run(q):
        attend(q)
        return out

    return Prepared(
        run,
        executed=4 * n * h * there * d,
        values=k.nbytes + v.nbytes,
        metadata=0,
        holds=(k, v, parts, out),
    )


def gather(library: CDLL, a: Sparse, k: Tensor, v: Tensor, q: Tensor) -> Prepared:
    """Attention of q by the source, over the pages that a stores, or those chosen in each call."""
    n, h, d = q.shape
    plan = Plan(n=n, h=h, d=d, threads=torch.get_num_threads())
    now = a  # what the call before looked at
    held: dict[str, Tensor] = {}  # what the plan points to, now: a row that keeps more needs more room

    def look(a: Sparse) -> None:
        """At these pages from now on."""
        nonlocal now
        keys, values, bias = k, v, None
        if isinstance(a, Selection):
            keys, values, bias = (k if a.k is None else a.k), (v if a.v is None else a.v), a.bias
        now = a
        held.update(starts=a.starts.int(), columns=a.columns, k=keys, v=values)
        plan.starts, plan.columns, plan.k, plan.v = (
            held[one].data_ptr() for one in ("starts", "columns", "k", "v")
        )
        plan.bias = None if bias is None else bias.data_ptr()
        plan.groups, plan.there = keys.shape[1:3]
        plan.page = plan.there // a.shape[1]
        held["work"] = work(plan, int(a.row_lengths.max()) * plan.page, library, held.get("work"))

    look(a)
    out = torch.empty_like(q)
    attend = bound(library, plan, q, out)

    def run(q, found=None):
        if found is not None or now is not a:
            look(a if found is None else found)
        attend(q)
        return out

    return Prepared(
        run,
        executed=lambda: 4 * d * tokens_of(now, k),
        values=lambda: bytes_read(now, k),
        metadata=a.starts.nbytes + a.columns.nbytes,
        holds=(held, out),
    )


@kernel(op="decode", on="cpu", dtypes=DTYPES, refuse=refuse, chooses=True)
def decode_gather(a, k, v, q):
    """Attention of one query a head over the pages it keeps, in C++."""
    return gather(native.load(SOURCE), a, k, v, q)
