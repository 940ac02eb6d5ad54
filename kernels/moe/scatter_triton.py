"""Scattered experts in Triton: tiles of one expert's choices, read and written where the tokens are.

After Tan et al., "Scattered Mixture-of-Experts Implementation", 2024. A choice is one of the experts of a
token. Choices are sorted by expert; a tile of them loads the rows of their tokens as its product goes along,
so no token is copied for each of its experts, and no row of padding exists outside a program's registers.
The projections before and beside the activation share the loads of a tile, and only what the activation
gives is stored, in the order of experts. The projection behind it answers by choice. A last launch weighs the
answers of a token and adds them up: no atomics, so answers do not depend on which program ends first.

The host never learns how many tokens an expert has: tiles are launched for the most that there can be, and
those beyond the end stop at once. A call can thus be recorded into a graph.

Sorting is counting: each block of tokens counts its choices of each expert, and the running sum over experts
and, within each, blocks says where a block's choices of an expert go. A token chooses an expert once at most,
so the rank of a choice is the number of tokens before that made the same.

Tiles come in groups of GROUP, and within a group the columns change last, so that what runs at a time shares
the rows of few tokens and few panels of weights in L2.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from suite.cuda.tuning import Way, quickest
from suite.formats.routing import most, touched
from suite.kernel import Prepared
from suite.sparse import Sparse

TABLE = 4096  # logits of a program that routes
GROUP = 16  # tiles of choices that share panels
WIDE = 1024  # numbers of a program that adds up


# Choices and columns of a tile, numbers of a step; by the bytes of a number. Products of float32 are not the
# tensor cores', so their operands are in registers.
WAYS = {
    2: (
        *(
            Way((128, 64, 64), 8, 3),
            Way((128, 128, 64), 8, 3),
            Way((128, 64, 32), 4, 4),
            Way((64, 128, 64), 8, 3),
        ),
        *(Way((64, 64, 64), 4, 3), Way((64, 32, 64), 4, 4)),
        *(Way((32, 64, 64), 4, 3), Way((32, 64, 128), 4, 2), Way((32, 32, 64), 4, 4)),
        *(
            Way((16, 32, 128), 4, 4),
            Way((16, 64, 128), 4, 3),
            Way((16, 64, 64), 4, 4),
            Way((16, 32, 256), 4, 2),
        ),
    ),
    4: (
        *(Way((64, 32, 16), 8, 2), Way((64, 32, 32), 8, 2)),
        *(Way((32, 32, 16), 4, 2), Way((32, 32, 32), 4, 2)),
        *(Way((16, 32, 32), 4, 2), Way((16, 32, 64), 4, 2)),
    ),
}
LEAST = 16  # of a side that tensor cores take


@triton.jit
def choose(
    logits,
    experts,
    weights,
    counts,
    n,
    blocks,
    COUNT: tl.constexpr,
    TOP: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Of a block of tokens, the TOP experts of each; and how often it chose each expert.

    weights: powers of e, the largest 1. A logit of minus infinity is no choice: expert -1, weight 0.
    """
    token, expert = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, WIDTH)
    there = (token[:, None] < n) & (expert[None, :] < COUNT)
    left = tl.load(logits + token[:, None] * COUNT + expert[None, :], mask=there, other=-float("inf"))
    left = left.to(tl.float32)
    first = tl.max(left, 1)
    first = tl.where(first == -float("inf"), 0.0, first)
    chosen = tl.zeros((TOKENS, WIDTH), tl.int32)
    for choice in range(TOP):
        best, at = tl.max(left, 1, return_indices=True)
        at = tl.where(best == -float("inf"), -1, at)
        mine = expert[None, :] == at[:, None]
        chosen += mine.to(tl.int32)
        left = tl.where(mine, -float("inf"), left)
        tl.store(experts + token * TOP + choice, at, mask=token < n)
        tl.store(weights + token * TOP + choice, tl.exp(best - first), mask=token < n)
    tl.store(counts + expert * blocks + tl.program_id(0), tl.sum(chosen, 0), mask=expert < COUNT)


@triton.jit
def place(
    experts,
    edges,
    order,
    n,
    blocks,
    COUNT: tl.constexpr,
    TOP: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Numbers of a block's choices (token * TOP + choice), to where `edges` says that its experts' go."""
    token, expert = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, WIDTH)
    chosen = tl.zeros((TOKENS, WIDTH), tl.int32)
    for choice in range(TOP):
        at = tl.load(experts + token * TOP + choice, mask=token < n, other=-1)
        chosen += (expert[None, :] == at[:, None]).to(tl.int32)
    begin = tl.load(edges + expert * blocks + tl.program_id(0), mask=expert < COUNT, other=0)
    slots = begin[None, :] + tl.cumsum(chosen, 0) - chosen
    for choice in range(TOP):
        at = tl.load(experts + token * TOP + choice, mask=token < n, other=-1)
        slot = tl.sum(tl.where(expert[None, :] == at[:, None], slots, 0), 1)
        tl.store(order + slot, token * TOP + choice, mask=at >= 0)


@triton.jit
def tile_of(
    edges,
    tiles,
    blocks,
    COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Of this program: its expert, its slots, those that are the expert's, and its columns of the answer.

    A slot is the place of a choice in the order of experts. From COUNT on, the expert is none.
    """
    number = tl.program_id(0)
    across = tl.cdiv(OUTPUTS, COLUMNS)
    before = number // (GROUP * across) * GROUP
    beside = tl.minimum(GROUP, tiles - before)
    tile = before + number % (GROUP * across) % beside
    right = number % (GROUP * across) // beside * COLUMNS + tl.arange(0, COLUMNS)

    every = tl.arange(0, WIDTH)
    firsts = tl.load(edges + every * blocks, mask=every < COUNT, other=0)
    ends = tl.load(edges + (every + 1) * blocks, mask=every < COUNT, other=0)
    own = tl.cdiv(ends - firsts, ROWS)
    upto = tl.cumsum(own, 0)
    expert = tl.sum((upto <= tile).to(tl.int32), 0)
    mine = every == expert
    begin = tl.sum(tl.where(mine, firsts + (tile - upto + own) * ROWS, 0), 0)
    slots = begin + tl.arange(0, ROWS)
    real = slots < tl.sum(tl.where(mine, ends, 0), 0)
    return expert, slots, real, right


@triton.jit
def multiply(
    edges,
    order,
    source,
    weight,
    out,
    tiles,
    blocks,
    COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
    TOP: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    FROM_TOKENS: tl.constexpr,
    TO_CHOICES: tl.constexpr,
    TURNED: tl.constexpr,
    GATED: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEEP: tl.constexpr,
):
    """A tile of choices of one expert times columns of its weight.

    Rows come from tokens or from the order of experts, and go there or to their choices. weight:
    [COUNT, OUTPUTS, INPUTS], or [COUNT, INPUTS, OUTPUTS] if TURNED. GATED: [COUNT, 2 OUTPUTS, INPUTS], and
    what the first half gives is the gate of what the second does.
    """
    expert, slots, real, right = tile_of(edges, tiles, blocks, COUNT, WIDTH, OUTPUTS, GROUP, ROWS, COLUMNS)
    if expert >= COUNT:
        return
    choices = tl.load(order + slots, mask=real, other=0)
    rows = (choices // TOP if FROM_TOKENS else slots).to(tl.int64)

    deep = tl.arange(0, DEEP)
    inside = right[None, :] < OUTPUTS
    left = source + rows[:, None] * INPUTS + deep[None, :]
    below = weight + tl.cast(expert, tl.int64) * ((2 if GATED else 1) * OUTPUTS * INPUTS)
    if TURNED:
        below += right[None, :] + deep[:, None] * OUTPUTS
    else:
        below += right[None, :] * INPUTS + deep[:, None]
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    wide = tl.zeros((ROWS, COLUMNS), tl.float32)
    for at in range(0, INPUTS, DEEP):
        more = at + deep < INPUTS
        one = tl.load(left + at, mask=real[:, None] & more[None, :], other=0.0)
        sums = tl.dot(
            one,
            tl.load(below + at * (OUTPUTS if TURNED else 1), mask=more[:, None] & inside, other=0.0),
            sums,
            input_precision="ieee",
        )
        if GATED:
            wide = tl.dot(
                one,
                tl.load(below + OUTPUTS * INPUTS + at, mask=more[:, None] & inside, other=0.0),
                wide,
                input_precision="ieee",
            )
    if GATED:
        sums = sums / (1 + tl.exp(-sums)) * wide
    place = (choices if TO_CHOICES else slots).to(tl.int64)[:, None] * OUTPUTS + right[None, :]
    tl.store(out + place, sums.to(out.dtype.element_ty), mask=real[:, None] & inside)


@triton.jit
def add_up(
    experts,
    weights,
    said,
    out,
    D: tl.constexpr,
    TOP: tl.constexpr,
    WIDE: tl.constexpr,
    WEIGHED: tl.constexpr = True,
):
    """Of a token, what its experts said, in the order of its choices; weighed by their shares or not."""
    row = tl.cast(tl.program_id(0), tl.int64)
    across = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    sums = tl.zeros((WIDE,), tl.float32)
    total = 0.0
    for choice in range(TOP):
        upto = tl.where(tl.load(experts + row * TOP + choice) >= 0, D, 0)
        one = tl.load(said + (row * TOP + choice) * D + across, mask=across < upto, other=0.0)
        weight = tl.load(weights + row * TOP + choice) if WEIGHED else 1.0
        sums += weight * one.to(tl.float32)
        total += weight
    if WEIGHED:
        sums /= tl.where(total == 0, 1.0, total)
    tl.store(out + row * D + across, sums.to(out.dtype.element_ty), mask=across < D)


def ways(choices: int, experts: int, size: int) -> list[Way]:
    """Those whose tiles are about as tall as the load of an expert, and half and twice that."""
    load = triton.next_power_of_2(-(-choices // experts))
    tallest = max(one.tile[0] for one in WAYS[size])
    most = min(tallest, max(LEAST, 2 * load))
    least = min(tallest, max(LEAST, load // 2))
    return [one for one in WAYS[size] if least <= one.tile[0] <= most]


def most_tiles(choices: int, experts: int, rows: int) -> int:
    """That so many choices can make, however they fall: each expert fills up one at most."""
    return choices // rows + min(experts, choices)


def padded(count: int, unit: int) -> int:
    """Up to a whole number of units."""
    return -(-count // unit) * unit


class Choices:
    """The choices of a call, sorted: of each token in their order, and all in the order of experts."""

    def __init__(self, x: Tensor, count: int, top: int) -> None:
        n, self.count, self.top = len(x), count, top
        self.n, self.width = n, triton.next_power_of_2(count)
        self.tokens = max(1, min(triton.next_power_of_2(n), TABLE // self.width))
        self.blocks = -(-n // self.tokens)
        self.experts, self.order = (x.new_empty(n * top, dtype=torch.int32) for _ in range(2))
        self.weights = x.new_empty(n * top, dtype=torch.float32)
        self.counts = x.new_empty(count * self.blocks, dtype=torch.int32)
        self.edges = x.new_zeros(count * self.blocks + 1, dtype=torch.int32)
        self.sizes = {"COUNT": count, "TOP": top, "WIDTH": self.width}
        self.holds = (self.experts, self.order, self.weights, self.counts, self.edges)
        self.nbytes = sum(one.nbytes for one in self.holds)

    def sort(self, logits: Tensor) -> None:
        how = {"TOKENS": self.tokens, **self.sizes}
        n, blocks = self.n, self.blocks
        choose[(blocks,)](logits, self.experts, self.weights, self.counts, n, blocks, **how)
        torch.cumsum(self.counts, 0, dtype=torch.int32, out=self.edges[1:])
        place[(blocks,)](self.experts, self.edges, self.order, n, blocks, **how)

    def launch(self, product, way: Way, outputs: int, *operands: Tensor, **how: int) -> None:
        """A program for each tile that there can be."""
        rows, columns, deep = way.tile
        tiles = most_tiles(self.n * self.top, self.count, rows)
        product[(tiles * -(-outputs // columns),)](
            *(self.edges, self.order, *operands, tiles, self.blocks),
            **{**self.sizes, **how},
            OUTPUTS=outputs,
            GROUP=GROUP,
            ROWS=rows,
            COLUMNS=columns,
            DEEP=deep,
            **way.options,
        )

    def add_up(self, said: Tensor, out: Tensor, weighed: bool = True) -> None:
        n, d = out.shape
        add_up[(n, -(-d // WIDE))](
            self.experts, self.weights, said, out, D=d, TOP=self.top, WIDE=WIDE, WEIGHED=weighed
        )

    def loads(self) -> Tensor:
        """Of the last call, how many choices each expert had."""
        return self.edges[:: self.blocks].diff().cpu()

    def executed(self, way: Way, outputs: int, inputs: int) -> int:
        """FLOPs of a product of the last call, tiles whole."""
        rows, columns, deep = way.tile
        whole = int((-(-self.loads() // rows)).sum()) * rows
        return whole * 2 * padded(outputs, columns) * padded(inputs, deep)


def prepare(route: Sparse, up: Tensor, down: Tensor, x: Tensor, logits: Tensor) -> Prepared:
    """Experts on tokens, for any route of as many choices."""
    (count, d, f), n, top = down.shape, len(x), most(route)
    choices, out = n * top, torch.empty_like(x)
    if not top:
        return Prepared(lambda x, logits: out.zero_(), 0, 0, 0, holds=(out,))
    chosen = Choices(x, count, top)
    hidden, said = x.new_empty(choices, f), x.new_empty(choices, d)

    def product(way: Way, source: Tensor, weight: Tensor, answer: Tensor) -> None:
        how = {"FROM_TOKENS": weight is up, "TO_CHOICES": weight is down, "GATED": weight is up}
        sizes = {"INPUTS": weight.shape[2], "TURNED": False}
        chosen.launch(multiply, way, answer.shape[1], source, weight, answer, **sizes, **how)

    def tuned(*operands: Tensor) -> Way:
        key = ("moe", x.dtype, operands[1].shape, operands[1] is up, n, top)
        there = ways(choices, count, x.element_size())
        return quickest(key, there, lambda way: product(way, *operands), x)

    chosen.sort(logits)
    enter = tuned(x, up, hidden)
    leave = tuned(hidden, down, said)

    def run(x: Tensor, logits: Tensor) -> Tensor:
        chosen.sort(logits)
        product(enter, x, up, hidden)
        product(leave, hidden, down, said)
        chosen.add_up(said, out)
        return out

    return Prepared(
        run,
        executed=lambda: 2 * chosen.executed(enter, f, d) + chosen.executed(leave, d, f),
        values=touched(route) * (up[0].nbytes + down[0].nbytes),
        metadata=chosen.nbytes,
        holds=(up, down, *chosen.holds, hidden, said, out),
        note={"enter": enter, "leave": leave},
    )
