"""Grouped experts in C++: tokens are multiplied where they are, and their sums stay by token.

A call chooses experts and sorts the choices; the rows of an expert's tokens are then brought near, a few at
a time, and multiplied by packed panels of its weights. No row is padded, and no choice has a copy of its
token or an answer of its own: only its f hidden numbers are kept between the two products. Threads share the
panels, not the tokens, so no load is uneven, and a token's sums are added in one order.

Bad at: large calls on processors that multiply bfloat16 in registers alone, where any dense product is near
the same ceiling. Scattered reading and writing within the product is Tan et al.'s, "Scattered
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
from suite.sparse import Sparse

SOURCE = Path(__file__).with_suffix(".cpp")
ALONE = 2**20  # multiply-adds that are done before a second thread has begun
TURNS = 4  # pieces of work a thread, so that the last to finish is not long alone


class Routes(Structure):
    """The struct of this name in moe_parts.h, which says what the fields are."""

    ARRAYS = ("chosen", "gates", "order", "starts", "tokens", "shares")
    NUMBERS = ("n", "experts", "top", "d", "f", "threads")
    _fields_ = [*((name, c_void_p) for name in ARRAYS), *((name, c_int64) for name in NUMBERS)]

    def hold(self, **arrays):
        """Point to arrays, and keep them: it knows no more than where they are."""
        for name, one in arrays.items():
            setattr(self, name, one.data_ptr())
        self.held = getattr(self, "held", {}) | arrays

    def make(self):
        """Its own arrays, in numbers of four bytes each."""
        choices, each = self.n * self.top, self.experts
        sizes = (choices, choices, each, each + 1, choices, choices)
        self.hold(**{name: raw(4 * size) for name, size in zip(self.ARRAYS, sizes, strict=True)})

    @property
    def loads(self):
        """How many choices each expert had in the last call."""
        return self.held["starts"].view(torch.int32).diff()

    @property
    def nbytes(self):
        """Of its own arrays."""
        return sum(self.held[name].nbytes for name in self.ARRAYS)


class Plan(Routes):
    """The struct of this name in moe_experts.h."""

    BUFFERS = ("up", "down", "hidden", "sums", "work")
    _fields_ = [*((name, c_void_p) for name in BUFFERS), *((name, c_int64) for name in ("group", "slab"))]


class Sizes(Structure):
    """Likewise."""

    _fields_ = [
        (name, c_int64) for name in ("lanes", "step", "number", "up", "down", "hidden", "sums", "work")
    ]


def raw(size):
    return torch.empty(size, dtype=torch.uint8)


def prepare(library: CDLL, route: Sparse, up: Tensor, down: Tensor, x: Tensor) -> Prepared:
    """The source's experts, with room for any route of as many choices."""
    (experts, d, f), n, top = down.shape, len(x), most(route)
    threads = torch.get_num_threads() if 3 * n * top * d * f > ALONE else 1
    plan = Plan(n=n, experts=experts, top=top, d=d, f=f, threads=threads)
    sizes, dtype = Sizes(), str(x.dtype).removeprefix("torch.")
    library.sizes(byref(plan), x.dtype == torch.bfloat16, byref(sizes))
    gates, outputs = -(-f // sizes.lanes), -(-d // (2 * sizes.lanes))  # pairs of panels
    near = cache_bytes("L2") // 2 * gates // sizes.up
    plan.group = max(1, min(near, top * gates // (TURNS * threads)))
    plan.slab = -(-outputs // (TURNS * threads))
    plan.make()
    plan.hold(
        up=raw(experts * sizes.up),
        down=raw(experts * sizes.down),
        hidden=raw(n * top * sizes.hidden),
        sums=raw(n * sizes.sums),
        work=raw(threads * sizes.work),
    )
    native.bind(library[f"pack_{dtype}"], byref(plan), up, down)()
    out = torch.empty_like(x)
    ask = native.bind(library[f"moe_{dtype}"], byref(plan), native.LIVE, native.LIVE, out)
    each = sizes.up + sizes.down

    def run(x, logits):
        ask(x, logits)
        return out

    def executed():
        rows = (plan.loads + sizes.step - 1) // sizes.step * sizes.step
        return int(rows.sum()) * 2 * each // sizes.number

    return Prepared(
        run,
        executed=executed,
        values=touched(route) * each,
        metadata=plan.nbytes,
        holds=(plan.held, out),
        note={"group": plan.group * sizes.lanes, "slab": plan.slab * 2 * sizes.lanes},
    )


@kernel(
    op="moe",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    refuse=lambda case, device: native.missing(),
    ids=("scattermoe",),
)
def moe_grouped(route, up, down, x, logits):
    """Experts on scattered tokens, nothing padded or copied, in C++."""
    return prepare(native.load(SOURCE), route, up, down, x)
