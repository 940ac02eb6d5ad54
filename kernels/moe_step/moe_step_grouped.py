"""Grouped experts in C++, forward and back: tokens are multiplied where they are, in six products.

What moe_grouped.py does forward, with weights that change between calls: each panel of them is packed by the
thread that multiplies it, while it is in its caches. No row is padded, and no choice has a copy of its token
or of its gradient: only what enters and leaves the gate is kept for the way back. Gradients of weights are
sums along an expert's choices in one order, whatever the number of threads.

Bad at: one expert of many thousand tokens, whose columns no longer fit the caches. With few tokens it waits
for memory, for gradients of all weights are written, whoever was asked. Keeping what enters the gate and
nothing of d numbers is Tan et al.'s, "Scattered Mixture-of-Experts Implementation", 2024.
"""

from ctypes import CDLL, Structure, byref, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from suite import native
from suite.cpu.info import cache_bytes
from suite.formats.routing import most
from suite.kernel import Prepared, kernel
from suite.kernels.moe.moe_grouped import ALONE, TURNS, Routes, raw
from suite.sparse import Sparse

SOURCE = Path(__file__).with_suffix(".cpp")
UNIT = 4  # bytes


class Step(Routes):
    """The struct of this name in the source, which says what the fields are."""

    BUFFERS = ("wide", "hidden", "sums", "dshares", "means", "work")
    _fields_ = [*((name, c_void_p) for name in BUFFERS), *((name, c_int64) for name in ("group", "slab"))]


class Sizes(Structure):
    """Likewise."""

    _fields_ = [(name, c_int64) for name in ("lanes", "numbers", "wide", "outputs")]


def prepare(library: CDLL, route: Sparse, up: Tensor, down: Tensor, x: Tensor, logits: Tensor) -> Prepared:
    """The source's step, with room for any route of as many choices."""
    (experts, d, f), n, top = down.shape, len(x), most(route)
    threads = torch.get_num_threads() if 9 * n * top * d * f > ALONE else 1
    plan = Step(n=n, experts=experts, top=top, d=d, f=f, threads=threads)
    sizes, dtype, halves = Sizes(), str(x.dtype).removeprefix("torch."), x.dtype == torch.bfloat16
    library.sizes(byref(plan), halves, byref(sizes))
    wide, outputs, pair = sizes.wide, sizes.outputs, 2 * sizes.lanes
    near = cache_bytes("L2") // 2 // (pair * UNIT)  # units of a pair of panels
    plan.group = max(1, min(near * sizes.numbers // d, wide // pair))
    plan.slab = max(1, min(near * sizes.numbers // (2 * wide), -(-outputs // pair // (TURNS * threads))))
    library.work.restype = c_int64
    groups, choices, size = -(-wide // pair // plan.group), n * top, x.element_size()
    plan.make()
    plan.hold(
        wide=raw(choices * 2 * wide * size),
        hidden=raw(choices * wide * size),
        sums=raw(n * outputs * 4),
        dshares=raw(groups * choices * 4),
        means=raw(n * 4),
        work=raw(threads * library.work(byref(plan), halves)),
    )
    answer = tuple(torch.empty_like(one) for one in (x, x, up, down, logits))
    step = native.bind(library[f"step_{dtype}"], byref(plan), *[native.LIVE] * 5, *answer)

    def run(up, down, x, logits, dy):
        step(up, down, x, logits, dy)
        return answer

    def executed():
        loads = plan.loads
        each = 2 * wide * d + outputs * wide + wide * d + outputs * 2 * wide
        filled = (loads + sizes.numbers - 1) // sizes.numbers * sizes.numbers
        return 2 * int(loads.sum() * each + filled.sum() * (2 * f * outputs + d * wide))

    return Prepared(
        run,
        executed=executed,
        values=0,
        metadata=plan.nbytes,
        holds=(plan.held, *answer),
        note={"group": plan.group * pair, "slab": plan.slab * pair},
    )


@kernel(
    op="moe_step",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    refuse=lambda case, device: native.missing(),
    ids=("scattermoe",),
)
def moe_step_grouped(route, up, down, x, logits, dy):
    """Experts on scattered tokens forward and back, nothing padded or copied, in C++."""
    return prepare(native.load(SOURCE), route, up, down, x, logits)
