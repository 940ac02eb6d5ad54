"""Grouped experts around flash attention, in C++: tokens are multiplied where they are, as in moe_grouped.py.

A call chooses experts and sorts the choices. Queries of an expert's tokens go where each token's choices are,
so that attention takes them all at once, as heads that share keys, tokens in their order; what heads say is
read from there for the product behind, whose sums stay by token. No choice has a copy of its token or an
answer of d numbers; and a token of fewer experts than others leaves heads empty, which attention takes along.

Bad at: experts of one narrow head, whose products have few panels for threads to share; routes that leave
many tokens with few experts. Scattering to and from the products is Tan et al.'s, "Scattered
Mixture-of-Experts Implementation", 2024.
"""

from ctypes import CDLL, Structure, byref, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from suite import native
from suite.cpu.info import cache_bytes
from suite.formats.routing import most, touched
from suite.kernel import Prepared, kernel
from suite.kernels.moa.flash import DIVIDES, flash, refuse
from suite.kernels.moe.moe_grouped import ALONE, TURNS, Routes, raw
from suite.sparse import Sparse

SOURCE = Path(__file__).with_suffix(".cpp")


class Mixture(Routes):
    """The struct of this name in the source, which says what the fields are."""

    BUFFERS = ("enter", "leave", "sums", "work")
    _fields_ = [
        *((name, c_void_p) for name in BUFFERS),
        *((name, c_int64) for name in ("heads", "group", "slab")),
    ]


class Needs(Structure):
    """Likewise."""

    _fields_ = [(name, c_int64) for name in ("lanes", "number", "enter", "leave", "sums", "work")]


def prepare(library: CDLL, route: Sparse, wq: Tensor, wo: Tensor, x: Tensor, k: Tensor) -> Prepared:
    """The source's products around attention, with room for any route of as many choices."""
    (experts, d, wide), (heads, n, f), top = wo.shape, k.shape, most(route)
    out = torch.empty_like(x)
    if not top:
        return Prepared(lambda *live: out.zero_(), 0, 0, 0, holds=(out,))
    threads = torch.get_num_threads() if 2 * n * top * d * wide > ALONE else 1
    plan = Mixture(n=n, experts=experts, top=top, d=d, f=wide, threads=threads, heads=heads)
    needs, dtype = Needs(), str(x.dtype).removeprefix("torch.")
    library.needs(byref(plan), x.dtype == torch.bfloat16, byref(needs))
    pair = 2 * needs.lanes
    enters, leaves = -(-wide // pair), -(-d // pair)
    near = cache_bytes("L2") // 2 * enters // needs.enter
    plan.group = max(1, min(near, top * enters // (TURNS * threads)))
    plan.slab = -(-leaves // (TURNS * threads))
    plan.make()
    plan.hold(
        enter=raw(experts * needs.enter),
        leave=raw(experts * needs.leave),
        sums=raw(n * needs.sums),
        work=raw(threads * needs.work),
    )
    native.bind(library[f"pack_{dtype}"], byref(plan), wq, wo)()
    q = x.new_zeros(heads * top, n, f)
    attention = flash(route, q, k)
    enter = native.bind(library[f"enter_{dtype}"], byref(plan), native.LIVE, native.LIVE, q)
    leave = native.bind(library[f"leave_{dtype}"], byref(plan), native.LIVE, out)
    each = needs.enter + needs.leave

    def run(x, logits, k, v):
        enter(x, logits)
        leave(attention.run(q, k, v))
        return out

    return Prepared(
        run,
        executed=lambda: int(plan.loads.sum()) * 2 * each // needs.number + attention.executed,
        values=touched(route) * each,
        metadata=plan.nbytes + attention.metadata,
        holds=(plan.held, q, attention.holds, out),
        note={"group": plan.group * pair, "slab": plan.slab * pair, **attention.note},
    )


@kernel(
    op="moa",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    divides=DIVIDES,
    refuse=refuse,
    ids=("scattermoe",),
)
def moa_grouped(route, wq, wo, x, logits, k, v):
    """Experts on scattered tokens around flash attention, nothing padded or copied, in C++."""
    return prepare(native.load(SOURCE), route, wq, wo, x, k)
