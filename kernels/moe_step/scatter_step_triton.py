"""A training step of scattered experts in Triton: what scatter_triton.py says, forward and back.

Tiles of one expert's choices load the rows of their tokens, or of their tokens' gradients, as a product goes
along; nothing is copied for a choice but what enters the gate. Answers and gradients of tokens are written by
choice, and added up by token in the order of its choices. A program of the gradients of weights has a tile of
one expert's, and goes through all of its choices: no atomics, so no answer depends on which program ends
first, and an expert without choices gets its zeros.

The host learns nothing of the route, so a step can be recorded into a graph.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from suite.cuda.tuning import Way, quickest
from suite.formats.routing import most
from suite.kernel import Prepared
from suite.kernels.moe.scatter_triton import WIDE, Choices, multiply, padded, ways
from suite.sparse import Sparse

# Rows and columns of a tile of a gradient, choices of a step; by the bytes of a number.
OUTERS = {
    2: (Way((64, 64, 64), 4, 3), Way((128, 64, 64), 8, 3), Way((64, 128, 32), 8, 3), Way((32, 64, 32), 4, 3)),
    4: (Way((32, 32, 16), 4, 2), Way((64, 32, 16), 8, 2)),
}


@triton.jit
def outer(
    edges,
    order,
    left,
    right,
    out,
    blocks,
    TOP: tl.constexpr,
    HIGH: tl.constexpr,
    BROAD: tl.constexpr,
    LEFT_TOKENS: tl.constexpr,
    RIGHT_TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEEP: tl.constexpr,
):
    """A tile of out [experts, HIGH, BROAD]: left^T right, summed along an expert's choices.

    left [.., HIGH] and right [.., BROAD] have rows of tokens, or of choices in the order of experts.
    """
    expert = tl.program_id(1)
    across = tl.cdiv(BROAD, COLUMNS)
    down = tl.program_id(0) // across * ROWS + tl.arange(0, ROWS)
    over = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    begin, end = tl.load(edges + expert * blocks), tl.load(edges + (expert + 1) * blocks)
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    for at in range(begin, end, DEEP):
        slots = at + tl.arange(0, DEEP)
        real = slots < end
        tokens = tl.load(order + slots, mask=real, other=0) // TOP
        lefts = (tokens if LEFT_TOKENS else slots).to(tl.int64)
        rights = (tokens if RIGHT_TOKENS else slots).to(tl.int64)
        one = tl.load(
            left + lefts[:, None] * HIGH + down[None, :],
            mask=real[:, None] & (down[None, :] < HIGH),
            other=0.0,
        )
        two = tl.load(
            right + rights[:, None] * BROAD + over[None, :],
            mask=real[:, None] & (over[None, :] < BROAD),
            other=0.0,
        )
        sums = tl.dot(tl.trans(one), two, sums, input_precision="ieee")
    place = (tl.cast(expert, tl.int64) * HIGH + down)[:, None] * BROAD + over[None, :]
    inside = (down[:, None] < HIGH) & (over[None, :] < BROAD)
    tl.store(out + place, sums.to(out.dtype.element_ty), mask=inside)


@triton.jit
def share(weights, n, TOP: tl.constexpr, TOKENS: tl.constexpr):
    """Weights of tokens become gates: shares of their sum."""
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    total = tl.zeros((TOKENS,), tl.float32)
    for choice in range(TOP):
        total += tl.load(weights + token * TOP + choice, mask=token < n, other=0.0)
    total = tl.where(total == 0, 1.0, total)
    for choice in range(TOP):
        own = tl.load(weights + token * TOP + choice, mask=token < n, other=0.0)
        tl.store(weights + token * TOP + choice, own / total, mask=token < n)


@triton.jit
def open_gate(wide, hidden, edges, last, F: tl.constexpr, WIDE: tl.constexpr):
    """hidden = silu(gate) * up, of a choice."""
    slot = tl.cast(tl.program_id(0), tl.int64)
    if slot >= tl.load(edges + last):
        return
    for at in range(0, F, WIDE):
        across = at + tl.arange(0, WIDE)
        gate = tl.load(wide + slot * 2 * F + across, mask=across < F, other=0.0).to(tl.float32)
        up = tl.load(wide + slot * 2 * F + F + across, mask=across < F, other=0.0).to(tl.float32)
        made = gate / (1 + tl.exp(-gate)) * up
        tl.store(hidden + slot * F + across, made.to(hidden.dtype.element_ty), mask=across < F)


@triton.jit
def shut_gate(wide, asked, hidden, order, weights, learnt, edges, last, F: tl.constexpr, WIDE: tl.constexpr):
    """Of a choice: `wide` becomes its gradient and `hidden` is weighed, from what `asked` it back unweighed.

    learnt: the gradient of its weight.
    """
    slot = tl.cast(tl.program_id(0), tl.int64)
    if slot >= tl.load(edges + last):
        return
    choice = tl.load(order + slot)
    weight = tl.load(weights + choice)
    total = tl.zeros((WIDE,), tl.float32)
    for at in range(0, F, WIDE):
        across = at + tl.arange(0, WIDE)
        gates, ups = wide + slot * 2 * F + across, wide + slot * 2 * F + F + across
        gate = tl.load(gates, mask=across < F, other=0.0).to(tl.float32)
        up = tl.load(ups, mask=across < F, other=0.0).to(tl.float32)
        back = tl.load(asked + slot * F + across, mask=across < F, other=0.0).to(tl.float32)
        open = 1 / (1 + tl.exp(-gate))
        opened = gate * open
        total += back * opened * up
        back *= weight
        slope = open * (1 + gate - opened)
        tl.store(gates, (back * up * slope).to(wide.dtype.element_ty), mask=across < F)
        tl.store(ups, (back * opened).to(wide.dtype.element_ty), mask=across < F)
        weighed = weight * opened * up
        tl.store(hidden + slot * F + across, weighed.to(hidden.dtype.element_ty), mask=across < F)
    tl.store(learnt + choice, tl.sum(total, 0))


@triton.jit
def choose_back(
    experts,
    weights,
    learnt,
    dlogits,
    n,
    COUNT: tl.constexpr,
    TOP: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Gradients of logits, back through the softmax of each token's choices."""
    token, expert = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, WIDTH)
    mean = tl.zeros((TOKENS,), tl.float32)
    for choice in range(TOP):
        at = tl.load(experts + token * TOP + choice, mask=token < n, other=-1)
        weight = tl.load(weights + token * TOP + choice, mask=at >= 0, other=0.0)
        mean += weight * tl.load(learnt + token * TOP + choice, mask=at >= 0, other=0.0)
    made = tl.zeros((TOKENS, WIDTH), tl.float32)
    for choice in range(TOP):
        at = tl.load(experts + token * TOP + choice, mask=token < n, other=-1)
        weight = tl.load(weights + token * TOP + choice, mask=at >= 0, other=0.0)
        own = weight * (tl.load(learnt + token * TOP + choice, mask=at >= 0, other=0.0) - mean)
        made += tl.where(expert[None, :] == at[:, None], own[:, None], 0.0)
    there = (token[:, None] < n) & (expert[None, :] < COUNT)
    tl.store(
        dlogits + token[:, None] * COUNT + expert[None, :], made.to(dlogits.dtype.element_ty), mask=there
    )


def prepare(route: Sparse, up: Tensor, down: Tensor, x: Tensor, logits: Tensor, dy: Tensor) -> Prepared:
    """A step, for any route of as many choices."""
    (count, d, f), n, top = down.shape, len(x), most(route)
    choices, size = n * top, x.element_size()
    y, dx, dup, ddown, dlogits = answer = tuple(torch.empty_like(one) for one in (x, x, up, down, logits))

    def nothing(*live: Tensor) -> tuple[Tensor, ...]:
        for one in answer:
            one.zero_()
        return answer

    if not top:
        return Prepared(nothing, 0, 0, 0, holds=answer)
    chosen = Choices(x, count, top)
    wide, hidden, asked = (x.new_empty(choices, width) for width in (2 * f, f, f))
    said, learnt = x.new_empty(choices, d), x.new_empty(choices, dtype=torch.float32)
    block = min(WIDE, triton.next_power_of_2(f))
    last = count * chosen.blocks

    def product(way: Way, source: Tensor, weight: Tensor, out: Tensor, **how: bool) -> None:
        sizes = {"INPUTS": source.shape[1], "GATED": False}
        chosen.launch(multiply, way, out.shape[1], source, weight, out, **sizes, **how)

    def gradient(way: Way, left: Tensor, right: Tensor, out: Tensor, **how: bool) -> None:
        (_, high, broad), (rows, columns, deep) = out.shape, way.tile
        outer[(-(-high // rows) * -(-broad // columns), count)](
            *(chosen.edges, chosen.order, left, right, out, chosen.blocks),
            TOP=top,
            HIGH=high,
            BROAD=broad,
            ROWS=rows,
            COLUMNS=columns,
            DEEP=deep,
            **way.options,
            **how,
        )

    enter = {"FROM_TOKENS": True, "TO_CHOICES": False}
    leave = {"FROM_TOKENS": False, "TO_CHOICES": True}

    def tuned(name: str, there, call, *operands: Tensor, **how: bool) -> Way:
        key = ("moe_step", name, x.dtype, count, d, f, n, top)
        return quickest(key, there, lambda way: call(way, *operands, **how), x)

    chosen.sort(logits)
    tall = ways(choices, count, size)
    chose = {
        "enter": tuned("enter", tall, product, x, up, wide, **enter, TURNED=False),
        "leave": tuned("leave", tall, product, hidden, down, said, **leave, TURNED=False),
        "enter_back": tuned("enter_back", tall, product, dy, down, asked, **enter, TURNED=True),
        "leave_back": tuned("leave_back", tall, product, wide, up, said, **leave, TURNED=True),
        "dup": tuned("dup", OUTERS[size], gradient, wide, x, dup, LEFT_TOKENS=False, RIGHT_TOKENS=True),
        "ddown": tuned(
            "ddown", OUTERS[size], gradient, dy, hidden, ddown, LEFT_TOKENS=True, RIGHT_TOKENS=False
        ),
    }

    def run(up: Tensor, down: Tensor, x: Tensor, logits: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
        chosen.sort(logits)
        share[(chosen.blocks,)](chosen.weights, n, TOP=top, TOKENS=chosen.tokens)
        product(chose["enter"], x, up, wide, **enter, TURNED=False)
        open_gate[(choices,)](wide, hidden, chosen.edges, last, F=f, WIDE=block)
        product(chose["leave"], hidden, down, said, **leave, TURNED=False)
        chosen.add_up(said, y)
        product(chose["enter_back"], dy, down, asked, **enter, TURNED=True)
        shut_gate[(choices,)](
            *(wide, asked, hidden, chosen.order, chosen.weights, learnt, chosen.edges, last), F=f, WIDE=block
        )
        product(chose["leave_back"], wide, up, said, **leave, TURNED=True)
        chosen.add_up(said, dx, weighed=False)
        gradient(chose["dup"], wide, x, dup, LEFT_TOKENS=False, RIGHT_TOKENS=True)
        gradient(chose["ddown"], dy, hidden, ddown, LEFT_TOKENS=True, RIGHT_TOKENS=False)
        choose_back[(chosen.blocks,)](
            *(chosen.experts, chosen.weights, learnt, dlogits, n), TOKENS=chosen.tokens, **chosen.sizes
        )
        return answer

    products = {"enter": (2 * f, d), "leave": (d, f), "enter_back": (f, d), "leave_back": (d, 2 * f)}

    def executed() -> int:
        flops = sum(chosen.executed(chose[name], *sides) for name, sides in products.items())
        loads = chosen.loads()
        for name, high, broad in (("dup", 2 * f, d), ("ddown", d, f)):
            rows, columns, deep = chose[name].tile
            steps = int((-(-loads // deep)).sum()) * deep
            flops += 2 * steps * padded(high, rows) * padded(broad, columns)
        return flops

    return Prepared(
        run,
        executed=executed,
        values=0,
        metadata=chosen.nbytes,
        holds=(*chosen.holds, wide, hidden, asked, said, learnt, *answer),
        note=chose,
    )
